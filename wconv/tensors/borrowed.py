"""Memory that a thread's kernels work in, borrowed for a while and kept for the next one.

Fresh memory costs as much as computing in it: the system clears each page when it is first touched. So a
thread that works through many blocks does so `keeping` what its kernels gave back.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import DTypeLike, NDArray

from wconv.tensors.base import Array

LARGEST = 16 << 20
"""Bytes of one piece that is kept; a larger one is made for each use."""

MOST_KEPT = 4
"""Pieces that a thread keeps: as many as kernels are at work at once, one reading from another."""

LINE = 64
"""Bytes of a line of the cache, at whose start each array begins."""


class _Local(threading.local):
    """Of each thread: how often it asked to keep memory, and what it keeps."""

    def __init__(self) -> None:
        self.keeping = 0
        self.kept: list[NDArray[np.uint8]] = []


_local = _Local()


class Arena:
    """Arrays one after another in one piece of memory, whose content is left over from before."""

    __slots__ = ("_at", "_memory", "_start")

    def __init__(self, memory: NDArray[np.uint8]) -> None:
        self._memory = memory
        self._at = self._start = -memory.ctypes.data % LINE

    def clear(self) -> None:
        """Begins anew: what comes next takes the place of what there was."""
        self._at = self._start

    def empty(self, shape: Sequence[int], dtype: DTypeLike) -> Array:
        """An array of that shape, which lasts as long as the memory is borrowed."""
        kind = np.dtype(dtype)
        nbytes = math.prod(shape) * kind.itemsize
        part = self._memory[self._at : self._at + nbytes]
        self._at += -(-nbytes // LINE) * LINE
        return part.view(kind).reshape(shape)


@contextlib.contextmanager
def borrowed(nbytes: int, arrays: int = 1) -> Iterator[Arena]:
    """Memory for so many bytes in so many arrays, which nobody else has until the block ends."""
    needed = nbytes + (arrays + 1) * LINE
    kept = _local.kept
    memory = next((kept.pop(at) for at in range(len(kept)) if kept[at].size >= needed), None)
    if memory is None:
        memory = np.empty(needed, np.uint8)
    try:
        yield Arena(memory)
    finally:
        if _local.keeping and needed <= LARGEST:
            kept = _local.kept
            kept.append(memory)
            kept.sort(key=len)
            del kept[:-MOST_KEPT]


@contextlib.contextmanager
def keeping() -> Iterator[None]:
    """Until the block ends, the calling thread keeps what its kernels give back; then it lets go of it."""
    _local.keeping += 1
    try:
        yield
    finally:
        _local.keeping -= 1
        if not _local.keeping:
            _local.kept.clear()
