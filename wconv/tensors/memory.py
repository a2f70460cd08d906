"""Memory for arrays that are read whole: brought in a step ahead of what is read into it.

The system clears each page of new memory when it is first touched. While a file is read that costs as much as
the reading, page by page; asked for beforehand it costs two thirds. Pages of 2 MiB cost a quarter, or eight
times as much where they have to be made free first, or where a machine's host takes free memory back. So they
are asked for until one proves dear.
"""

from __future__ import annotations

import functools
import mmap
import sys
import threading
import time
from collections.abc import Callable

import numpy as np

from wconv.tensors.base import Array
from wconv.tensors.dtypes import DType

LARGE = 4 << 20
"""Bytes from which on an array has a mapping of its own: numpy would ask for large pages without a look."""

STEP = 2 << 20
"""Bytes that are brought in at once: they are still in the cache when they are written to."""

SMALL = 128 << 10
"""Bytes below which memory is left to the allocator, which mostly has it."""

SMALL_PAGES = 0.26e-9
"""Seconds of processor time a byte that small pages take; large ones take 0.09e-9, or 2e-9."""

PATIENCE = 0.01
"""Seconds that large pages may take more than small ones would have, before no more are asked for."""

POPULATE_WRITE = 23
"""Linux's MADV_POPULATE_WRITE, of 5.14 and newer."""


class Memory:
    """The memory of what is read at once; threads share it."""

    def __init__(self, *, worthwhile: bool = True) -> None:
        """Args: worthwhile: False where it is so little that the allocator mostly has it."""
        self._advise = _linux_madvise() if worthwhile else None
        self._lock = threading.Lock()
        self._large_pages = self._advise is not None and mmap.PAGESIZE == 4096
        self._asked: list[mmap.mmap] = []
        self._lost = 0.0

    def empty(self, count: int, dtype: DType) -> Array:
        """A 1-D array of so many elements, of no particular content."""
        nbytes = count * dtype.itemsize
        if nbytes < LARGE or self._advise is None:
            return np.empty(count, dtype.numpy)
        try:
            mapping = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError:  # numpy says so in its own words
            return np.empty(count, dtype.numpy)
        with self._lock:
            if self._large_pages:
                self._large_pages = _advised(mapping, mmap.MADV_HUGEPAGE)
                self._asked.append(mapping)
            else:
                _advised(mapping, mmap.MADV_NOHUGEPAGE)
        return np.frombuffer(mapping, np.uint8, nbytes).view(dtype.numpy)

    def bring_in(self, part: Array, whole: Array | None = None) -> None:
        """Has a part of an array be in memory; about `STEP` bytes of it are best.

        Args:
            whole: the array, where `empty` made it.
        """
        if part.nbytes < SMALL or self._advise is None:
            return
        watched = self._large_pages and whole is not None and whole.nbytes >= LARGE
        began = time.thread_time() if watched else 0.0
        address = part.ctypes.data
        # the page of the first byte, and all but that of the last, which the next part may begin in
        first = address - address % mmap.PAGESIZE
        last = address + part.nbytes
        if self._advise(first, last - last % mmap.PAGESIZE - first, POPULATE_WRITE):
            self._advise = None  # an older system: each page comes when it is touched
        elif watched:
            self._lost = max(self._lost + time.thread_time() - began - SMALL_PAGES * part.nbytes, 0.0)
            if self._lost > PATIENCE:
                self._end_large_pages()

    def _end_large_pages(self) -> None:
        """From now on asks for small pages, also where large ones were asked for and are not there yet."""
        with self._lock:
            self._large_pages = False
            for mapping in self._asked:
                _advised(mapping, mmap.MADV_NOHUGEPAGE)
            self._asked.clear()


def _advised(mapping: mmap.mmap, advice: int) -> bool:
    """Whether the system took an advice about a mapping."""
    try:
        mapping.madvise(advice)
    except (OSError, ValueError):  # it has no large pages; the array is gone
        return False
    return True


@functools.cache
def _linux_madvise() -> Callable[[int, int, int], int] | None:
    """The system's function, which lets other threads run meanwhile: `mmap.madvise` does not."""
    if sys.platform != "linux":
        return None
    try:
        import ctypes

        function = ctypes.CDLL(None).madvise
    except (ImportError, OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    function.restype = ctypes.c_int
    found: Callable[[int, int, int], int] = function
    return found
