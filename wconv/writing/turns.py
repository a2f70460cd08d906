"""The order of work: what is inflated of several streams takes turns, so that threads inflate at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import TypeVar

Work = TypeVar("Work")

LANES = 4
"""Streams that take turns; of more, as much would be read at once that the disk would jump about."""

LONGEST = 4096
"""Pieces of work of one stream that are waiting for their turn at most."""


def in_turns(work: Iterable[Work], stream: Callable[[Work], object | None]) -> Iterator[Work]:
    """All of the work; that of one stream in its order, that of neighbouring streams one piece each in turn.

    A stream can only be read from its beginning, so two threads on one would wait for each other.

    Args:
        stream: what a piece is read of; None where it does not matter when it is done.
    """
    lanes: dict[object, deque[Work]] = {}
    for key, run in groupby(work, stream):
        if key is None:
            yield from run
            continue
        lane = lanes.setdefault(key, deque())
        for piece in run:
            lane.append(piece)
            if len(lane) > LONGEST:
                yield lane.popleft()
        while len(lanes) >= LANES:
            yield from _turn(lanes)
    while lanes:
        yield from _turn(lanes)


def _turn(lanes: dict[object, deque[Work]]) -> Iterator[Work]:
    """One piece of each lane; those that are empty then end."""
    for key, lane in list(lanes.items()):
        yield lane.popleft()
        if not lane:
            del lanes[key]
