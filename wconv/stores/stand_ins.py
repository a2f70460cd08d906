"""Files of a directory on this machine that stand for others elsewhere.

A model of the hub becomes a temporary directory whose files have the right names and, for content, a
sentence. Whatever reads one through `files` reads the file that it stands for; no other program, and no other
run, takes it for that. So nothing else needs to know where a model is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wconv import errors
from wconv.errors import UnsafeError


@dataclass(frozen=True, slots=True)
class Remote:
    """A file elsewhere.

    Attributes:
        url: where it is.
        etag: what tells its content from any other; "" where the server gives nothing.
        size: in bytes.
        name: what it is called in messages; no secrets.
        linked: the identity is what the first server says, whatever those say that it redirects to.
        local: a copy of it on this machine; "" without.
        keep: where in the hub's cache its content is to stay; "" where it is not.
        snapshot: the link to it that the cache has then.
    """

    url: str
    etag: str
    size: int
    name: str
    linked: bool = False
    local: str = ""
    keep: str = ""
    snapshot: str = ""

    @property
    def stamp(self) -> tuple[int | str, ...]:
        """What tells it from any other."""
        return self.etag, self.size


_known: dict[str, Remote] = {}
_homes: list[str] = []


def find(path: str) -> Remote | None:
    """What the file at `path` stands for; None where it is itself."""
    return _known.get(path) if _known else None


def in_use() -> bool:
    """Whether any file stands for another one."""
    return bool(_known)


def below(place: str) -> list[Remote]:
    """What a file, or all files of a directory, stand for."""
    return [remote for path, remote in _known.items() if path == place or path.startswith(f"{place}/")]


def is_within(path: Path) -> bool:
    """Whether a file or directory is one of those that stand for others."""
    return bool(_known) and any(str(path).startswith(home) for home in _homes)


def make_directory(name: str, files: Mapping[str, Remote], called: str) -> Path:
    """A temporary directory `name` of stand-ins, which is there until the program ends.

    Args:
        files: the files by their paths in it.
        called: what it is called in messages.

    Raises:
        UnsafeError: a file's path leads out of the directory.
    """
    import atexit
    import tempfile

    for path in files:
        parts = path.split("/")
        if not path.isprintable() or "\\" in path or any(part in ("", ".", "..") for part in parts):
            raise UnsafeError(f"{called} names a file {path!r:.80}, which is not in its directory: refused")
    home = os.path.realpath(tempfile.mkdtemp(prefix="wconv-"))
    if not _homes:
        atexit.register(remove_all, os.getpid())
    _homes.append(home)
    directory = Path(home, name)
    directory.mkdir()
    for path, remote in files.items():
        place = directory / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("This file stands for another one while wconv reads that.\n")
        _known[str(place)] = remote
    errors.CALLED[str(directory)] = called
    return directory


def remove_all(process: int) -> None:
    """Removes every directory of stand-ins, where this is the process that made them."""
    import shutil

    if os.getpid() == process:
        while _homes:
            shutil.rmtree(_homes.pop(), ignore_errors=True)
