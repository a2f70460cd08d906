"""What each opcode of the pickle machine does: the allow-list of its contract."""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from wconv.errors import UnsafeError
from wconv.formats.torch.objects import Record
from wconv.formats.torch.pickle.contract import MARGIN, NUMBER_LIMIT, Constructor, Stop

if TYPE_CHECKING:
    from wconv.formats.torch.pickle.machine import Machine


def _spend(machine: Machine, count: int) -> None:
    """`Machine.charge`, without the call where it matters."""
    machine.budget -= count
    if machine.budget < 0:
        machine.charge(0)


def _fixed(push_format: str) -> Callable[[Machine, int], int]:
    """A handler for a number of fixed size."""
    number = struct.Struct(push_format)

    def handler(machine: Machine, at: int) -> int:
        machine.stack.append(number.unpack_from(machine.window, at)[0])
        _spend(machine, 32)
        return at + number.size

    return handler


def _constant(value: Any) -> Callable[[Machine, int], int]:
    def handler(machine: Machine, at: int) -> int:
        machine.stack.append(value)
        _spend(machine, 8)
        return at

    return handler


def _container(make: Callable[[], Any], cost: int) -> Callable[[Machine, int], int]:
    def handler(machine: Machine, at: int) -> int:
        machine.charge(cost)
        machine.stack.append(make())
        return at

    return handler


def _short_tuple(count: int) -> Callable[[Machine, int], int]:
    def handler(machine: Machine, at: int) -> int:
        stack = machine.stack
        if len(stack) < count:
            raise IndexError
        _spend(machine, 64)
        stack[-count:] = (tuple(stack[-count:]),)
        return at

    return handler


def _sized(width: int, push: Callable[[Machine, int, int], int]) -> Callable[[Machine, int], int]:
    """A handler for a string whose length comes first, in `width` bytes."""

    def handler(machine: Machine, at: int) -> int:
        head = machine.window[at : at + width]
        if len(head) != width:
            raise IndexError
        return push(machine, at + width, int.from_bytes(head, "little"))

    return handler


def _text(machine: Machine, at: int, count: int) -> int:
    if count >= MARGIN // 2:
        return machine.long_text(at, count)
    machine.stack.append(str(machine.take(at, count), "utf-8", "surrogatepass"))
    _spend(machine, 64 + count)
    return at + count


def _payload(machine: Machine, at: int, count: int) -> int:
    return machine.payload(at, count)


def _old_text(machine: Machine, at: int, count: int) -> int:
    """A Python 2 string: text where it is text, bytes where it is not."""
    at = machine.payload(at, count)
    _spend(machine, 64)
    machine.stack[-1] = machine.old_text(machine.stack[-1])
    return at


def from_python2(data: Any) -> Any:
    """A Python 2 string as plain data; a long one stays in the file."""
    if type(data) is not bytes:
        return data
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        return data


def _bytearray(machine: Machine, at: int, count: int) -> int:
    data = machine.take(at, count)
    machine.charge(56 + count)
    machine.stack.append(bytearray(data))
    return machine.skip(at, count)


def _long_integer(machine: Machine, at: int, count: int) -> int:
    if count > NUMBER_LIMIT:
        raise UnsafeError(f"{machine.source.where} holds an integer of {count:,} bytes: refused")
    machine.budget -= 32 + 2 * count
    machine.stack.append(int.from_bytes(machine.take(at, count), "little", signed=True))
    return at + count


def _frame(machine: Machine, at: int, count: int) -> int:
    if count > machine.source.size - machine.base - at:
        raise machine.damaged("a frame is longer than the file")
    return at


def _protocol(machine: Machine, at: int) -> int:
    if machine.window[at] > 5:
        raise machine.damaged(f"protocol {machine.window[at]} does not exist")
    return at + 1


def _stop(machine: Machine, at: int) -> int:
    if not machine.stack:
        raise IndexError
    machine.end = machine.base + at
    machine.program += at
    raise Stop


def _number_line(parse: Callable[[str], Any]) -> Callable[[Machine, int], int]:
    def handler(machine: Machine, at: int) -> int:
        text, at = machine.line(at)
        if len(text) > NUMBER_LIMIT:
            raise UnsafeError(f"{machine.source.where} holds a number of {len(text):,} digits: refused")
        machine.budget -= 32 + len(text)
        try:
            machine.stack.append(parse(text.decode("ascii")))
        except ValueError:
            raise machine.damaged("a number is not a number") from None
        return at

    return handler


