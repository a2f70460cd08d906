"""A pickle assembler: opcodes by hand, so that a test can write what no pickler would."""

from __future__ import annotations

import pickle
import struct
from typing import Any


class Code(bytes):
    """Opcodes that push one object."""


def push(value: Any) -> Code:
    """Pushes plain data (or splices `Code`) with opcodes that every protocol's reader knows."""
    match value:
        case Code():
            return value
        case None:
            return Code(b"N")
        case bool():
            return Code(b"\x88" if value else b"\x89")
        case int():
            return push_int(value)
        case float():
            return Code(b"G" + struct.pack(">d", value))
        case str():
            text = value.encode("utf-8", "surrogatepass")
            return Code(b"X" + struct.pack("<I", len(text)) + text)
        case bytes():
            return Code(b"B" + struct.pack("<I", len(value)) + value)
        case tuple():
            return Code(b"(" + b"".join(map(push, value)) + b"t")
        case list():
            return Code(b"](" + b"".join(map(push, value)) + b"e")
        case dict():
            pairs = b"".join(push(key) + push(item) for key, item in value.items())
            return Code(b"}(" + pairs + b"u")
    raise TypeError(type(value))


def push_int(value: int) -> Code:
    """The number as BININT where it fits, else as LONG1 or LONG4 of its two's complement."""
    if -(2**31) <= value < 2**31:
        return Code(b"J" + struct.pack("<i", value))
    width = value.bit_length() // 8 + 1
    head = b"\x8a" + bytes([width]) if width < 256 else b"\x8b" + struct.pack("<i", width)
    return Code(head + value.to_bytes(width, "little", signed=True))


def push_text(value: Any) -> Code:
    """The same with protocol 0's text opcodes."""
    match value:
        case Code():
            return value
        case None:
            return Code(b"N")
        case bool():
            return Code(b"I01\n" if value else b"I00\n")
        case int():
            return Code(b"I%d\n" % value if abs(value) < 2**31 else b"L%dL\n" % value)
        case float():
            return Code(b"F%s\n" % repr(value).encode())
        case str():
            return Code(b"V" + value.encode("raw_unicode_escape") + b"\n")
        case tuple():
            return Code(b"(" + b"".join(map(push_text, value)) + b"t")
        case list():
            return Code(b"(l" + b"".join(push_text(item) + b"a" for item in value))
        case dict():
            return Code(b"(d" + b"".join(push_text(k) + push_text(v) + b"s" for k, v in value.items()))
    raise TypeError(type(value))


def by_global(module: str, name: str) -> Code:
    return Code(b"c" + module.encode() + b"\n" + name.encode() + b"\n")


def by_stack_global(module: Any, name: Any) -> Code:
    return Code(push(module) + push(name) + b"\x93")


def reduce(function: Code, args: Any = ()) -> Code:
    return Code(function + push(args) + b"R")


def call(module: str, name: str, *args: Any) -> Code:
    """GLOBAL, arguments, REDUCE: how nearly every object of a checkpoint is written."""
    return reduce(by_global(module, name), args)


def inst(module: str, name: str, *args: Any) -> Code:
    fields = b"".join(map(push, args))
    return Code(b"(" + fields + b"i" + module.encode() + b"\n" + name.encode() + b"\n")


def obj(cls: Code, *args: Any) -> Code:
    return Code(b"(" + cls + b"".join(map(push, args)) + b"o")


def newobj(cls: Code, args: Any = ()) -> Code:
    return Code(cls + push(args) + b"\x81")


def newobj_ex(cls: Code, args: Any = (), kwargs: Any = None) -> Code:
    return Code(cls + push(args) + push({} if kwargs is None else kwargs) + b"\x92")


def build(thing: Code, state: Any) -> Code:
    return Code(thing + push(state) + b"b")


def persistent(pid: Any) -> Code:
    return Code(push(pid) + b"Q")


def put(code: Code, index: int) -> Code:
    return Code(code + b"r" + struct.pack("<I", index))


def get(index: int) -> Code:
    return Code(b"j" + struct.pack("<I", index))


def long4(length: int, body: bytes = b"") -> Code:
    return Code(b"\x8b" + struct.pack("<i", length) + body)


def pickled(value: Any, protocol: int = 2) -> bytes:
    """A whole pickle: PROTO (from 2 on), the value, STOP."""
    header = b"\x80" + bytes([protocol]) if protocol >= 2 else b""
    return header + push(value) + pickle.STOP


def pickled_text(value: Any) -> bytes:
    """A whole pickle of protocol 0."""
    return push_text(value) + pickle.STOP


def storage(
    key: Any = "0",
    cls: Any = "FloatStorage",
    numel: Any = 4,
    location: Any = "cpu",
    extra: tuple[Any, ...] = (),
    module: str = "torch",
) -> Code:
    """A storage's persistent id and BINPERSID."""
    kind = cls if isinstance(cls, Code) else by_global(module, cls)
    return persistent(("storage", kind, key, location, numel, *extra))


def tensor(
    stored: Code | None = None,
    offset: Any = 0,
    size: Any = (4,),
    stride: Any = (1,),
    *,
    more: tuple[Any, ...] | None = None,
    function: str = "_rebuild_tensor_v2",
) -> Code:
    """A tensor as torch pickles it; the default one holds `containers.VALUES`."""
    hooks = (False, call("collections", "OrderedDict")) if more is None else more
    return call(
        "torch._utils", function, storage() if stored is None else stored, offset, size, stride, *hooks
    )
