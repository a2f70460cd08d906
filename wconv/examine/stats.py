"""Statistics of tensors' values, in one pass over the data and constant memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from wconv.examine.compare import BLOCK
from wconv.examine.histogram import Histogram
from wconv.tensors.base import Array, LazyTensor
from wconv.tensors.parallel import Range, add_up, ranges

FLOAT16_OVERFLOW = 65520.0
"""The least magnitude that float16 rounds to infinity."""


@dataclass(frozen=True, slots=True)
class Stats:
    """What a tensor's values are like. Of complex values, both components are counted.

    Attributes:
        count: values.
        finite: of those, the finite ones, of which all that follows is said.
        least, largest: the extremes; NaN where there are none.
        total, squares: the sums of values and of their squares.
        zeros: values equal to zero.
        nan, infinite: values that are not finite.
        beyond_float16: finite values that float16 would make infinite.
        histogram: how the finite ones are spread, where that was asked for.
    """

    count: int = 0
    finite: int = 0
    least: float = math.nan
    largest: float = math.nan
    total: float = 0.0
    squares: float = 0.0
    zeros: int = 0
    nan: int = 0
    infinite: int = 0
    beyond_float16: int = 0
    histogram: Histogram | None = None

    @property
    def mean(self) -> float:
        return self.total / self.finite if self.finite else math.nan

    @property
    def deviation(self) -> float:
        """The standard deviation."""
        if not self.finite:
            return math.nan
        return math.sqrt(max(self.squares / self.finite - self.mean**2, 0.0))

    def plus(self, other: Stats) -> Stats:
        """Those of both parts of a tensor."""
        return Stats(
            self.count + other.count,
            self.finite + other.finite,
            _of_both(min, self.least, other.least),
            _of_both(max, self.largest, other.largest),
            self.total + other.total,
            self.squares + other.squares,
            self.zeros + other.zeros,
            self.nan + other.nan,
            self.infinite + other.infinite,
            self.beyond_float16 + other.beyond_float16,
            self.histogram.plus(other.histogram)
            if self.histogram and other.histogram
            else self.histogram or other.histogram,
        )

    def text(self) -> str:
        """One short line for people."""
        said = f"{self.least:.4g} … {self.largest:.4g}, mean {self.mean:.3g}, deviation {self.deviation:.3g}"
        more = {
            "zeros": self.zeros,
            "NaN": self.nan,
            "infinite": self.infinite,
            "beyond float16": self.beyond_float16,
        }
        return ", ".join([said, *(f"{number:,} {what}" for what, number in more.items() if number)])

    def to_dict(self) -> dict[str, Any]:
        """As plain data; what JSON cannot hold is None."""
        own = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "histogram"}
        values = {**own, "mean": self.mean, "deviation": self.deviation}
        return {
            name: value if isinstance(value, int) or math.isfinite(value) else None
            for name, value in values.items()
        }


def stats(
    tensors: Mapping[str, LazyTensor], *, jobs: int | None = None, histograms: bool = False
) -> dict[str, Stats]:
    """Statistics of each tensor, read once by several threads.

    Args:
        histograms: tells how the values are spread, too.

    Raises:
        FormatError: a file does not hold what its header promised.
    """
    found = {name: Stats() for name in tensors}

    def measure(part: Range) -> Stats:
        values = tensors[part.name].read_range(part.start, part.stop)
        total = Stats()
        for at in range(0, values.size, BLOCK):
            total = total.plus(_of_block(values[at : at + BLOCK], histograms))
        return total

    parts = (part for name in tensors for part in ranges(name, (tensors[name],)))
    add_up(parts, lambda: measure, found, jobs)
    return found


def _of_block(values: Array, histograms: bool) -> Stats:
    if values.dtype.kind == "c":
        values = values.view(f"f{values.dtype.itemsize // 2}")
    wide = values.astype(np.float64)
    with np.errstate(all="ignore"):
        good = np.isfinite(wide)
        finite = wide if good.all() else wide[good]
        nan = int(np.count_nonzero(np.isnan(wide))) if finite.size < wide.size else 0
        some = finite.size > 0
        return Stats(
            wide.size,
            finite.size,
            float(finite.min()) if some else math.nan,
            float(finite.max()) if some else math.nan,
            float(finite.sum()),
            float(np.dot(finite, finite)),
            finite.size - int(np.count_nonzero(finite)),
            nan,
            wide.size - finite.size - nan,
            int(np.count_nonzero(np.abs(finite) >= FLOAT16_OVERFLOW)),
            Histogram.of(finite) if histograms and some else None,
        )


def _of_both(which: Callable[[float, float], float], one: float, other: float) -> float:
    return other if math.isnan(one) else one if math.isnan(other) else which(one, other)