def _int(text: str) -> Any:
    return {"00": False, "01": True}[text] if text in ("00", "01") else int(text)


def _long(text: str) -> int:
    return int(text.removesuffix("L"))


def _string(machine: Machine, at: int) -> int:
    text, at = machine.line(at)
    text = text.strip()
    if len(text) < 2 or text[0] != text[-1] or text[:1] not in (b"'", b'"'):
        raise machine.damaged("a string has no quotes")
    try:
        data, _ = codecs.escape_decode(text[1:-1])
    except ValueError:
        raise machine.damaged("a string has a wrong escape") from None
    machine.stack.append(machine.old_text(data))
    machine.budget -= 56 + len(data)
    return at


def _unicode(machine: Machine, at: int) -> int:
    text, at = machine.line(at)
    machine.budget -= 80 + 4 * len(text)
    machine.stack.append(codecs.raw_unicode_escape_decode(text)[0])
    return at


def _global(machine: Machine, at: int) -> int:
    module, at = machine.line(at)
    name, at = machine.line(at)
    machine.stack.append(machine.find(module.decode("utf-8"), name.decode("utf-8")))
    return at


def _stack_global(machine: Machine, at: int) -> int:
    name, module = machine.stack.pop(), machine.stack.pop()
    if type(name) is not str or type(module) is not str:
        raise machine.damaged("a name is not text")
    machine.stack.append(machine.find(module, name))
    return at


def _instance(machine: Machine, at: int) -> int:
    module, at = machine.line(at)
    name, at = machine.line(at)
    args = tuple(machine.pop_mark())
    machine.stack.append(machine.construct(machine.find(module.decode("utf-8"), name.decode("utf-8")), args))
    return at


def _object(machine: Machine, at: int) -> int:
    items = machine.pop_mark()
    machine.stack.append(machine.construct(items[0], tuple(items[1:])))
    return at


def _new_object(machine: Machine, at: int) -> int:
    args, kind = machine.stack.pop(), machine.stack.pop()
    machine.stack.append(machine.construct(kind, args))
    return at


def _new_object_named(machine: Machine, at: int) -> int:
    named, args, kind = machine.stack.pop(), machine.stack.pop(), machine.stack.pop()
    if type(kind) is Constructor and not named:
        machine.stack.append(machine.construct(kind, args))
    else:
        if machine.wary:
            given = named.values() if isinstance(named, dict) else ()
            machine.check_call(kind, (*args, *given) if type(args) is tuple else (*given,))
        machine.charge(400)
        machine.stack.append(Record(kind, (args, named)))
    return at


def _build(machine: Machine, at: int) -> int:
    state = machine.stack.pop()
    machine.build(machine.stack[-1], state)
    return at


def _persistent(machine: Machine, pid: Any) -> None:
    if machine.persistent is None:
        raise machine.damaged("it refers to tensors outside of it, which a plain pickle has not")
    machine.stack.append(machine.persistent(pid))


def _persistent_line(machine: Machine, at: int) -> int:
    text, at = machine.line(at)
    _persistent(machine, text.decode("ascii"))
    return at


def _persistent_binary(machine: Machine, at: int) -> int:
    _persistent(machine, machine.stack.pop())
    return at


def _put_line(machine: Machine, at: int) -> int:
    text, at = machine.line(at)
    machine.put(_index(machine, text), at)
    return at


def _get_line(machine: Machine, at: int) -> int:
    text, at = machine.line(at)
    machine.get(_index(machine, text))
    return at


def _index(machine: Machine, text: bytes) -> int:
    if len(text) > 20 or not text.isdigit():
        raise machine.damaged("a memo index is no number")
    return int(text)


def _long_get(machine: Machine, at: int) -> int:
    machine.get(int.from_bytes(machine.window[at : at + 4], "little"))
    return at + 4


def _memoize(machine: Machine, at: int) -> int:
    _spend(machine, 8)
    machine.memo.append(machine.stack[-1])
    return at


