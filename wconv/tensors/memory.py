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
import weakref
from collections.abc import Callable
from typing import Any

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


OWN = 32 << 20
"""Bytes from which on what the C library gives is a mapping, which goes as a whole when it is freed."""


class Memory:
    """The memory of what is read at once; threads share it."""

    def __init__(self, *, worthwhile: bool = True) -> None:
        """Args: worthwhile: False where it is so little that the allocator mostly has it."""
        self._advise = _linux_madvise() if worthwhile else None
        self._lock = threading.Lock()
        self._large_pages = self._advise is not None and mmap.PAGESIZE == 4096
        self._asked: list[tuple[weakref.ref[Any], int, int]] = []
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
        raw = np.frombuffer(mapping, np.uint8, nbytes)
        self._ask(mapping, raw)
        return raw.view(dtype.numpy)

    def adopt(self, array: Array) -> bool:
        """Whether it asks for large pages for an array that somebody else made and nobody touched yet."""
        if array.nbytes < OWN or self._advise is None:
            return False
        self._ask(array, array)
        return True

    def bring_in(self, part: Array, *, asked: bool) -> None:
        """Has a part of an array be in memory; about `STEP` bytes of it are best.

        Args:
            asked: large pages may have been asked for.
        """
        advise = self._advise
        if part.nbytes < SMALL or advise is None:
            return
        watched = asked and self._large_pages
        began = time.thread_time() if watched else 0.0
        if advise(*_pages(part), POPULATE_WRITE):
            self._advise = None  # an older system: each page comes when it is touched
        elif watched:
            self._lost = max(self._lost + time.thread_time() - began - SMALL_PAGES * part.nbytes, 0.0)
            if self._lost > PATIENCE:
                self._end_large_pages()

    def _ask(self, owner: Any, array: Array) -> None:
        address, nbytes = _pages(array)
        with self._lock:
            if self._large_pages:
                self._asked.append((weakref.ref(owner), address, nbytes))
            if self._advise is not None:
                self._advise(
                    address, nbytes, mmap.MADV_HUGEPAGE if self._large_pages else mmap.MADV_NOHUGEPAGE
                )

    def _end_large_pages(self) -> None:
        """From now on asks for small pages, also where large ones were asked for and are not there yet."""
        with self._lock:
            self._large_pages = False
            advise = self._advise
            for owner, address, nbytes in self._asked:
                if owner() is not None and advise is not None:
                    advise(address, nbytes, mmap.MADV_NOHUGEPAGE)
            self._asked.clear()


def _pages(part: Array) -> tuple[int, int]:
    """Address and bytes of the pages of a part, but for the last one, which what follows may begin in."""
    address = part.ctypes.data
    first = address - address % mmap.PAGESIZE
    last = address + part.nbytes
    return first, last - last % mmap.PAGESIZE - first


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
