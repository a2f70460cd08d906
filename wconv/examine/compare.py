"""The values of two tensors of one shape, compared a block at a time: equal, or how far apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from wconv.tensors.base import Array, LazyTensor
from wconv.tensors.parallel import Range, add_up, ranges

BLOCK = 12 << 10
"""Elements that are compared at once: what is computed of them stays in the cache and in the heap."""

Pair = tuple[LazyTensor, LazyTensor]


@dataclass(frozen=True, slots=True)
class Distance:
    """How far two tensors of one shape are apart.

    Attributes:
        count: elements.
        differing: elements that are not equal; NaN equals NaN, and zeros of both signs are equal.
        unlike: of those, the ones of which one is NaN or infinite and the other is not the same.
        largest: the largest absolute difference of finite elements.
        relative: the largest difference of finite elements, divided by the larger of both magnitudes.
        excess: the largest of `difference - relative tolerance * magnitude`.
        squares: sum of the squared differences of finite elements.
        dot, first, second: sums of products, and of both tensors' squares, over what is finite in both.
    """

    count: int = 0
    differing: int = 0
    unlike: int = 0
    largest: float = 0.0
    relative: float = 0.0
    excess: float = 0.0
    squares: float = 0.0
    dot: float = 0.0
    first: float = 0.0
    second: float = 0.0

    def plus(self, other: Distance) -> Distance:
        """That of both parts of a tensor."""
        return Distance(
            self.count + other.count,
            self.differing + other.differing,
            self.unlike + other.unlike,
            max(self.largest, other.largest),
            max(self.relative, other.relative),
            max(self.excess, other.excess),
            self.squares + other.squares,
            self.dot + other.dot,
            self.first + other.first,
            self.second + other.second,
        )

    @property
    def error(self) -> float:
        """The norm of the difference, divided by the larger of both norms."""
        larger = math.sqrt(max(self.first, self.second))
        return math.sqrt(self.squares) / larger if larger else 0.0

    @property
    def cosine(self) -> float:
        """Of the angle between both as vectors, over what is finite in both; 1 where they are equal."""
        if not self.differing:
            return 1.0
        norms = math.sqrt(self.first) * math.sqrt(self.second)
        return self.dot / norms if norms else 0.0


def distances(
    pairs: Mapping[str, Pair], *, relative_tolerance: float = 0.0, jobs: int | None = None
) -> dict[str, Distance]:
    """How far the tensors of each pair are apart, read a range at a time by several threads.

    Args:
        pairs: tensors of one shape by a name.
        relative_tolerance: for `Distance.excess`.
        jobs: threads; as many as there are cores when absent.

    Raises:
        FormatError: a file does not hold what its header promised.
    """
    found = {name: Distance() for name in pairs}
    equal: list[Range] = []

    def make_distance() -> Callable[[Range], Distance]:
        compare = _Comparison(relative_tolerance)

        def measure(part: Range) -> Distance:
            distance = compare(*pairs[part.name], part.start, part.stop)
            if not distance.differing:
                equal.append(part)
            return distance

        return measure

    def make_norms() -> Callable[[Range], Distance]:
        compare = _Comparison(relative_tolerance)

        def measure(part: Range) -> Distance:
            squares = compare.squares(pairs[part.name][0], part.start, part.stop)
            return Distance(dot=squares, first=squares, second=squares)

        return measure

    add_up((part for name, pair in pairs.items() for part in ranges(name, pair)), make_distance, found, jobs)
    # the norms of a tensor that differs are those of all of it
    add_up([part for part in equal if found[part.name].differing], make_norms, found, jobs)
    return found


class _Comparison:
    """One thread's buffers."""

    def __init__(self, relative_tolerance: float) -> None:
        self._relative = relative_tolerance
        self._bytes = [np.empty(0, np.uint8), np.empty(0, np.uint8)]

    def __call__(self, one: LazyTensor, other: LazyTensor, start: int, stop: int) -> Distance:
        first, second = self._read(0, one, start, stop), self._read(1, other, start, stop)
        if first.dtype == second.dtype and same_bytes(first, second):
            return Distance(stop - start)
        total = Distance(stop - start)
        for at in range(0, stop - start, BLOCK):
            x, y = first[at : at + BLOCK], second[at : at + BLOCK]
            if x.dtype == y.dtype and same_bytes(x, y):
                squares = _squares(x)
                total = total.plus(Distance(dot=squares, first=squares, second=squares))
            else:
                total = total.plus(_distance(x, y, self._relative))
        return total

    def squares(self, tensor: LazyTensor, start: int, stop: int) -> float:
        """The sum of the squares of a range's finite elements."""
        values = self._read(0, tensor, start, stop)
        total = 0.0
        for at in range(0, stop - start, BLOCK):
            total += _squares(values[at : at + BLOCK])
        return total

    def _read(self, which: int, tensor: LazyTensor, start: int, stop: int) -> Array:
        nbytes = (stop - start) * tensor.dtype.itemsize
        if self._bytes[which].size < nbytes:
            self._bytes[which] = np.empty(nbytes, np.uint8)
        out = self._bytes[which][:nbytes].view(tensor.dtype.numpy)
        tensor.read_into(start, stop, out)
        return out


