"""Small programs of pickles that would do harm, built by hand; nothing here is ever loaded."""

from __future__ import annotations

import pickle
import struct
from typing import Any


class Calls:
    """Pickled, it is a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self._call


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def stack_global(module: str, name: str, *arguments: str) -> bytes:
    """`module.name(*arguments)` in protocol 4."""
    parts = b"".join(text(one) for one in arguments)
    return b"\x80\x04" + text(module) + text(name) + b"\x93(" + parts + b"tR."


def old(module: str, name: str, argument: str) -> bytes:
    """The same in protocol 0."""
    return f"c{module}\n{name}\n(V{argument}\ntR.".encode()


def inst(module: str, name: str, argument: str) -> bytes:
    """The same by INST."""
    return f"(V{argument}\ni{module}\n{name}\n.".encode()


def obj(module: str, name: str, argument: str) -> bytes:
    """The same by OBJ."""
    return f"(c{module}\n{name}\nV{argument}\no.".encode()


def by_memo(module: str, name: str) -> bytes:
    """The names come out of the memo, in the other order, as a scanner that looks back would miss."""
    texts = text(name) + b"\x94" + b"0" + text(module) + b"\x94" + b"0"
    return b"\x80\x04" + texts + b"h\x01h\x00\x93)R."


def with_lying_frame() -> bytes:
    """A byte string that reaches beyond its frame, with a call in it that other readers would run."""
    hidden = b"cos\nsystem\nVx\n\x85R"
    return b"\x80\x05\x95" + struct.pack("<Q", 7) + b"B" + struct.pack("<I", len(hidden)) + hidden + b"."


def plain(value: Any, protocol: int = 4) -> bytes:
    return pickle.dumps(value, protocol=protocol)
