"""Stores of files elsewhere: one small interface, whose two methods a store of somebody's own has too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from wconv.errors import FormatError

SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://.", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class StoreFile:
    """What a store says of a file.

    Attributes:
        size: in bytes.
        identity: what tells its content from any other (an ETag, a generation); "" where there is nothing.
    """

    size: int
    identity: str


class ChangedError(FormatError):
    """A file is not the one any more that it was when it was opened."""


@runtime_checkable
class Store(Protocol):
    """Files that can be read by range. Its methods are called by several threads at a time.

    An `OSError` is asked again, a few times, but for `FileNotFoundError` and `PermissionError`. What is
    secret in an address belongs in no error.

    Example:
        >>> class Notes:
        ...     files = {"mine://box/notes.npy": b"..."}
        ...
        ...     def find(self, url):
        ...         return {"": StoreFile(len(self.files[url]), "1")}
        ...
        ...     def read(self, url, start, stop, identity):
        ...         return self.files[url][start:stop]
        >>> isinstance(Notes(), Store)
        True
    """

    def find(self, url: str) -> Mapping[str, StoreFile]:
        """The file at an address, by the name "", or all files below it by their paths from there.

        Raises:
            FileNotFoundError: there is nothing.
        """

    def read(self, url: str, start: int, stop: int, identity: str) -> bytes | bytearray | memoryview:
        """The bytes of a file from `start` to `stop`, which lie within it; fewer where the rest is to be
        asked for again.

        Raises:
            ChangedError: the file's identity is another by now.
            OSError: they cannot be had.
        """


def scheme_of(url: str) -> str:
    """The scheme of an address, in small letters; "" where it has none."""
    found = SCHEME.match(url)
    return found[1].lower() if found else ""
