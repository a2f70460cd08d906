"""Stores of files elsewhere: one small interface, and who answers for which scheme of an address.

A store of somebody's own is one class with two methods. `register` makes it known to this process; an entry
point `wconv.stores` of an installed package, called as the scheme, makes it known to the command too. What
nobody registered is asked of fsspec.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from wconv.errors import FormatError

SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://.", re.ASCII | re.IGNORECASE)

ENTRY_POINTS = "wconv.stores"
"""The group of entry points: the name is the scheme, the value a class that is called without arguments."""


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


_registered: dict[str, Store] = {}


def register(scheme: str, store: Store) -> None:
    """Makes a store answer for all addresses `scheme://…` in this process.

    Raises:
        ValueError: the scheme is none, or wconv's own.
    """
    if not SCHEME.fullmatch(f"{scheme}://x") or scheme.lower() in ("http", "https", "hf", "file"):
        raise ValueError(f"{scheme!r:.60} is not a scheme that a store can have")
    _registered[scheme.lower()] = store


def scheme_of(url: str) -> str:
    """The scheme of an address, in small letters; "" where it has none."""
    found = SCHEME.match(url)
    return found[1].lower() if found else ""


def store_of(url: str) -> Store:
    """The store that answers for an address.

    Raises:
        FormatError: none does.
        WconvError: what it needs is not installed.
    """
    scheme = scheme_of(url)
    found = _registered.get(scheme)
    if found is None:
        found = _registered[scheme] = _of_package(scheme) or _of_fsspec(scheme)
    return found


def _of_package(scheme: str) -> Store | None:
    from importlib.metadata import entry_points

    for point in entry_points(group=ENTRY_POINTS, name=scheme):
        made: Store = point.load()()
        return made
    return None


def _of_fsspec(scheme: str) -> Store:
    from wconv.stores.fsspec_store import FsspecStore

    return FsspecStore(scheme)
