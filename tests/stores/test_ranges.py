"""Sets of bytes as ranges, compared with sets of numbers. Covers `stores/ranges.py`."""

from __future__ import annotations

import random

from wconv.stores.ranges import Ranges


def test_ranges_are_the_sets_that_they_stand_for() -> None:
    chance = random.Random(7)
    for _ in range(60):
        ranges, numbers = Ranges(), set[int]()
        for _ in range(chance.randrange(1, 12)):
            start = chance.randrange(50)
            stop = start + chance.randrange(12)
            ranges.add(start, stop)
            numbers |= set(range(start, stop))
            assert {at for first, last in ranges for at in range(first, last)} == numbers
        edges = [edge for one in ranges for edge in one]
        assert edges == sorted(set(edges))  # apart, and in order
        assert ranges.nbytes == len(numbers)
        first, last = sorted(chance.sample(range(62), 2))
        wanted = set(range(first, last))
        assert {at for a, b in ranges.missing(first, last) for at in range(a, b)} == wanted - numbers
        assert {at for a, b in ranges.common(first, last) for at in range(a, b)} == wanted & numbers
        assert ranges.overlap(first, last) == len(wanted & numbers)
        assert ranges.covers(first, last) == (wanted <= numbers)
