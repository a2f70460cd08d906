"""What lazy operations are made of: each node knows its shape, and fills any range from its parents."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from wconv.errors import ComputedOverflowError
from wconv.tensors import casts
from wconv.tensors.base import Array, LazyTensor, Shape
from wconv.tensors.dtypes import DType

WHOLE_LIMIT = 32 << 20
"""Bytes up to which a transpose reads its block whole; a larger one is read in several passes."""

SEGMENT = 64 << 10
"""Bytes from which separate reads beat reading all and picking."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class UnaryNode(LazyTensor):
    """An operation on one tensor that keeps its dtype and, unless it says otherwise, its shape."""

    PARENTS: ClassVar[tuple[str, ...]] = ("parent",)

    parent: LazyTensor

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return self.parent.dtype

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        return self.parent.shape

    @property
    def block_size(self) -> int:
        return self.parent.block_size

    @property
    def file_position(self) -> tuple[str, int]:
        return self.parent.file_position


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ZerosNode(LazyTensor):
    """Nothing but zeros, which take no memory."""

    shape: Shape
    dtype: DType

    def read_into(self, start: int, stop: int, out: Array) -> None:
        out[:] = 0


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class CastNode(UnaryNode):
    """The parent's values in another dtype; what overflows is told by `casts.take_losses`."""

    target: DType

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return self.target

    def read_into(self, start: int, stop: int, out: Array) -> None:
        casts.cast(self.parent.read_range(start, stop), out)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class AddNumberNode(UnaryNode):
    """The parent plus a number: computed in the parent's dtype, as MLX does with a Python scalar."""

    value: float

    def read_into(self, start: int, stop: int, out: Array) -> None:
        self.parent.read_into(start, stop, out)
        before = casts.count_not_finite(out)
        with np.errstate(all="ignore"):
            np.add(out, out.dtype.type(self.value), out=out)
        if casts.count_not_finite(out) > before:
            raise ComputedOverflowError(f"adding {self.value:g} to it overflows {self.dtype.name}")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class AddTensorsNode(UnaryNode):
    """The parent plus another tensor of its dtype and shape, element by element."""

    PARENTS: ClassVar[tuple[str, ...]] = ("parent", "other")

    other: LazyTensor

    @property
    def block_size(self) -> int:
        return math.lcm(self.parent.block_size, self.other.block_size)

    def read_into(self, start: int, stop: int, out: Array) -> None:
        self.parent.read_into(start, stop, out)
        other = self.other.read_range(start, stop)
        before = casts.count_not_finite(out) + casts.count_not_finite(other)
        with np.errstate(all="ignore"):
            np.add(out, other, out=out)
        if casts.count_not_finite(out) > before:
            raise ComputedOverflowError(
                f"the sum of the two tensors it is made of overflows {self.dtype.name}"
            )


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ReshapeNode(UnaryNode):
    """The parent's elements in another shape."""

    MOVES: ClassVar[bool] = True

    new_shape: Shape

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        return self.new_shape

    def read_into(self, start: int, stop: int, out: Array) -> None:
        self.parent.read_into(start, stop, out)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ViewNode(UnaryNode):
    """The parent's bytes as another dtype."""

    target: DType
    new_shape: Shape

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return self.target

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        return self.new_shape

    @property
    def block_size(self) -> int:
        old, new = self.parent.dtype.itemsize, self.target.itemsize
        return math.lcm(self.parent.block_size * old, new) // new

    def read_into(self, start: int, stop: int, out: Array) -> None:
        old, new = self.parent.dtype.itemsize, self.target.itemsize
        first = start * new // old
        covering = self.parent.read_range(first, -(-stop * new // old)).view(np.uint8)
        out.view(np.uint8)[:] = covering[start * new - first * old : stop * new - first * old]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TransposeNode(UnaryNode):
    """The parent with its axes in another order.

    Leading axes that stay in place make it a row of independent blocks; a block is read whole, or, above
    `WHOLE_LIMIT`, in slabs of output rows with one pass over the block for each.
    """

    MOVES: ClassVar[bool] = True

    axes: Shape

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        return tuple(self.parent.shape[axis] for axis in self.axes)

    @property
    def _kept(self) -> int:
        """Leading axes that stay where they are."""
        return next(at for at, axis in enumerate(self.axes) if at != axis)

    @property
    def block_size(self) -> int:
        block = math.prod(self.shape[self._kept :])
        if block * self.dtype.itemsize <= WHOLE_LIMIT:
            return max(block, 1)
        row = math.prod(self.shape[self._kept + 1 :])
        return max(WHOLE_LIMIT // (row * self.dtype.itemsize), 1) * row

    @property
    def passes(self) -> int:
        kept = self._kept
        block = math.prod(self.shape[kept:])
        if block * self.dtype.itemsize <= WHOLE_LIMIT:
            return 1
        return -(-block // self.block_size)

    def read_into(self, start: int, stop: int, out: Array) -> None:
        kept = self._kept
        block = math.prod(self.shape[kept:])
        if block * self.dtype.itemsize <= WHOLE_LIMIT:
            by_blocks(start, stop, out, block, self._whole_blocks)
            return
        row = math.prod(self.shape[kept + 1 :])
        by_blocks(start, stop, out, row, self._rows_of_blocks)

    def _whole_blocks(self, first: int, last: int, out: Array) -> None:
        kept = self._kept
        inner = self.parent.shape[kept:]
        block = math.prod(inner)
        source = self.parent.read_range(first * block, last * block).reshape(last - first, *inner)
        order = (0, *(axis - kept + 1 for axis in self.axes[kept:]))
        np.copyto(out.reshape(last - first, *self.shape[kept:]), source.transpose(order))

    def _rows_of_blocks(self, first: int, last: int, out: Array) -> None:
        kept = self._kept
        rows = self.shape[kept]
        row = math.prod(self.shape[kept + 1 :])
        while first < last:
            block, begin = divmod(first, rows)
            end = min(rows, begin + last - first)
            self._slab(block, begin, end, out[: (end - begin) * row])
            out = out[(end - begin) * row :]
            first += end - begin

    def _slab(self, block: int, begin: int, end: int, out: Array) -> None:
        """Output rows `begin` to `end` of one block, gathered in one pass over the parent's block."""
        kept = self._kept
        inner = self.parent.shape[kept:]
        order = [axis - kept for axis in self.axes[kept:]]
        target = out.reshape(end - begin, *self.shape[kept + 1 :])
        line = math.prod(inner[1:])
        step = max((1 << 20) // (line * self.dtype.itemsize), 1)
        first = block * math.prod(inner)
        pick = [slice(None)] * len(inner)
        pick[order[0]] = slice(begin, end)
        place = [slice(None)] * len(inner)
        for at in range(0, inner[0], step):
            until = min(at + step, inner[0])
            lines = self.parent.read_range(first + at * line, first + until * line)
            place[order.index(0)] = slice(at, until)
            part = lines.reshape(until - at, *inner[1:])[tuple(pick)]
            target[tuple(place)] = part.transpose(order)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SliceNode(UnaryNode):
    """Every `step`-th element of a range of one axis."""

    MOVES: ClassVar[bool] = True

    axis: int
    start: int
    stop: int
    step: int

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        shape, axis = self.parent.shape, self.axis
        return (*shape[:axis], len(range(self.start, self.stop, self.step)), *shape[axis + 1 :])

    @property
    def _by_segment(self) -> bool:
        """The picked elements lie in runs long enough to be read one by one."""
        return self.step == 1 and self._picked * self.dtype.itemsize >= SEGMENT

    def segments(self) -> Iterator[tuple[int, int]]:
        """The runs of the parent's elements that are read: those that are picked, or all."""
        if not self._by_segment:
            yield 0, self.parent.size
            return
        inner = math.prod(self.parent.shape[self.axis + 1 :])
        block = self.parent.shape[self.axis] * inner
        for outer in range(math.prod(self.parent.shape[: self.axis])):
            yield outer * block + self.start * inner, outer * block + self.stop * inner

    @property
    def _picked(self) -> int:
        """Elements of the output per element of the axes before the sliced one."""
        return math.prod(self.shape[self.axis :])

    @property
    def block_size(self) -> int:
        if not self._by_segment:
            return max(self._picked, 1)
        return self.parent.block_size if self._picked % self.parent.block_size == 0 else 1

    def read_into(self, start: int, stop: int, out: Array) -> None:
        picked = self._picked
        if not self._by_segment:
            by_blocks(start, stop, out, picked, self._whole_blocks)
            return
        inner = math.prod(self.parent.shape[self.axis + 1 :])
        block = self.parent.shape[self.axis] * inner
        while start < stop:
            outer, at = divmod(start, picked)
            count = min(picked - at, stop - start)
            begin = outer * block + self.start * inner + at
            self.parent.read_into(begin, begin + count, out[:count])
            out = out[count:]
            start += count

    def _whole_blocks(self, first: int, last: int, out: Array) -> None:
        inner = math.prod(self.parent.shape[self.axis + 1 :])
        length = self.parent.shape[self.axis]
        block = length * inner
        source = self.parent.read_range(first * block, last * block).reshape(last - first, length, inner)
        picked = source[:, self.start : self.stop : self.step]
        np.copyto(out.reshape(picked.shape), picked)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ConcatNode(LazyTensor):
    """Tensors one after another along an axis; `ends`: where each one's run ends in a run of the output."""

    PARENTS: ClassVar[tuple[str, ...]] = ("parts",)
    MOVES: ClassVar[bool] = True

    parts: tuple[LazyTensor, ...]
    axis: int
    shape: Shape
    ends: tuple[int, ...]

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return self.parts[0].dtype

    @property
    def _outer(self) -> int:
        return math.prod(self.parts[0].shape[: self.axis])

    @property
    def block_size(self) -> int:
        grains = {part.block_size for part in self.parts}
        if self._outer == 1:
            runs = (math.prod(part.shape[self.axis :]) for part in self.parts)
            block_size = grains.pop()
            return block_size if not grains and all(run % block_size == 0 for run in runs) else 1
        block = self.ends[-1]
        return max(block, 1) if block * self.dtype.itemsize < len(self.parts) * SEGMENT else 1

    def read_into(self, start: int, stop: int, out: Array) -> None:
        ends = self.ends
        block = ends[-1]
        if self._outer > 1 and block * self.dtype.itemsize < len(self.parts) * SEGMENT:
            by_blocks(start, stop, out, block, self._whole_blocks)
            return
        while start < stop:
            outer, at = divmod(start, block)
            index = bisect.bisect_right(ends, at)
            run = ends[index] - (ends[index - 1] if index else 0)
            within = at - (ends[index] - run)
            count = min(run - within, stop - start)
            self.parts[index].read_into(outer * run + within, outer * run + within + count, out[:count])
            out = out[count:]
            start += count

    def _whole_blocks(self, first: int, last: int, out: Array) -> None:
        target = out.reshape(last - first, -1)
        begin = 0
        for part, end in zip(self.parts, self.ends, strict=True):
            run = end - begin
            target[:, begin:end] = part.read_range(first * run, last * run).reshape(last - first, run)
            begin = end


def by_blocks(
    start: int, stop: int, out: Array, block: int, compute: Callable[[int, int, Array], None]
) -> None:
    """Fills an arbitrary range with an operation that works in whole blocks of `block` elements.

    `compute(first, last, out)` writes blocks `first` to `last`; blocks that the range cuts are computed
    aside and copied from.
    """
    first, last = start // block, -(-stop // block)
    if first * block == start and last * block == stop:
        compute(first, last, out)
        return
    whole_from, whole_to = -(-start // block), stop // block
    if whole_from >= whole_to:
        aside = np.empty((last - first) * block, out.dtype)
        compute(first, last, aside)
        out[:] = aside[start - first * block : stop - first * block]
        return
    head, tail = whole_from * block - start, stop - whole_to * block
    if head:
        by_blocks(start, whole_from * block, out[:head], block, compute)
    compute(whole_from, whole_to, out[head : out.size - tail])
    if tail:
        by_blocks(whole_to * block, stop, out[out.size - tail :], block, compute)