def _set_item(machine: Machine, at: int) -> int:
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.set_items(machine.stack[-1], [key, value])
    return at


def _set_items(machine: Machine, at: int) -> int:
    items = machine.pop_mark()
    machine.set_items(machine.stack[-1], items)
    return at


def _append(machine: Machine, at: int) -> int:
    value = machine.stack.pop()
    machine.extend(machine.stack[-1], [value])
    return at


def _extend(machine: Machine, at: int) -> int:
    items = machine.pop_mark()
    machine.extend(machine.stack[-1], items)
    return at


def _dict(machine: Machine, at: int) -> int:
    items = machine.pop_mark()
    machine.charge(64)
    machine.stack.append({})
    machine.set_items(machine.stack[-1], items)
    return at


def _list(machine: Machine, at: int) -> int:
    items = machine.pop_mark()
    machine.charge(56 + 8 * len(items))
    machine.stack.append(items)
    return at


def _frozenset(machine: Machine, at: int) -> int:
    items = machine.pop_mark()
    machine.stack.append(machine.frozen(items))
    return at


def _pop(machine: Machine, at: int) -> int:
    # as in Python's own: popping right above a mark removes the mark
    if machine.marks and machine.marks[-1] == len(machine.stack):
        machine.marks.pop()
    else:
        machine.stack.pop()
    return at


def _pop_to_mark(machine: Machine, at: int) -> int:
    machine.pop_mark()
    return at


def _duplicate(machine: Machine, at: int) -> int:
    machine.stack.append(machine.stack[-1])
    return at


def _refused(machine: Machine, at: int) -> int:
    code = machine.window[at - 1]
    if code in (0x82, 0x83, 0x84):
        raise UnsafeError(
            f"{machine.source.where} uses pickle's extension registry, which no weights need: refused"
        )
    if code in (0x97, 0x98):
        raise machine.damaged("its buffers are kept elsewhere (out-of-band)")
    raise machine.damaged(f"opcode 0x{code:02x} at byte {machine.base + at - 1:,} does not exist")


_TABLE: dict[bytes, Callable[[Machine, int], int]] = {
    b"\x80": _protocol,
    b"\x95": _sized(8, _frame),
    b".": _stop,
    b"N": _constant(None),
    b"\x88": _constant(True),
    b"\x89": _constant(False),
    b"J": _fixed("<i"),
    b"M": _fixed("<H"),
    b"G": _fixed(">d"),
    b"\x8a": _sized(1, _long_integer),
    b"\x8b": _sized(4, _long_integer),
    b"I": _number_line(_int),
    b"L": _number_line(_long),
    b"F": _number_line(float),
    b"S": _string,
    b"V": _unicode,
    b"U": _sized(1, _old_text),
    b"T": _sized(4, _old_text),
    b"\x8c": _sized(1, _text),
    b"\x8d": _sized(8, _text),
    b"C": _sized(1, _payload),
    b"B": _sized(4, _payload),
    b"\x8e": _sized(8, _payload),
    b"\x96": _sized(8, _bytearray),
    b")": _constant(()),
    b"]": _container(list, 56),
    b"}": _container(dict, 64),
    b"\x8f": _container(set, 216),
    b"\x85": _short_tuple(1),
    b"\x86": _short_tuple(2),
    b"\x87": _short_tuple(3),
    b"l": _list,
    b"d": _dict,
    b"\x91": _frozenset,
    b"a": _append,
    b"e": _extend,
    b"\x90": _extend,
    b"s": _set_item,
    b"u": _set_items,
    b"0": _pop,
    b"1": _pop_to_mark,
    b"2": _duplicate,
    b"p": _put_line,
    b"\x94": _memoize,
    b"g": _get_line,
    b"j": _long_get,
    b"c": _global,
    b"\x93": _stack_global,
    b"i": _instance,
    b"o": _object,
    b"\x81": _new_object,
    b"\x92": _new_object_named,
    b"b": _build,
    b"P": _persistent_line,
    b"Q": _persistent_binary,
}

HANDLERS: list[Callable[[Machine, int], int]] = [_TABLE.get(bytes([code]), _refused) for code in range(256)]
"""What an opcode does that the loop does not do itself: takes the place after it, returns the next one's."""
