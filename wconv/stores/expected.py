"""What is going to be read of files elsewhere, and in which order: so it is fetched ahead, once, and no more.

Ranges that follow each other in a file and in the order of reading are one extent. What will be read more
than once is fetched once and held on this disk meanwhile.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from wconv.stores.ranges import Ranges
from wconv.stores.stand_ins import Remote

GAP = 256 << 10
"""Bytes between two ranges up to which both are fetched by one request: one more takes longer."""


class Read(NamedTuple):
    """A range of a file that will be read; `again`: more than once."""

    remote: Remote
    start: int
    stop: int
    again: bool = False


@dataclass(slots=True)
class Extent:
    """Bytes of a file that are read one after another; `number`: its place in the order of reading."""

    remote: Remote
    start: int
    stop: int
    number: int


class Expected:
    """What somebody is going to read.

    Attributes:
        needed: by files: what is read.
        again: by files: what is read more than once.
        fetched: by files: what somebody began to fetch.
    """

    def __init__(self, reads: Iterable[Read]) -> None:
        self.needed: dict[Remote, Ranges] = {}
        self.again: dict[Remote, Ranges] = {}
        self.fetched: dict[Remote, Ranges] = {}
        self._order: list[Extent] = []
        self._extents: dict[Remote, list[Extent]] = {}
        taken: dict[Remote, Ranges] = {}
        last: Extent | None = None
        for remote, start, stop, again in reads:
            before = taken.setdefault(remote, Ranges())
            needed = self.needed.setdefault(remote, Ranges())
            repeated = self.again.setdefault(remote, Ranges())
            if again:
                repeated.add(start, stop)
            for first, end in needed.common(start, stop):
                repeated.add(first, end)
            for first, end in list(before.missing(start, stop)):
                if (
                    last is not None
                    and last.remote == remote
                    and 0 <= first - last.stop <= GAP
                    and not before.overlap(last.stop, first)
                ):
                    # what lies between comes too
                    before.add(last.stop, end)
                    last.stop = end
                else:
                    last = Extent(remote, first, end, len(self._order))
                    self._order.append(last)
                    self._extents.setdefault(remote, []).append(last)
                    before.add(first, end)
            for first, end in before.common(start, stop):
                # came with its neighbours, earlier than it is read
                if last is not None and not (last.remote == remote and last.start <= first < last.stop):
                    repeated.add(first, end)
            needed.add(start, stop)
        for extents in self._extents.values():
            extents.sort(key=lambda one: one.start)
        self._starts = {remote: [one.start for one in extents] for remote, extents in self._extents.items()}

    def __bool__(self) -> bool:
        return bool(self._order)

    @property
    def files(self) -> tuple[Remote, ...]:
        """The files that it is about."""
        return tuple(self._extents)

    @property
    def nbytes(self) -> int:
        """Bytes that will be fetched."""
        return sum(one.stop - one.start for one in self._order)

    def find(self, remote: Remote, at: int) -> Extent | None:
        """The extent that a byte of a file is in."""
        starts = self._starts.get(remote)
        if not starts:
            return None
        index = bisect.bisect_right(starts, at) - 1
        found = self._extents[remote][index] if index >= 0 else None
        return found if found is not None and at < found.stop else None

    def after(self, extent: Extent) -> Extent | None:
        """The extent that is read next."""
        number = extent.number + 1
        return self._order[number] if number < len(self._order) else None
