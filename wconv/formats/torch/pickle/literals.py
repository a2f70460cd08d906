"""The opcodes that push a value which stands in the pickle itself: numbers, texts, byte strings."""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable
from typing import Any

from wconv.errors import UnsafeError
from wconv.formats.torch.pickle.contract import MARGIN, NUMBER_LIMIT
from wconv.formats.torch.pickle.state import MachineState


def spend(machine: MachineState, count: int) -> None:
    """`Machine.charge`, without the call where it matters."""
    machine.budget -= count
    if machine.budget < 0:
        machine.charge(0)


def fixed(push_format: str) -> Callable[[MachineState, int], int]:
    """A handler for a number of fixed size."""
    number = struct.Struct(push_format)

    def handler(machine: MachineState, at: int) -> int:
        machine.stack.append(number.unpack_from(machine.window, at)[0])
        spend(machine, 32)
        return at + number.size

    return handler


def constant(value: Any) -> Callable[[MachineState, int], int]:
    """A handler that pushes one value."""

    def handler(machine: MachineState, at: int) -> int:
        machine.stack.append(value)
        spend(machine, 8)
        return at

    return handler


def sized(width: int, push: Callable[[MachineState, int, int], int]) -> Callable[[MachineState, int], int]:
    """A handler for a string whose length comes first, in `width` bytes."""

    def handler(machine: MachineState, at: int) -> int:
        head = machine.window[at : at + width]
        if len(head) != width:
            raise IndexError
        return push(machine, at + width, int.from_bytes(head, "little"))

    return handler


def binunicode(machine: MachineState, at: int, count: int) -> int:
    """Pushes a text of so many bytes."""
    if count >= MARGIN // 2:
        return machine.long_text(at, count)
    machine.stack.append(str(machine.take(at, count), "utf-8", "surrogatepass"))
    spend(machine, 64 + count)
    return at + count


def binbytes(machine: MachineState, at: int, count: int) -> int:
    """Pushes a byte string, which may stay in the file."""
    return machine.payload(at, count)


def binstring(machine: MachineState, at: int, count: int) -> int:
    """A Python 2 string: text where it is text, bytes where it is not."""
    at = machine.payload(at, count)
    spend(machine, 64)
    machine.stack[-1] = machine.old_text(machine.stack[-1])
    return at


def bytearray8(machine: MachineState, at: int, count: int) -> int:
    """Pushes a `bytearray`."""
    data = machine.take(at, count)
    machine.charge(56 + count)
    machine.stack.append(bytearray(data))
    return machine.skip(at, count)


def binlong(machine: MachineState, at: int, count: int) -> int:
    """Pushes an integer of so many bytes, little-endian."""
    if count > NUMBER_LIMIT:
        raise UnsafeError(f"{machine.source.where} holds an integer of {count:,} bytes: refused")
    machine.budget -= 32 + 2 * count
    machine.stack.append(int.from_bytes(machine.take(at, count), "little", signed=True))
    return at + count


def number_line(parse: Callable[[str], Any]) -> Callable[[MachineState, int], int]:
    """A handler for a number that is written out, up to the end of the line."""

    def handler(machine: MachineState, at: int) -> int:
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


def int_or_bool(text: str) -> Any:
    """Protocol 0 writes booleans as the integers 00 and 01."""
    return {"00": False, "01": True}[text] if text in ("00", "01") else int(text)


def long_integer(text: str) -> int:
    """Protocol 0 writes an L behind long integers."""
    return int(text.removesuffix("L"))


def string(machine: MachineState, at: int) -> int:
    """Pushes a Python 2 string that is written out in quotes."""
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


def unicode(machine: MachineState, at: int) -> int:
    """Pushes a text that is written out, up to the end of the line."""
    text, at = machine.line(at)
    machine.budget -= 80 + 4 * len(text)
    machine.stack.append(codecs.raw_unicode_escape_decode(text)[0])
    return at