def same_bytes(x: Array, y: Array) -> bool:
    """Whether two arrays of one size in bytes have the same bytes."""
    a, b = x.view(np.uint8), y.view(np.uint8)
    whole = a.size // 8 * 8
    words = np.array_equal(a[:whole].view(np.uint64), b[:whole].view(np.uint64))
    return words and np.array_equal(a[whole:], b[whole:])


def _wide(values: Array) -> Array:
    """Values in a dtype that numpy calculates in and that holds each of them, or nearly: 64-bit integers."""
    kind = values.dtype.kind
    if kind == "c":
        return values.astype(np.complex128)
    if kind in "biu":
        return values.astype(np.float64)
    return values.astype(np.float64 if values.dtype.itemsize > 4 else np.float32, copy=False)


def _distance(first: Array, second: Array, relative_tolerance: float) -> Distance:
    x, y = _wide(first), _wide(second)
    if x.dtype != y.dtype:
        common = np.promote_types(x.dtype, y.dtype)
        x, y = x.astype(common, copy=False), y.astype(common, copy=False)
    with np.errstate(all="ignore"):
        finite = np.isfinite(x) & np.isfinite(y)
        unlike = 0
        if not finite.all():
            equal = (x == y) | (np.isnan(x) & np.isnan(y))
            unlike = int(np.count_nonzero(~finite & ~equal))
            x, y = np.where(finite, x, 0), np.where(finite, y, 0)
        # float32 differences are exact enough to be compared; sums are taken in float64
        difference = np.abs(x - y)
        larger = np.maximum(np.abs(x), np.abs(y))
        differing = int(np.count_nonzero(difference)) + unlike
        largest = excess = float(difference.max(initial=0))
        if relative_tolerance:
            excess = float((difference - larger.dtype.type(relative_tolerance) * larger).max(initial=0))
        np.maximum(larger, np.finfo(larger.dtype).tiny, out=larger)
        relative = np.divide(difference, larger, out=larger)
        if first.dtype.kind in "iu" and second.dtype.kind in "iu":
            # large integers may differ by less than float64 can tell
            differing = int(np.count_nonzero(first != second))
            if differing and not largest:
                largest = excess = 1.0
        x, y, difference = _exact(x), _exact(y), _exact(difference)
        return Distance(
            0,
            differing,
            unlike,
            largest,
            float(relative.max(initial=0)),
            excess,
            _sum(difference, difference),
            _sum(x, y),
            _sum(x, x),
            _sum(y, y),
        )


def _squares(values: Array) -> float:
    """The sum of the squares of a block's finite elements."""
    block = _exact(_wide(values))
    total = _sum(block, block)
    if math.isfinite(total):
        return total
    finite = np.where(np.isfinite(block), block, 0)
    return _sum(finite, finite)


def _exact(x: Array) -> Array:
    """Values in which sums are taken."""
    return x if x.dtype.kind == "c" else x.astype(np.float64, copy=False)


def _sum(x: Array, y: Array) -> float:
    """The real part of the inner product."""
    if x.dtype.kind == "c":
        return float(np.vdot(x, y).real)
    return float(np.dot(x, y))
