"""What codes and scales mean: dense values, computed as a scheme's own library does, by ranges of rows.

A product of a code and a scale of 16 bits is exact in float32, and rounded once to 16 bits it is what a
product in 16 bits is. So all is computed in float32, and rounded to the dtype that the library computes in.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from wconv.errors import FormatError
from wconv.quantized.codes import Unpacked
from wconv.tensors import casts, dtypes
from wconv.tensors.dtypes import DType
from wconv.tensors.kernels import BLOCK, Scratch, float32_to_float16
from wconv.tensors.lazy import Array, LazyTensor, Shape
from wconv.tensors.nodes import UnaryNode, by_blocks

FLOAT32 = dtypes.by_name("float32")

AT_ONCE = 1 << 18
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
        columns = self._columns
        table = np.array(self.table, np.float32) if self.table else None
        paired = isinstance(self.codes, Unpacked) and self.codes.in_pairs
        source = self.codes.packed if isinstance(self.codes, Unpacked) and paired else self.codes
        width = source.shape[-1]
        codes = source.read_range(first * width, last * width).reshape(last - first, width)
        if paired:
            known = np.arange(16, dtype=np.float32) - self.zero if table is None else table
            table = pairs(known, high_first=False)
        high, wide = self.block
        begin, end = first // high, -(-last // high)
        width = self.scales.shape[-1] if self.scales.ndim else 1
        scales = self.scales.read_range(begin * width, end * width).reshape(-1, width)
        zeros = None
        if self.zeros is not None:
            zeros = self.zeros.read_range(begin * width, end * width).reshape(-1, width).astype(np.float32)
        groups = self._groups(width) if self.groups is not None else None
        step = max(AT_ONCE // columns, 1)
        buffer = np.empty((min(step, last - first), columns), np.float32)
        target = out.reshape(last - first, columns)
        for at in range(0, last - first, step):
            until = min(at + step, last - first)
            values = target[at:until] if self.target is FLOAT32 else buffer[: until - at]
            self._values(codes[at:until], table, values)
            rows = np.arange(first + at, first + until) // high - begin
            here = slice(int(rows[0]), int(rows[0]) + 1) if rows[0] == rows[-1] else rows
            self._scale(values, scales[here], None if zeros is None else zeros[here], groups, wide)
            if self.target is not FLOAT32:
                rounded(values.reshape(-1), target[at:until].reshape(-1))

    def _values(self, codes: Array, table: Array | None, values: Array) -> None:
        if table is not None:
            np.take(table, codes, out=values.view(table.dtype), mode="clip")
        elif codes.dtype in (np.uint8, np.int8):
            np.subtract(codes, np.float32(self.zero), out=values, dtype=np.float32)
        else:
            casts.cast(codes.reshape(-1), values.reshape(-1))

    def _scale(
        self, values: Array, scales: Array, zeros: Array | None, groups: Array | None, wide: int
    ) -> None:
        """Applies zeros and scales of these rows in place."""
        if groups is not None:
            scales = scales[:, groups]
            zeros = None if zeros is None else zeros[:, groups]
            target = values
        else:
            grouped = self._in_groups(values, wide)
            if grouped is None:  # the last block of a row is cut
                scales = np.repeat(scales, wide, axis=1)[:, : values.shape[1]]
                zeros = None if zeros is None else np.repeat(zeros, wide, axis=1)[:, : values.shape[1]]
                target = values
            else:
                target = grouped
                scales = scales[:, :, None]
                zeros = None if zeros is None else zeros[:, :, None]
        with np.errstate(all="ignore"):
            if zeros is not None:
                np.subtract(target, zeros, out=target)
            if self.divide:
                np.divide(target, scales, out=target)
            else:
                np.multiply(target, scales, out=target)
            if self.factor:
                np.multiply(target, np.float32(self.factor), out=target)

    @staticmethod
    def _in_groups(values: Array, wide: int) -> Array | None:
        rows, columns = values.shape
        if columns % wide:
            return None if columns > wide else values.reshape(rows, 1, columns)
        return values.reshape(rows, columns // wide, wide)

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
        for at in range(start - start % self.block, stop, step):
            begin, end = max(at, start), min(at + step, stop)
            values = np.empty(end - begin, np.float32)
            if (begin | end) % 2 == 0:
                packed = self.codes.packed.read_range(begin // 2, end // 2)
                np.take(both, packed, out=values.view(both.dtype), mode="clip")
            else:
                np.take(table, self.codes.read_range(begin, end), out=values, mode="clip")
            scales = self.scales.read_range(begin // self.block, -(-end // self.block))
            whole = begin % self.block == 0 and (end - begin) % self.block == 0
            with np.errstate(all="ignore"):
                if whole:
                    grouped = values.reshape(-1, self.block)
                    np.multiply(grouped, scales[:, None], out=grouped)
                else:
                    rows = np.arange(begin, end) // self.block - begin // self.block
                    np.multiply(values, scales[rows], out=values)
            part = out[begin - start : end - start]
            if self.target is FLOAT32:
                part[:] = values
            else:
                rounded(values, part)


def pairs(table: Array, *, high_first: bool) -> Array:
    """For each byte the values of its two codes of 4 bits, side by side."""
    both = np.arange(256)
    halves = (both >> 4, both & 15) if high_first else (both & 15, both >> 4)
    return np.ascontiguousarray(np.stack([table[half] for half in halves], axis=1)).view(np.complex64)[:, 0]


_local = threading.local()


def rounded(values: Array, out: Array) -> None:
    """float32 in another dtype, as `casts.cast` has it; faster to float16 where many values are zero."""
    if out.dtype != np.float16 or values.size > BLOCK:
        casts.cast(values, out)
        return
    scratch: Scratch | None = getattr(_local, "scratch", None)
    if scratch is None:
        scratch = _local.scratch = Scratch()
    with np.errstate(all="ignore"):
        odd = float32_to_float16(values, out, scratch)
        if odd is None:
            return
        # a quarter of a model's codes are zeros, which the kernel takes for irregular
        some = values != 0
        np.multiply(out.view(np.uint16), some.view(np.uint8), out=out.view(np.uint16))
        np.logical_and(odd, some, out=odd)
        if odd.any():
            again = np.empty(np.count_nonzero(odd), np.float16)
            casts.cast(values[odd], again)  # which counts what overflows
            out[odd] = again
