"""What codes and scales mean: dense values, computed as a scheme's own library does, by ranges of rows.

A product of a code and a scale of 16 bits is exact in float32, and rounded once to 16 bits it is what a
product in 16 bits is. So all is computed in float32, and rounded to the dtype that the library computes in.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from wconv.errors import FormatError
from wconv.quantized.codes import Unpacked
from wconv.tensors import casts, dtypes
from wconv.tensors.borrowed import borrowed
from wconv.tensors.dtypes import DType
from wconv.tensors.kernels import e4m3_scaled_down
from wconv.tensors.lazy import Array, LazyTensor, Shape
from wconv.tensors.nodes import UnaryNode, by_blocks
from wconv.tensors.rounded import rounded

FLOAT32 = dtypes.by_name("float32")

AT_ONCE = 1 << 17
"""Elements that are computed together, so that float32 numbers stay in the cache."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ScaleValues(UnaryNode):
    """Scales as float32, checked as they are read.

    Attributes:
        name: the tensor of the source, for messages.
        exponents: the scales are bytes, each the exponent of a power of two plus 127.
        signed: negative scales are meant.
        by, over: one float32 that each scale is multiplied with, or divided by.
    """

    PARENTS: ClassVar[tuple[str, ...]] = ("parent", "by", "over")

    name: str
    exponents: bool = False
    signed: bool = False
    by: LazyTensor | None = None
    over: LazyTensor | None = None

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return FLOAT32

    def read_into(self, start: int, stop: int, out: Array) -> None:
        found = self.parent.read_range(start, stop)
        if self.exponents:
            if found.view(np.uint8).max(initial=0) == 255:
                raise FormatError(f"{self.name} holds NaN where a scale should be: the file is damaged")
            np.copyto(out, powers()[found.view(np.uint8)])
        else:
            with np.errstate(all="ignore"):
                casts.cast(found, out)
        self._check(out)
        with np.errstate(all="ignore"):
            if self.by is not None:
                np.multiply(out, self.by.read_range().astype(np.float32), out=out)
            if self.over is not None:
                np.divide(out, self.over.read_range().astype(np.float32), out=out)
        if self.by is not None or self.over is not None:
            self._check(out)

    def _check(self, scales: Array) -> None:
        if not scales.size:
            return
        low, high = scales.min(), scales.max()
        if not (math.isfinite(low) and math.isfinite(high)):
            what = "NaN" if np.isnan(low) else "an infinity"
            raise FormatError(f"{self.name} holds {what} where a scale should be: the file is damaged")
        if low < 0 and not self.signed:
            raise FormatError(f"{self.name} holds a negative scale, {low:g}: the file is damaged")


