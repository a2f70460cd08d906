"""How a tensor's values are spread: counted in one pass, without knowing their extremes before."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wconv.tensors.base import Array

BITS = 11
"""Leading bits of a float32 that tell a bin: the sign, the exponent, and two of the mantissa."""

BARS = 32
"""Bars of a histogram that is drawn."""

HIGHEST = 63
"""The height of the highest bar."""

_FINITE = 255 << (BITS - 9)
"""Bins of one sign that hold finite values."""


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Numbers of values by sign and magnitude, four bins from one power of 2 to the next.

    Attributes:
        bins: the leading bits of the values' float32, ascending; none twice.
        counts: how many values have them.
    """

    bins: NDArray[np.uint16]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, finite: Array) -> Histogram:
        """That of values, of which those beyond float32 do not count."""
        with np.errstate(over="ignore"):
            raw = finite.astype(np.float32).view(np.uint32)
        counts = np.bincount(raw >> np.uint32(32 - BITS), minlength=1 << BITS)
        counts[[_FINITE, _FINITE + (1 << (BITS - 1))]] = 0  # became infinite
        bins = np.flatnonzero(counts)
        return cls(bins.astype(np.uint16), counts[bins])

    def plus(self, other: Histogram) -> Histogram:
        """That of both parts of a tensor."""
        bins, places = np.unique(np.concatenate((self.bins, other.bins)), return_inverse=True)
        counts = np.zeros(bins.size, np.int64)
        np.add.at(counts, places, np.concatenate((self.counts, other.counts)))
        return Histogram(bins, counts)

    def bars(self, least: float, largest: float) -> list[int]:
        """The heights of `BARS` bars of equal width between the extremes, the highest `HIGHEST`; none where
        there is nothing to draw."""
        if not (np.isfinite(least) and np.isfinite(largest)) or least >= largest:
            return []
        edges, place = _edges()
        counts = np.zeros(edges.size - 1)
        counts[place[self.bins]] = self.counts
        # within a bin values are taken to be spread evenly; what that puts beyond the extremes lies at them
        total = np.concatenate(([0.0], np.cumsum(counts)))
        sums = np.interp(np.linspace(least, largest, BARS + 1), edges, total)
        sums[0], sums[-1] = 0.0, total[-1]
        heights = np.diff(sums)
        top = heights.max()
        if top <= 0:
            return []
        # what is there is seen, however little it is
        scaled = np.ceil(heights / top * HIGHEST)
        return [int(height) for height in scaled]


@functools.cache
def _edges() -> tuple[Array, Array]:
    """The bins' edges in the order of the values, and at which place among them each bin is."""
    numbers = np.arange(_FINITE + 1, dtype=np.uint32)
    magnitudes = (numbers << np.uint32(32 - BITS)).view(np.float32).astype(np.float64)
    magnitudes[-1] = float(np.finfo(np.float32).max)
    edges = np.concatenate((-magnitudes[:0:-1], magnitudes))
    place = np.zeros(1 << BITS, np.intp)
    place[:_FINITE] = _FINITE + np.arange(_FINITE)
    place[(1 << (BITS - 1)) : (1 << (BITS - 1)) + _FINITE] = _FINITE - 1 - np.arange(_FINITE)
    return edges, place
