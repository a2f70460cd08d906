"""Writing behind: where new pages are dear, a file's finished pages go to disk at once and are used again.

A write to a new file takes a free page for every 4 KiB. Mostly that is cheap; on a virtual machine whose
host takes free memory back, after a lot was written, or when memory is short, it costs more than all else.
Each thread watches what its writes cost and, where that is much, sends what it wrote to the disk and gives
the pages back, so that the next writes find them. If that costs more still (a slow disk), it writes on as
before, and tries again later and later.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable

SLOW_WRITE = 0.8e-9
"""Seconds a byte: a write that takes longer (1.25 GB/s a thread) does more than copy memory.

Cheap pages take 0.2 to 0.4, dear ones 1.5 to 3.
"""

WORTH_IT = 2e-9
"""Seconds a byte that writing behind may take even where plain writes began faster: those get dearer."""

TOO_SLOW = 6e-9
"""Seconds a byte at which it is given up after two windows: the disk is slow."""

WINDOW = 16 << 20
"""Bytes over which costs are measured."""

DROP_AFTER = 16, 48
"""After how many more writes the pages of one are taken back: most are on the disk then, the rest later."""

TRIAL_WINDOWS = 8
"""Windows over which writing behind is judged; in the first trial no page has come back yet."""


class PageAdvice:
    """A second descriptor of a file, to advise on its pages; closes with the last reference."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = -1
        # where advice is not taken, or no descriptor is left, all is written plainly
        if hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError):
                self.fd = os.dup(fd)

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)

    def drop(self, offset: int, count: int) -> None:
        """Starts writing changed pages to the disk, and frees those that are there already."""
        # advice that a kernel or file system does not take is no failure to write
        with contextlib.suppress(OSError):
            os.posix_fadvise(self.fd, offset, count, os.POSIX_FADV_DONTNEED)


class WriteBehind:
    """One thread's decision whether to write behind.

    Attributes:
        active: whether it does so now.
    """

    def __init__(self) -> None:
        self.active = False
        self._plain = 0.0
        self._costs: list[float] = []
        self._limit = TOO_SLOW
        self._rest = 0
        self._patience = 1
        self._spent = 0.0
        self._bytes = 0
        self._waiting: deque[tuple[PageAdvice, int, int]] = deque()

    @property
    def clock(self) -> Callable[[], float]:
        """What the next write is to be timed with.

        A dear page costs work of the processor: other programs do not count, as they would by the clock.
        Writing behind may wait for the disk, which counts.
        """
        return time.perf_counter if self.active else time.thread_time

    def wrote(self, pages: PageAdvice, offset: int, count: int, seconds: float) -> None:
        """Says that `count` bytes at `offset` took `seconds` to write; advises on them, or does not."""
        if pages.fd < 0:
            return
        if self.active:
            began = time.perf_counter()
            self._advise(pages, offset, count)
            seconds += time.perf_counter() - began
        self._spent += seconds
        self._bytes += count
        if self._bytes >= WINDOW:
            self._decide(self._spent / self._bytes)
            self._spent, self._bytes = 0.0, 0

    def _decide(self, cost: float) -> None:
        if not self.active:
            self._rest -= 1
            if self._rest < 0 and cost > SLOW_WRITE:
                self.active, self._limit, self._plain = True, TOO_SLOW, cost
            return
        self._costs.append(cost)
        # the median: one slow moment says nothing
        usual = sorted(self._costs)[(len(self._costs) - 1) // 2]
        if usual > TOO_SLOW and len(self._costs) > 1:
            self._give_up(32)
        elif len(self._costs) == TRIAL_WINDOWS:
            if usual > self._limit:
                self._give_up(2)
            self._limit = max(self._plain, WORTH_IT)
            self._costs.clear()

    def _give_up(self, factor: int) -> None:
        self.active = False
        self._patience *= factor
        self._rest = self._patience
        self._waiting.clear()
        self._costs.clear()

    def _advise(self, pages: PageAdvice, offset: int, count: int) -> None:
        pages.drop(offset, count)
        self._waiting.append((pages, offset, count))
        for lag in DROP_AFTER:
            if len(self._waiting) > lag:
                older, at, length = self._waiting[-1 - lag]
                older.drop(at, length)
        if len(self._waiting) > max(DROP_AFTER):
            self._waiting.popleft()
