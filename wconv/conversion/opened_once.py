"""A source of several outputs is opened once: whoever plans one asks here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from wconv.checkpoints import open as checkpoints
from wconv.checkpoints.checkpoint import Checkpoint

_opened: ContextVar[dict[Any, Checkpoint] | None] = ContextVar("opened", default=None)


@contextlib.contextmanager
def opening_once() -> Iterator[None]:
    """A block during which a source that was opened is not opened again."""
    token = _opened.set({})
    try:
        yield
    finally:
        _opened.reset(token)


def open_once(path: Path, **how: Any) -> Checkpoint:
    """What `checkpoints.open` gives, or gave for the same in this block. Raises as that does."""
    known = _opened.get()
    if known is None:
        return checkpoints.open(path, **how)
    key = (str(path), *(f"{name}={value}" for name, value in sorted(how.items())))
    if key not in known:
        known[key] = checkpoints.open(path, **how)
    return known[key]
