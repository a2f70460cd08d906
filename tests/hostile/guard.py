"""An audit hook that allows nothing but reading below one directory, and a module that nobody may touch."""

from __future__ import annotations

import copyreg
import os
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.hostile.code import CANARY

HARMLESS = frozenset({"builtins.id", "mmap.__new__", "object.__getattr__", "sys._getframe", "time.sleep"})
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Forbidden(BaseException):
    """Stops the reader on the spot; what it caught is in the guard's record all the same."""


class Guard:
    """The record of what an armed process did that no reader of weights does."""

    def __init__(self) -> None:
        self.record: list[str] = []
        self.allowed: frozenset[str] = HARMLESS
        self._root: str | None = None
        sys.addaudithook(self._audit)
        sys.modules[CANARY] = _Canary(self)
        copyreg.add_extension(CANARY, "touch", 240)

    @contextmanager
    def armed(self, root: Path, *, also: frozenset[str] = frozenset()) -> Iterator[None]:
        """Forbids everything but reading below `root` and the events named in `also`."""
        self.record = []
        self.allowed = HARMLESS | also
        self._root = os.path.abspath(root)
        try:
            yield
        finally:
            self._root = None

    def report(self, what: str) -> None:
        """Notes what happened and stops whoever did it, while armed."""
        if self._root is not None:
            self.record.append(what)
            raise Forbidden(what)

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if self._root is None or event in self.allowed:
            return
        root, self._root = self._root, None  # what follows raises events of its own
        try:
            fine = event in ("open", "os.listdir", "os.scandir") and _reads_below(root, args)
            what = f"{event} {args!r:.120}"
        finally:
            self._root = root
        if not fine:
            self.report(what)


def _reads_below(root: str, args: tuple[Any, ...]) -> bool:
    """Whether an `open` (path, mode, flags), `os.listdir` or `os.scandir` (path) stays below `root`."""
    if len(args) == 3 and args[2] & WRITING:
        return False
    if not isinstance(args[0], str | bytes | os.PathLike):
        return False
    path = os.path.abspath(os.fsdecode(args[0]))
    return path == root or path.startswith(root + os.sep)


class _Canary(types.ModuleType):
    """A module whose every attribute reports that it was looked up."""

    def __init__(self, guard: Guard) -> None:
        super().__init__(CANARY)
        object.__setattr__(self, "_guard", guard)

    def __getattribute__(self, name: str) -> Any:
        object.__getattribute__(self, "_guard").report(f"{CANARY}.{name} was looked up")
        return object.__getattribute__(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        object.__getattribute__(self, "_guard").report(f"{CANARY}.{name} was set")