def powers() -> Array:
    """2 to the power of each byte minus 127."""
    with np.errstate(over="ignore"):
        return np.ldexp(np.float32(1), np.arange(256, dtype=np.int32) - 127)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class NestedScales(LazyTensor):
    """Scales that are themselves 8-bit codes with scales for blocks of them (bitsandbytes).

    Attributes:
        table: the value of each code.
        absmax: a scale for each `block` of codes.
        offset: added to all.
    """

    PARENTS: ClassVar[tuple[str, ...]] = ("codes", "table", "absmax")

    codes: LazyTensor
    table: LazyTensor
    absmax: LazyTensor
    block: int
    offset: float

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return FLOAT32

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        return self.codes.shape

    def read_into(self, start: int, stop: int, out: Array) -> None:
        values = self.table.read_range()[self.codes.read_range(start, stop)]
        first = start // self.block
        absmax = self.absmax.read_range(first, -(-stop // self.block))
        np.multiply(values, absmax[np.arange(start, stop) // self.block - first], out=out)
        np.add(out, np.float32(self.offset), out=out)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Decoded(LazyTensor):
    """(value of a code - zero) * scale, rounded to the dtype that the scheme's library computes in.

    Attributes:
        codes: (…, columns), uint8 or int8, or a float8 that is its own value.
        scales: float32; a matrix of blocks, of which each covers `block` rows and columns of `codes`, whose
            leading axes are taken together.
        table: the value of each code, where that is not the code itself.
        zeros: like `scales`, uint8 or int8; None for `zero`.
        groups: the scale's column of each column, where that is not its place divided by the block's width.
        name: the weight, for messages.
        factor: multiplied with each product, in float32.
        divide: the scale divides.
    """

    PARENTS: ClassVar[tuple[str, ...]] = ("codes", "scales", "zeros", "groups")

    codes: LazyTensor
    scales: LazyTensor
    block: tuple[int, int]
    target: DType
    name: str
    table: tuple[float, ...] = ()
    zeros: LazyTensor | None = None
    zero: int = 0
    groups: LazyTensor | None = None
    factor: float = 0.0
    divide: bool = False

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return self.target

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        return self.codes.shape

    @property
    def _columns(self) -> int:
        return max(self.shape[-1], 1)

    @property
    def block_size(self) -> int:
        return math.lcm(self._columns, self.codes.block_size)

    def read_into(self, start: int, stop: int, out: Array) -> None:
        by_blocks(start, stop, out, self._columns, self._rows)

    def _rows(self, first: int, last: int, out: Array) -> None:
        count, columns = last - first, self._columns
        table = np.array(self.table, np.float32) if self.table else None
        paired = isinstance(self.codes, Unpacked) and self.codes.in_pairs
        source = self.codes.packed if isinstance(self.codes, Unpacked) and paired else self.codes
        width = source.shape[-1]
        if paired:
            known = np.arange(16, dtype=np.float32) - self.zero if table is None else table
            table = pairs(known, high_first=False)
        step = min(max(AT_ONCE // columns, 1), count)
        nbytes = source.dtype.nbytes(count * width) + step * (columns * 4 + width * 8)
        with borrowed(nbytes, 3) as arena:
            codes = arena.empty((count * width,), source.dtype.numpy)
            codes = source.read_range(first * width, last * width, codes).reshape(count, width)
            buffer = arena.empty((step, columns), np.float32)
            indices = arena.empty((step, width), np.intp) if table is not None else None
            grid = self._grid(first, last)
            target = out.reshape(count, columns)
            for at, until in self._runs(first, last, step):
                values = target[at:until] if self.target is FLOAT32 else buffer[: until - at]
                raised = grid.raised is not None and e4m3_scaled_down(codes[at:until], values)
                if not raised:
                    self._values(codes[at:until], table, indices, values)
                self._scale(values, first + at, grid, raised=raised)
                if self.target is not FLOAT32:
                    rounded(values.reshape(-1), target[at:until].reshape(-1), finite=grid.bounded)

    def _runs(self, first: int, last: int, step: int) -> Iterator[tuple[int, int]]:
        """Rows that are computed together, counted from `first`: of one row of blocks, if those are high."""
        at, end, high = 0, last - first, self.block[0]
        while at < end:
            until = min(at + step, end)
            if high > 1:
                until = min(until, ((first + at) // high + 1) * high - first)
            yield at, until
            at = until

    def _grid(self, first: int, last: int) -> _Grid:
        """Scales and zeros of the blocks that hold these rows."""
        begin, end = first // self.block[0], -(-last // self.block[0])
        width = self.scales.shape[-1] if self.scales.ndim else 1
        scales = self.scales.read_range(begin * width, end * width).reshape(-1, width)
        zeros = None
        if self.zeros is not None:
            zeros = self.zeros.read_range(begin * width, end * width).reshape(-1, width).astype(np.float32)
        groups = self._groups(width) if self.groups is not None else None
        low, high = scales.min(initial=0), scales.max(initial=0)
        raised = None
        if self.codes.dtype.name == "float8_e4m3fn" and max(high, -low) < 2.0**7 and not self.divide:
            raised = scales * np.float32(2.0**120)
        bounded = max(high, -low) * max(abs(self.factor), 1) < 2.0**100 and not self.divide
        return _Grid(begin, scales, zeros, groups, raised, bool(bounded))

    def _values(self, codes: Array, table: Array | None, indices: Array | None, values: Array) -> None:
        if table is not None and indices is not None:
            indices = indices[: len(codes)]
            np.copyto(indices, codes)  # as `take` does it, in memory of its own
            np.take(table, indices, out=values.view(table.dtype), mode="clip")
        elif codes.dtype in (np.uint8, np.int8):
            np.copyto(values, codes)
            if self.zero:
                np.subtract(values, np.float32(self.zero), out=values)
        else:
            casts.cast(codes.reshape(-1), values.reshape(-1))

    def _scale(self, values: Array, row: int, grid: _Grid, *, raised: bool) -> None:
        """Applies zeros and scales in place, to rows from `row` on."""
        high, wide = self.block
        rows = np.arange(row, row + len(values)) // high - grid.begin
        alike = rows[0] == rows[-1]
        here = slice(int(rows[0]), int(rows[0]) + 1) if alike else rows
        columns = values.shape[1]
        # one long row for all, or blocks of which a row's last is cut; else each block by itself
        by_columns = (alike and len(values) > 1) or (columns % wide and columns > wide)

        def fitted(blocks: Array) -> Array:
            if grid.groups is not None:
                return blocks[:, grid.groups]
            return _each(blocks, wide, columns) if by_columns else blocks[:, :, None]

        factors = fitted((grid.raised if raised and grid.raised is not None else grid.scales)[here])
        zeros = None if grid.zeros is None else fitted(grid.zeros[here])
        whole = grid.groups is not None or by_columns
        target = values if whole else values.reshape(len(values), -1, min(wide, columns))
        with np.errstate(all="ignore"):
            if zeros is not None:
                np.subtract(target, zeros, out=target)
            if self.divide:
                np.divide(target, factors, out=target)
            else:
                np.multiply(target, factors, out=target)
            if self.factor:
                np.multiply(target, np.float32(self.factor), out=target)

    def _groups(self, count: int) -> Array | None:
        """The scale's column of each column; None where it is what the place says."""
        assert self.groups is not None
        found = self.groups.read_range()
        if found.size and (found.min() < 0 or found.max() >= count):
            raise FormatError(
                f"{self.name}: g_idx names group {found.min() if found.min() < 0 else found.max()} of"
                f" {count}: the file is damaged"
            )
        if np.array_equal(found, np.arange(found.size, dtype=found.dtype) // self.block[1]):
            return None
        each = np.bincount(found, minlength=count)
        if each.max() > self.block[1] or (found.size % self.block[1] == 0 and each.min() < self.block[1]):
            raise FormatError(
                f"{self.name}: g_idx is no permutation of {count} groups of {self.block[1]}:"
                " the file is damaged"
            )
        return found


@dataclass(frozen=True, slots=True)
class _Grid:
    """Scales of some rows of blocks.

    Attributes:
        begin: the number of the first row of blocks.
        zeros: float32, like `scales`.
        groups: the scale's column of each column, where that is not what its place says.
        raised: the scales times 2^120, where codes are read 2^-120 times as large as they are.
        bounded: no product is beyond what bfloat16 and float32 hold, unless a code is.
    """

    begin: int
    scales: Array
    zeros: Array | None
    groups: Array | None
    raised: Array | None
    bounded: bool


def _each(blocks: Array, wide: int, columns: int) -> Array:
    """A number for each column out of one for each `wide` columns."""
    if blocks.shape[1] == 1:
        return blocks
    return np.repeat(blocks, wide, axis=1)[:, :columns]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FlatDecoded(LazyTensor):
    """Like `Decoded`, with a scale for each run of `block` elements, whatever the rows are (bitsandbytes)."""

    PARENTS: ClassVar[tuple[str, ...]] = ("codes", "scales", "table")

    codes: Unpacked
    scales: LazyTensor
    block: int
    table: LazyTensor
    target: DType
    shape: Shape

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return self.target

    @property
    def block_size(self) -> int:
        return self.block

    def read_into(self, start: int, stop: int, out: Array) -> None:
        table = self.table.read_range()
        both = pairs(table, high_first=True)
        step = max(AT_ONCE // self.block, 1) * self.block
        with borrowed(step * (4 + 1 + 4), 3) as arena:
            buffer = arena.empty((step,), np.float32)
            packed = arena.empty((step // 2,), np.uint8)
            indices = arena.empty((step // 2,), np.intp)
            for at in range(start - start % self.block, stop, step):
                begin, end = max(at, start), min(at + step, stop)
                values = buffer[: end - begin]
                if (begin | end) % 2 == 0:
                    half = (end - begin) // 2
                    np.copyto(
                        indices[:half], self.codes.packed.read_range(begin // 2, end // 2, packed[:half])
                    )
                    np.take(both, indices[:half], out=values.view(both.dtype), mode="clip")
                else:
                    np.take(table, self.codes.read_range(begin, end), out=values, mode="clip")
                self._scale(values, begin, end)
                part = out[begin - start : end - start]
                if self.target is FLOAT32:
                    part[:] = values
                else:
                    rounded(values, part)

    def _scale(self, values: Array, begin: int, end: int) -> None:
        scales = self.scales.read_range(begin // self.block, -(-end // self.block))
        with np.errstate(all="ignore"):
            if begin % self.block == 0 and (end - begin) % self.block == 0:
                grouped = values.reshape(-1, self.block)
                np.multiply(grouped, scales[:, None], out=grouped)
            else:
                rows = np.arange(begin, end) // self.block - begin // self.block
                np.multiply(values, scales[rows], out=values)


def pairs(table: Array, *, high_first: bool) -> Array:
    """For each byte the values of its two codes of 4 bits, side by side."""
    both = np.arange(256)
    halves = (both >> 4, both & 15) if high_first else (both & 15, both >> 4)
    return np.ascontiguousarray(np.stack([table[half] for half in halves], axis=1)).view(np.complex64)[:, 0]
