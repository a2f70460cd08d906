"""A pickle writer for plain data and tensors: protocol 2, in the opcodes and names that torch itself writes.

It writes dicts, lists, tuples, strings, bytes, numbers, booleans and None, and what `torch_write` describes;
any other object is refused by name. What it writes loads with `torch.load(weights_only=True)`.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from wconv.errors import OutputError

DEPTH_LIMIT = 200
"""Containers within containers; torch's own reader gives up at about a thousand."""


class Name:
    """A class or function by name, for the reader to look up."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name


class Call:
    """`function(*args)`, for the reader to make."""

    __slots__ = ("args", "function")

    def __init__(self, function: Name, *args: Any) -> None:
        self.function = function
        self.args = args


class Unique:
    """A string that is written once, so that it need not be found again."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class Built:
    """`call`, whose result is then given a state."""

    __slots__ = ("call", "state")

    def __init__(self, call: Call, state: Any) -> None:
        self.call = call
        self.state = state


class Persistent:
    """What lies outside of the pickle; `key` is the tuple that the reader finds it by."""

    __slots__ = ("key",)

    def __init__(self, *key: Any) -> None:
        self.key = key


class PickleWriter:
    """Turns one object into a pickle.

    Args:
        describe: turns an object that the writer does not know into one that it does (a `Call`, a `Name`),
            or returns it unchanged to have it refused.
    """

    def __init__(self, describe: Callable[[Any], Any]) -> None:
        self._describe = describe
        self._out = bytearray()
        self._memo: dict[Any, int] = {}
        self._count = 0
        self._kept: list[Any] = []  # ids in the memo stay valid while their objects live
        self._depth = 0
        self._passing = False
        """Within what was described: tuples that nothing else holds, numbered but not remembered."""

    def dump(self, root: Any) -> bytes:
        """The pickle of `root`.

        Raises:
            OutputError: it holds something that has no place in a checkpoint, or is nested too deeply.
        """
        self._out += b"\x80\x02"
        self._save(root)
        self._out += b"."
        self._memo.clear()
        self._kept.clear()
        return bytes(self._out)

    def _save(self, value: Any) -> None:
        if self._get(id(value)):
            return
        write = WRITERS.get(type(value))
        if write is None:
            described = self._describe(value)
            write = WRITERS.get(type(described))
            if write is None:
                raise OutputError(
                    f"an object of {type(value).__module__}.{type(value).__name__} cannot be saved"
                )
            outer, self._passing = self._passing, True
            write(self, described)
            self._passing = outer
            self._put(id(value), value)
            return
        self._depth += 1
        if self._depth > DEPTH_LIMIT:
            raise OutputError(f"the object to be saved is nested more than {DEPTH_LIMIT} deep")
        write(self, value)
        self._depth -= 1

    def _get(self, key: Any) -> bool:
        """Writes a reference to what was written before; False where nothing was."""
        at = self._memo.get(key)
        if at is None:
            return False
        self._out += b"h%c" % at if at < 256 else b"j" + struct.pack("<I", at)
        return True

    def _put(self, key: Any, value: Any = None) -> None:
        """Numbers what was just written, and remembers it; a `key` of None is not."""
        at = self._count
        self._count += 1
        if key is not None:
            self._memo[key] = at
        if value is not None:
            self._kept.append(value)
        self._out += b"q%c" % at if at < 256 else b"r" + struct.pack("<I", at)

    def none(self, value: None) -> None:
        """Writes None."""
        self._out += b"N"

    def boolean(self, value: bool) -> None:
        """Writes True or False."""
        self._out += b"\x88" if value else b"\x89"

    def integer(self, value: int) -> None:
        """Writes an integer in the fewest bytes."""
        if 0 <= value < 256:
            self._out += b"K%c" % value
        elif 0 <= value < 65536:
            self._out += b"M" + struct.pack("<H", value)
        elif -(2**31) <= value < 2**31:
            self._out += b"J" + struct.pack("<i", value)
        else:
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            if len(data) > 255:
                raise OutputError("an integer of more than 2040 bits cannot be saved")
            self._out += b"\x8a%c" % len(data) + data

    def floating(self, value: float) -> None:
        """Writes a float in 8 bytes."""
        self._out += b"G" + struct.pack(">d", value)

    def string(self, value: str) -> None:
        """Writes a text, or a reference to the same one before."""
        if self._get(value):
            return
        self._text(value)
        self._put(value)

    def unique(self, value: Unique) -> None:
        """Writes a text that nothing refers to again."""
        self._text(value.text)
        self._put(None)

    def _text(self, value: str) -> None:
        data = value.encode("utf-8", "surrogatepass")
        self._out += b"X" + struct.pack("<I", len(data)) + data

    def binary(self, value: bytes) -> None:
        """Protocol 2 has no bytes: they go as latin-1 text through `_codecs.encode`, as in Python's."""
        self.call(Call(Name("_codecs", "encode"), value.decode("latin-1"), "latin1"))
        self._put(id(value), value)

    def sequence(self, value: tuple[Any, ...]) -> None:
        """Writes a tuple."""
        if not value:
            self._out += b")"
            return
        if len(value) > 3:
            self._out += b"("
        for entry in value:
            self._save(entry)
        if self._get_after_members(value):
            return
        self._out += (b"\x85", b"\x86", b"\x87", b"t")[min(len(value), 4) - 1]
        if self._passing:
            self._put(None)
        else:
            self._put(id(value), value)

    def _get_after_members(self, value: tuple[Any, ...]) -> bool:
        """A tuple that holds itself through a list was written while its members were."""
        if id(value) not in self._memo:
            return False
        self._out += b"1" if len(value) > 3 else b"0" * len(value)
        return self._get(id(value))

    def array(self, value: list[Any]) -> None:
        """Writes a list."""
        self._out += b"]"
        self._put(id(value), value)
        if value:
            self._out += b"("
            for entry in value:
                self._save(entry)
            self._out += b"e"

    def mapping(self, value: dict[Any, Any]) -> None:
        """Writes a dict."""
        self._out += b"}"
        self._put(id(value), value)
        self._items(value)

    def ordered(self, value: OrderedDict[Any, Any]) -> None:
        """An `OrderedDict`, with the attributes that were set on it (a state dict's `_metadata`)."""
        self.call(Call(Name("collections", "OrderedDict")))
        self._put(id(value), value)
        self._items(value)
        if value.__dict__:
            self._save(value.__dict__)
            self._out += b"b"

    def _items(self, value: dict[Any, Any]) -> None:
        if value:
            self._out += b"("
            for key, entry in value.items():
                self._save(key)
                self._save(entry)
            self._out += b"u"

    def name(self, value: Name) -> None:
        """Writes a class or function by its module and name."""
        key = (value.module, value.name)
        if not self._get(key):
            self._out += f"c{value.module}\n{value.name}\n".encode()
            self._put(key)

    def call(self, value: Call) -> None:
        """Writes a call and its arguments."""
        self.name(value.function)
        self._save(value.args)
        self._out += b"R"

    def built(self, value: Built) -> None:
        """Writes a call and the state that its result is given."""
        self.call(value.call)
        self._put(id(value), value)
        self._save(value.state)
        self._out += b"b"

    def persistent(self, value: Persistent) -> None:
        """Writes a reference to something outside of the pickle."""
        self._save(value.key)
        self._out += b"Q"


WRITERS: dict[type, Callable[[PickleWriter, Any], None]] = {
    type(None): PickleWriter.none,
    bool: PickleWriter.boolean,
    int: PickleWriter.integer,
    float: PickleWriter.floating,
    str: PickleWriter.string,
    Unique: PickleWriter.unique,
    bytes: PickleWriter.binary,
    tuple: PickleWriter.sequence,
    list: PickleWriter.array,
    dict: PickleWriter.mapping,
    OrderedDict: PickleWriter.ordered,
    Name: PickleWriter.name,
    Call: PickleWriter.call,
    Built: PickleWriter.built,
    Persistent: PickleWriter.persistent,
}
