"""A walk over a pickle's program that runs nothing of it: which names it asks for, and what it calls.

Unlike the machine that reads weights it never refuses: it follows the stack as far as texts, names and
calls go, takes everything else for a value without content, and goes on after what would stop a reader. So
it also sees what a program does before it breaks.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from wconv.formats.sources import Source

WINDOW = 1 << 20
"""Bytes of the program that are in memory at a time."""

MARGIN = 64 << 10
"""Bytes ahead that an opcode finds in the window; longer texts are read by themselves, or in part."""

SHOWN = 120
"""Characters of an argument that are kept."""

MOST_OPCODES = 30_000_000
"""Opcodes that are walked over in one pickle."""

MOST_CALLS = 20_000
"""Different calls that are kept of one pickle."""

NESTED = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")
"""How byte strings begin that are pickles or archives of some."""


@dataclass(frozen=True, slots=True)
class Value:
    """What lies on the stack: a text of it, and what it is if that matters.

    Attributes:
        kind: "name", "call", "mark", "text", or "" for all else.
        content: of a text the first 1,000 characters; of a name its dotted path.
    """

    text: str
    kind: str = ""
    content: str = ""


ANY = Value("…")
INNER_CLASS = re.compile(r"\(([^\W\d]\w*(?:\.\w+)*\.[A-Z]\w*), '([A-Z]\w*)'\)", re.ASCII)
MARK = Value("", "mark")


@dataclass(frozen=True, slots=True)
class Call:
    """A name that a pickle asks for.

    Attributes:
        path: the dotted path, as `os.system`.
        arguments: what it is called with, as text; None where it is only named.
        at: the byte of the file's pickle at which that stands.
    """

    path: str
    arguments: str | None
    at: int


@dataclass(slots=True)
class Walk:
    """What was found in one pickle.

    Attributes:
        calls: each different one once, in order.
        end: where the pickle ends in its source.
        broken: why it cannot be followed to its end; "" where it can.
        divergent: bytes at which frames overlap, or an argument crosses its frame's end: programs read on at
            different places then.
        nested: where byte strings lie that are pickles or archives themselves, and their sizes.
    """

    calls: list[Call] = field(default_factory=list)
    end: int = 0
    broken: str = ""
    nested: list[tuple[int, int]] = field(default_factory=list)
    divergent: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Step:
    """One opcode: where it stands, its name in `pickletools`, and its argument as text."""

    at: int
    name: str
    argument: str


def walk(source: Source, start: int = 0, each: Callable[[Step], None] | None = None) -> Walk:
    """Follows the pickle that begins at `start`.

    Args:
        each: is given every opcode, to be shown.
    """
    walker = _Walker(source)
    try:
        for step, argument in _steps(source, start, walker.found):
            if each is not None:
                each(step)
            walker.follow(step, argument)
            if step.name == "STOP":
                break
        else:
            walker.found.broken = walker.found.broken or "it has no end"
    except _BrokenError as error:
        walker.found.broken = str(error)
    return walker.found


class _BrokenError(Exception):
    """The program cannot be followed any further."""


_COUNTED = {
    "BINUNICODE": 4,
    "SHORT_BINUNICODE": 1,
    "BINUNICODE8": 8,
    "BINBYTES": 4,
    "SHORT_BINBYTES": 1,
    "BINBYTES8": 8,
    "BYTEARRAY8": 8,
    "BINSTRING": 4,
    "SHORT_BINSTRING": 1,
    "LONG1": 1,
    "LONG4": 4,
}
"""Opcodes whose argument has its length before it, in so many bytes."""

_FIXED = {"BININT": 4, "BININT1": 1, "BININT2": 2, "BINFLOAT": 8, "PROTO": 1, "FRAME": 8}
_FIXED |= {"BINGET": 1, "LONG_BINGET": 4, "BINPUT": 1, "LONG_BINPUT": 4, "EXT1": 1, "EXT2": 2, "EXT4": 4}
_LINES = {"INT": 1, "LONG": 1, "FLOAT": 1, "STRING": 1, "UNICODE": 1, "PERSID": 1, "GET": 1, "PUT": 1}
_LINES |= {"GLOBAL": 2, "INST": 2}
_TEXTS = frozenset({"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING"})
_TEXTS |= {"SHORT_BINSTRING"}
_BYTES = frozenset({"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "BINSTRING", "BINUNICODE"})


def _steps(source: Source, start: int, found: Walk) -> Iterator[tuple[Step, Any]]:
    """The opcodes from `start` on, each with its argument: a number, texts, or None."""
    base = at = start
    frame = 0
    data = b""
    for _ in range(MOST_OPCODES):
        if at - base + MARGIN > len(data):
            base, data = at, source.read(at, min(WINDOW, source.size - at))
        here = at - base
        if here >= len(data):
            return
        opcode = _BY_CODE.get(data[here])
        if opcode is None:
            raise _BrokenError(f"byte {at:,} is no opcode")
        name, here = opcode.name, here + 1
        argument: Any = None
        if name in _COUNTED:
            width = _COUNTED[name]
            count = int.from_bytes(data[here : here + width], "little")
            here += width
            if base + here + count > source.size:
                raise _BrokenError(f"a string at byte {at:,} ends beyond the file")
            head = data[here : here + min(count, 1000)]
            if count > 16 and name in _BYTES and head[:4].startswith(NESTED):
                found.nested.append((base + here, count))
            argument = head if name in _BYTES and name not in _TEXTS else _text(head)
            if name.startswith("LONG"):
                argument = int.from_bytes(head, "little", signed=True) if count <= 1000 else None
            here += count
        elif name in _FIXED:
            raw = data[here : here + _FIXED[name]]
            if len(raw) < _FIXED[name]:
                raise _BrokenError("it ends early")
            argument = int.from_bytes(raw, "little") if name != "BINFLOAT" else None
            here += _FIXED[name]
        elif name in _LINES:
            texts = []
            for _line in range(_LINES[name]):
                stop = data.find(b"\n", here)
                if stop < 0:
                    raise _BrokenError("a line has no end")
                texts.append(_text(data[here : min(stop, here + 1000)]))
                here = stop + 1
            argument = tuple(texts) if len(texts) > 1 else texts[0]
        found.end = base + here
        if at < frame and (frame < found.end or name == "FRAME"):
            found.divergent.append(at)
        if name == "FRAME":
            frame = found.end + int(argument)
        yield Step(at, name, _shown(argument)), argument
        at = base + here
    found.broken = f"it has more than {MOST_OPCODES:,} opcodes: the rest was not looked at"


class _Walker:
    """The stack, as far as it is known."""

    def __init__(self, source: Source) -> None:
        self.found = Walk()
        self._stack: list[Value] = []
        self._memo: dict[int, Value] = {}
        self._known: set[tuple[str, str | None]] = set()

    def follow(self, step: Step, argument: Any) -> None:
        name = step.name
        special = getattr(self, f"_{name.lower()}", None)
        if special is not None:
            special(step, argument)
        elif name in _TEXTS:
            text = argument.strip("'\"") if name == "STRING" else argument
            self._stack.append(Value(repr(text[:SHOWN]), "text", text))
        else:
            self._generic(name, argument)

    def _generic(self, name: str, argument: Any) -> None:
        """What an opcode takes off and puts on, by the table of the standard library."""
        opcode = _BY_NAME[name]
        before = opcode.stack_before
        taken: list[Value] = []
        if pickletools.markobject in before:
            taken = self._to_mark()
            before = before[: before.index(pickletools.markobject)]
        under = [self._take() for _ in before][::-1]
        if name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_TUPLE"):
            self._stack.append(_tuple(taken or under))
        elif name in ("LIST", "DICT", "FROZENSET"):
            self._stack.append(_tuple(taken))
        elif (
            under and opcode.stack_after and name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS")
        ):
            self._stack.append(under[0])
        else:
            shown = Value(_shown(argument)) if argument is not None else Value(_PLAIN.get(name, "…"))
            self._stack.extend(shown for _ in opcode.stack_after)

    def _take(self) -> Value:
        return self._stack.pop() if self._stack and self._stack[-1].kind != "mark" else ANY

    def _to_mark(self) -> list[Value]:
        taken: list[Value] = []
        while self._stack:
            value = self._stack.pop()
            if value.kind == "mark":
                break
            taken.append(value)
        return taken[::-1]

    def _mark(self, step: Step, argument: Any) -> None:
        self._stack.append(MARK)

    def _pop(self, step: Step, argument: Any) -> None:
        if self._stack:
            self._stack.pop()

    def _pop_mark(self, step: Step, argument: Any) -> None:
        self._to_mark()

    def _put(self, step: Step, argument: Any) -> None:
        number = argument if type(argument) is int else int(argument) if str(argument).isdigit() else -1
        self._memo[number] = self._stack[-1] if self._stack else ANY

    _binput = _long_binput = _put

    def _memoize(self, step: Step, argument: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1] if self._stack else ANY

    def _get(self, step: Step, argument: Any) -> None:
        number = argument if type(argument) is int else int(argument) if str(argument).isdigit() else -1
        self._stack.append(self._memo.get(number, ANY))

    _binget = _long_binget = _get

    def _dup(self, step: Step, argument: Any) -> None:
        self._stack.append(self._stack[-1] if self._stack else ANY)

    def _global(self, step: Step, argument: Any) -> None:
        self._name(".".join(argument), step)

    def _stack_global(self, step: Step, argument: Any) -> None:
        name, module = self._take(), self._take()
        texts = [one.content if one.kind == "text" else "?" for one in (module, name)]
        self._name(".".join(texts), step)

    def _inst(self, step: Step, argument: Any) -> None:
        self._called(Value(".".join(argument), "name", ".".join(argument)), _tuple(self._to_mark()), step)

    def _obj(self, step: Step, argument: Any) -> None:
        taken = self._to_mark()
        self._called(taken[0] if taken else ANY, _tuple(taken[1:]), step)

    def _reduce(self, step: Step, argument: Any) -> None:
        arguments, function = self._take(), self._take()
        self._called(function, arguments, step)

    _newobj = _reduce

    def _newobj_ex(self, step: Step, argument: Any) -> None:
        keywords, arguments, function = self._take(), self._take(), self._take()
        self._called(function, Value(f"{arguments.text[:SHOWN]} {keywords.text[:SHOWN]}"), step)

    def _ext1(self, step: Step, argument: Any) -> None:
        self._name(f"copyreg extension {argument}", step)

    _ext2 = _ext4 = _ext1

    def _name(self, path: str, step: Step) -> None:
        self._keep(path, None, step)
        self._stack.append(Value(path[:SHOWN], "name", path))

    def _called(self, function: Value, arguments: Value, step: Step) -> None:
        if function.kind in ("name", "call") and function.content:
            self._keep(function.content, arguments.text, step)
        inner = inner_class(function.content, arguments.text)
        if inner:
            self._stack.append(Value(inner, "name", inner))
            return
        text = f"{function.text}{arguments.text}"[: 2 * SHOWN]
        self._stack.append(Value(text, "call", function.content))

    def _keep(self, path: str, arguments: str | None, step: Step) -> None:
        key = (path, arguments)
        if key not in self._known and len(self._known) < MOST_CALLS:
            self._known.add(key)
            self.found.calls.append(Call(path, arguments, step.at))


_BY_CODE = {ord(opcode.code): opcode for opcode in pickletools.opcodes}

_BY_NAME = {opcode.name: opcode for opcode in pickletools.opcodes}

_PLAIN = {"NONE": "None", "NEWTRUE": "True", "NEWFALSE": "False", "EMPTY_DICT": "{}", "EMPTY_LIST": "[]"}


def inner_class(path: str, arguments: str | None) -> str:
    """The dotted path of a class that is taken out of another one by `getattr`; "" for any other call.

    Pickles of protocol 2 name classes so that lie in others, as torch's sharded tensors do.
    """
    if path not in ("__builtin__.getattr", "builtins.getattr"):
        return ""
    found = INNER_CLASS.fullmatch(arguments or "")
    return f"{found[1]}.{found[2]}" if found else ""


def _tuple(values: list[Value]) -> Value:
    text = ", ".join(value.text[:SHOWN] for value in values[:8])
    return Value(f"({text[: 2 * SHOWN]}{', …' if len(values) > 8 else ''})")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _shown(argument: Any) -> str:
    if argument is None:
        return ""
    if isinstance(argument, tuple):
        return " ".join(part[:SHOWN] for part in argument)
    return str(argument)[:SHOWN] if isinstance(argument, int) else repr(argument[:SHOWN])
