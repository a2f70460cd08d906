"""Sets of bytes of a file, as ranges that do not touch each other."""

from __future__ import annotations

import bisect
from collections.abc import Iterator


class Ranges:
    """Ranges that grow together: each is told by its start and its stop, one past its last byte."""

    __slots__ = ("_edges",)

    def __init__(self) -> None:
        self._edges: list[int] = []

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._edges[::2], self._edges[1::2], strict=True)

    @property
    def nbytes(self) -> int:
        """Bytes in all of them."""
        return sum(stop - start for start, stop in self)

    def add(self, start: int, stop: int) -> None:
        """Adds a range, which may touch or overlap others."""
        if start >= stop:
            return
        edges = self._edges
        first, last = bisect.bisect_left(edges, start), bisect.bisect_right(edges, stop)
        edges[first:last] = [start] * (first % 2 == 0) + [stop] * (last % 2 == 0)

    def missing(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """What of a range is in none, in order."""
        edges = self._edges
        at = bisect.bisect_right(edges, start)
        while start < stop:
            if at % 2:  # within one
                start = edges[at]
                at += 1
                continue
            end = min(edges[at], stop) if at < len(edges) else stop
            if start < end:
                yield start, end
            start = end
            at += 1

    def covers(self, start: int, stop: int) -> bool:
        """Whether all of a range is in them."""
        return next(self.missing(start, stop), None) is None

    def common(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """What of a range is in them, in order."""
        at = start
        for first, last in self.missing(start, stop):
            if at < first:
                yield at, first
            at = last
        if at < stop:
            yield at, stop

    def overlap(self, start: int, stop: int) -> int:
        """How many bytes of a range are in them."""
        return sum(last - first for first, last in self.common(start, stop))
