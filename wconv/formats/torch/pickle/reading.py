"""What a caller may want of pickles beside plain data: names of its own, and the strings of Python 2."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


class OldText(bytes):
    """A string of Python 2, of which nothing says whether it is text or bytes, nor in which encoding."""

    __slots__ = ()


class Value:
    """A finished value of a name that the caller gave a meaning to.

    Attributes:
        plain: the Python number that hashes and compares as it does, which tells whether it is fit for a key.
    """

    __slots__ = ("plain", "value")

    def __init__(self, value: Any, plain: Any) -> None:
        self.value = value
        self.plain = plain


def text_or_bytes(data: Any) -> Any:
    """A Python 2 string as plain data; a long one stays in the file."""
    if type(data) is not bytes:
        return data
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        return data


@dataclass(frozen=True, slots=True)
class Reading:
    """How the pickles of one file are read.

    Attributes:
        names: constructors that go before those of the readers' table.
        all_bytes: strings of Python 2 stay `OldText` even where they are ASCII.
        long: those that were left in the file, by the identity of their `Source`.
    """

    names: Mapping[tuple[str, str], Any] = field(default_factory=dict)
    all_bytes: bool = False
    long: dict[int, Any] = field(default_factory=dict)

    def old_text(self, data: Any) -> Any:
        """What stands for a string of Python 2."""
        if not isinstance(data, bytes):
            self.long[id(data)] = data
            return data
        return OldText(data) if self.all_bytes or not data.isascii() else data.decode("ascii")


READING: contextvars.ContextVar[Reading | None] = contextvars.ContextVar("READING", default=None)
"""How pickles are read at the moment; None for as plain data."""


@contextlib.contextmanager
def reading(how: Reading | None) -> Iterator[None]:
    """Reads all pickles in the block so."""
    token = READING.set(how)
    try:
        yield
    finally:
        READING.reset(token)


def plain(value: Any) -> Any:
    """A persistent id or a key of a storage without `OldText`: those are ASCII in any encoding."""
    if type(value) is OldText:
        return value.decode("latin-1")
    if type(value) is tuple and any(type(part) is OldText for part in value):
        return tuple(plain(part) for part in value)
    return value


def with_plain_ids(persistent: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`persistent`, called with ids that are text."""
    return lambda pid: persistent(plain(pid))
