"""What each opcode of the pickle machine does: the allow-list of its contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wconv.errors import UnsafeError
from wconv.formats.torch.objects import Record
from wconv.formats.torch.pickle import codes
from wconv.formats.torch.pickle.literals import (
    binbytes,
    binlong,
    binstring,
    binunicode,
    bytearray8,
    constant,
    fixed,
    int_or_bool,
    long_integer,
    number_line,
    sized,
    spend,
    string,
    unicode,
)
from wconv.formats.torch.pickle.state import Constructor, MachineState, PickleEnd


def _container(make: Callable[[], Any], cost: int) -> Callable[[MachineState, int], int]:
    def handler(machine: MachineState, at: int) -> int:
        machine.charge(cost)
        machine.stack.append(make())
        return at

    return handler


def _tuple(count: int) -> Callable[[MachineState, int], int]:
    def handler(machine: MachineState, at: int) -> int:
        stack = machine.stack
        if len(stack) < count:
            raise IndexError
        spend(machine, 64)
        stack[-count:] = (tuple(stack[-count:]),)
        return at

    return handler


def _frame(machine: MachineState, at: int, count: int) -> int:
    if count > machine.source.size - machine.base - at:
        raise machine.damaged("a frame is longer than the file")
    return at


def _proto(machine: MachineState, at: int) -> int:
    if machine.window[at] > 5:
        raise machine.damaged(f"protocol {machine.window[at]} does not exist")
    return at + 1


def _stop(machine: MachineState, at: int) -> int:
    if not machine.stack:
        raise IndexError
    machine.end = machine.base + at
    machine.program += at
    raise PickleEnd


def _global(machine: MachineState, at: int) -> int:
    module, at = machine.line(at)
    name, at = machine.line(at)
    machine.stack.append(machine.find(module.decode("utf-8"), name.decode("utf-8")))
    return at


def _stack_global(machine: MachineState, at: int) -> int:
    name, module = machine.stack.pop(), machine.stack.pop()
    if type(name) is not str or type(module) is not str:
        raise machine.damaged("a name is not text")
    machine.stack.append(machine.find(module, name))
    return at


def _inst(machine: MachineState, at: int) -> int:
    module, at = machine.line(at)
    name, at = machine.line(at)
    args = tuple(machine.pop_mark())
    machine.stack.append(machine.construct(machine.find(module.decode("utf-8"), name.decode("utf-8")), args))
    return at


def _obj(machine: MachineState, at: int) -> int:
    items = machine.pop_mark()
    machine.stack.append(machine.construct(items[0], tuple(items[1:])))
    return at


def _newobj(machine: MachineState, at: int) -> int:
    args, cls = machine.stack.pop(), machine.stack.pop()
    machine.stack.append(machine.construct(cls, args))
    return at


def _newobj_ex(machine: MachineState, at: int) -> int:
    named, args, cls = machine.stack.pop(), machine.stack.pop(), machine.stack.pop()
    if type(cls) is Constructor and not named:
        machine.stack.append(machine.construct(cls, args))
    else:
        if machine.wary:
            arguments = named.values() if isinstance(named, dict) else ()
            machine.check_call(cls, (*args, *arguments) if type(args) is tuple else (*arguments,))
        machine.charge(400)
        machine.stack.append(Record(cls, (args, named)))
    return at


def _build(machine: MachineState, at: int) -> int:
    state = machine.stack.pop()
    machine.build(machine.stack[-1], state)
    return at


def _persistent(machine: MachineState, pid: Any) -> None:
    if machine.persistent is None:
        raise machine.damaged("it refers to tensors outside of it, which a plain pickle has not")
    machine.stack.append(machine.persistent(pid))


def _persid(machine: MachineState, at: int) -> int:
    text, at = machine.line(at)
    _persistent(machine, text.decode("ascii"))
    return at


def _binpersid(machine: MachineState, at: int) -> int:
    _persistent(machine, machine.stack.pop())
    return at


def _put(machine: MachineState, at: int) -> int:
    text, at = machine.line(at)
    machine.put(_index(machine, text), at)
    return at


def _get(machine: MachineState, at: int) -> int:
    text, at = machine.line(at)
    machine.get(_index(machine, text))
    return at


def _index(machine: MachineState, text: bytes) -> int:
    if len(text) > 20 or not text.isdigit():
        raise machine.damaged("a memo index is no number")
    return int(text)


def _long_binget(machine: MachineState, at: int) -> int:
    machine.get(int.from_bytes(machine.window[at : at + 4], "little"))
    return at + 4


def _memoize(machine: MachineState, at: int) -> int:
    spend(machine, 8)
    machine.memo.append(machine.stack[-1])
    return at


def _setitem(machine: MachineState, at: int) -> int:
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.set_items(machine.stack[-1], [key, value])
    return at


def _setitems(machine: MachineState, at: int) -> int:
    items = machine.pop_mark()
    machine.set_items(machine.stack[-1], items)
    return at


def _append(machine: MachineState, at: int) -> int:
    value = machine.stack.pop()
    machine.extend(machine.stack[-1], [value])
    return at


def _appends(machine: MachineState, at: int) -> int:
    items = machine.pop_mark()
    machine.extend(machine.stack[-1], items)
    return at


def _dict(machine: MachineState, at: int) -> int:
    items = machine.pop_mark()
    machine.charge(64)
    machine.stack.append({})
    machine.set_items(machine.stack[-1], items)
    return at


def _list(machine: MachineState, at: int) -> int:
    items = machine.pop_mark()
    machine.charge(56 + 8 * len(items))
    machine.stack.append(items)
    return at


def _frozenset(machine: MachineState, at: int) -> int:
    items = machine.pop_mark()
    machine.stack.append(machine.frozen(items))
    return at


def _pop(machine: MachineState, at: int) -> int:
    # as in Python's own: popping right above a mark removes the mark
    if machine.marks and machine.marks[-1] == len(machine.stack):
        machine.marks.pop()
    else:
        machine.stack.pop()
    return at


def _pop_mark(machine: MachineState, at: int) -> int:
    machine.pop_mark()
    return at


def _dup(machine: MachineState, at: int) -> int:
    machine.stack.append(machine.stack[-1])
    return at


def _refused(machine: MachineState, at: int) -> int:
    code = machine.window[at - 1]
    if code in (codes.EXT1, codes.EXT2, codes.EXT4):
        raise UnsafeError(
            f"{machine.source.where} uses pickle's extension registry, which no weights need: refused"
        )
    if code in (codes.NEXT_BUFFER, codes.READONLY_BUFFER):
        raise machine.damaged("its buffers are kept elsewhere (out-of-band)")
    raise machine.damaged(f"opcode 0x{code:02x} at byte {machine.base + at - 1:,} does not exist")


_TABLE: dict[int, Callable[[MachineState, int], int]] = {
    codes.PROTO: _proto,
    codes.FRAME: sized(8, _frame),
    codes.STOP: _stop,
    codes.NONE: constant(None),
    codes.NEWTRUE: constant(True),
    codes.NEWFALSE: constant(False),
    codes.BININT: fixed("<i"),
    codes.BININT2: fixed("<H"),
    codes.BINFLOAT: fixed(">d"),
    codes.LONG1: sized(1, binlong),
    codes.LONG4: sized(4, binlong),
    codes.INT: number_line(int_or_bool),
    codes.LONG: number_line(long_integer),
    codes.FLOAT: number_line(float),
    codes.STRING: string,
    codes.UNICODE: unicode,
    codes.SHORT_BINSTRING: sized(1, binstring),
    codes.BINSTRING: sized(4, binstring),
    codes.SHORT_BINUNICODE: sized(1, binunicode),
    codes.BINUNICODE8: sized(8, binunicode),
    codes.SHORT_BINBYTES: sized(1, binbytes),
    codes.BINBYTES: sized(4, binbytes),
    codes.BINBYTES8: sized(8, binbytes),
    codes.BYTEARRAY8: sized(8, bytearray8),
    codes.EMPTY_TUPLE: constant(()),
    codes.EMPTY_LIST: _container(list, 56),
    codes.EMPTY_DICT: _container(dict, 64),
    codes.EMPTY_SET: _container(set, 216),
    codes.TUPLE1: _tuple(1),
    codes.TUPLE2: _tuple(2),
    codes.TUPLE3: _tuple(3),
    codes.LIST: _list,
    codes.DICT: _dict,
    codes.FROZENSET: _frozenset,
    codes.APPEND: _append,
    codes.APPENDS: _appends,
    codes.ADDITEMS: _appends,
    codes.SETITEM: _setitem,
    codes.SETITEMS: _setitems,
    codes.POP: _pop,
    codes.POP_MARK: _pop_mark,
    codes.DUP: _dup,
    codes.PUT: _put,
    codes.MEMOIZE: _memoize,
    codes.GET: _get,
    codes.LONG_BINGET: _long_binget,
    codes.GLOBAL: _global,
    codes.STACK_GLOBAL: _stack_global,
    codes.INST: _inst,
    codes.OBJ: _obj,
    codes.NEWOBJ: _newobj,
    codes.NEWOBJ_EX: _newobj_ex,
    codes.BUILD: _build,
    codes.PERSID: _persid,
    codes.BINPERSID: _binpersid,
}

HANDLERS: list[Callable[[MachineState, int], int]] = [_TABLE.get(code, _refused) for code in range(256)]
"""What an opcode does that the loop does not do itself: takes the place after it, returns the next one's."""
