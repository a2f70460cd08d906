"""Ranges of files elsewhere, in memory: fetched, waited for, read, dropped; bounded for all together."""

from __future__ import annotations

import mmap
import threading

from wconv.stores.digests import OrderedDigest
from wconv.stores.stand_ins import Remote

FIRST = 1 << 16
"""Bytes that are fetched at least: a header is often in them."""

SPAN = 4 << 20
"""Bytes of one request of a stream."""

AHEAD = 4
"""Requests of that size that a stream is ahead of its reader."""

REQUESTS = 12
"""Requests that a stream is ahead of its reader at most, however small they are."""

CACHED, BEYOND = 24 << 20, 8 << 20
"""Bytes of all files that are held, and how many more at most while readers wait for them."""

STALE = 64
"""Spans after which one that was begun and not read is not waited for any more."""

NEAR = CACHED // 2
"""Bytes that a span may be ahead of a digest that waits for those before it."""


def _memory(size: int) -> bytearray | mmap.mmap:
    """Room for a span; a large one goes back to the system at once, whichever thread drops it."""
    return mmap.mmap(-1, size) if size > 1 << 20 else bytearray(size)


class Span:
    """A range that was fetched or is being fetched.

    Attributes:
        left: bytes that nobody has read yet, of those that somebody will.
        number: it is the so-many-th that was begun.
        ready: set when `data` or `error` is there.
        digest: what takes the file's bytes in in order; None for nothing.
    """

    __slots__ = ("data", "digest", "error", "left", "number", "ready", "start", "stop")

    def __init__(self, start: int, stop: int, digest: OrderedDigest | None = None) -> None:
        self.start = start
        self.stop = stop
        self.left = stop - start
        self.number = 0
        self.data = _memory(stop - start)
        self.ready = threading.Event()
        self.error: BaseException | None = None
        self.digest = digest

    @property
    def is_wanted(self) -> bool:
        """Whether somebody will read of it, or a digest is about to."""
        at = self.digest.at if self.digest is not None else self.stop
        return self.left > 0 or (self.stop > at and self.start - at < NEAR)


class SpanCache:
    """The spans of all files, the oldest first. Its lock is to be held around every call.

    Attributes:
        most: bytes that there were at most.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.spans: dict[tuple[Remote, int], Span] = {}
        self.count = 0
        self.most = 0

    def nbytes(self) -> int:
        """Bytes of all spans."""
        return sum(span.stop - span.start for span in self.spans.values())

    def of(self, remote: Remote) -> list[Span]:
        """The spans of a file."""
        return [span for (file, _), span in self.spans.items() if file == remote]

    def covering(self, remote: Remote, at: int) -> Span | None:
        """The span that a byte of a file is in."""
        return next((one for one in self.of(remote) if one.start <= at < one.stop), None)

    def add(self, remote: Remote, span: Span) -> Span:
        """Puts a span in, for which there is room."""
        self.count += 1
        span.number = self.count
        self.spans[remote, span.start] = span
        self.most = max(self.most, self.nbytes())
        return span

    def make_room(self, count: int, *, ahead: bool = False) -> bool:
        """Drops what was read and what nobody came back for; whether there is room for `count` bytes then.

        Args:
            ahead: nobody waits for them: else what is of use goes too when there is far too much.
        """
        missing = self.nbytes() + count - CACHED
        for span_is_of_use in (False,) if ahead else (False, True):
            for key, span in list(self.spans.items()):
                if missing <= (BEYOND if span_is_of_use else 0):
                    break
                of_use = span.is_wanted and span.number > self.count - STALE
                if span.ready.is_set() and of_use == span_is_of_use:
                    del self.spans[key]
                    missing -= span.stop - span.start
        return missing <= 0
