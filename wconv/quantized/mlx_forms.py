"""Which of MLX's own quantized forms holds every value of a weight, and that form.

MLX computes `code * scale + bias` and rounds after each step to the scales' dtype. A form is given only where
that makes, for every code that can occur with every scale, the value that the scheme's own library computes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from wconv.quantized.codes import Repacked
from wconv.quantized.stored import MlxForm, sixteen
from wconv.quantized.values import powers
from wconv.tensors import casts, dtypes
from wconv.tensors.dtypes import DType
from wconv.tensors.lazy import Array, LazyTensor, Shape
from wconv.tensors.nodes import UnaryNode, by_blocks
from wconv.tensors.quantize import MODES, Quantization

UINT8 = dtypes.by_name("uint8")

ROWS_AT_ONCE = 1 << 16
"""Scales that are checked together."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Biases(LazyTensor):
    """What MLX adds: each scale times minus its zero."""

    PARENTS: ClassVar[tuple[str, ...]] = ("scales", "zeros")

    scales: LazyTensor
    zeros: LazyTensor | None
    zero: int
    dtype: DType

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        return self.scales.shape

    @property
    def block_size(self) -> int:
        return math.lcm(self.scales.block_size, self.zeros.block_size if self.zeros is not None else 1)

    def read_into(self, start: int, stop: int, out: Array) -> None:
        values = self.scales.read_range(start, stop).astype(np.float32)
        zeros = np.float32(self.zero) if self.zeros is None else self.zeros.read_range(start, stop)
        np.multiply(values, -np.asarray(zeros, np.float32), out=values)
        casts.cast(values + np.float32(0), out)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Widened(LazyTensor):
    """A matrix whose every element is repeated along the last axis and along the one before."""

    PARENTS: ClassVar[tuple[str, ...]] = ("parent",)

    parent: LazyTensor
    high: int
    wide: int
    shape: Shape

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return self.parent.dtype

    def read_into(self, start: int, stop: int, out: Array) -> None:
        by_blocks(start, stop, out, max(self.shape[-1], 1), self._rows)

    def _rows(self, first: int, last: int, out: Array) -> None:
        columns, width = self.shape[-1], self.parent.shape[-1]
        begin = first // self.high
        found = self.parent.read_range(begin * width, -(-last // self.high) * width).reshape(-1, width)
        wide = np.repeat(found, self.wide, axis=1)[:, :columns]
        out.reshape(last - first, columns)[:] = wide[np.arange(first, last) // self.high - begin]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Exponents(LazyTensor):
    """Scales that are powers of two, as the bytes of their exponents plus 127."""

    PARENTS: ClassVar[tuple[str, ...]] = ("scales",)

    scales: LazyTensor

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return UINT8

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        return self.scales.shape

    def read_into(self, start: int, stop: int, out: Array) -> None:
        _, exponents = np.frexp(self.scales.read_range(start, stop).astype(np.float32))
        np.copyto(out, exponents + 126, casting="unsafe")


def affine(
    codes: LazyTensor,
    bits: int,
    group: int,
    scales: LazyTensor,
    *,
    zeros: LazyTensor | None = None,
    zero: int = 0,
    stored: LazyTensor | None = None,
    most: int | None = None,
) -> MlxForm | None:
    """The affine form of codes with a scale for each group of a row; None where it does not hold every value.

    Args:
        codes: (…, columns), uint8.
        scales: (…, groups) in their own dtype.
        zeros: like `scales`, uint8; None for `zero`.
        stored: the codes as MLX packs them, where the source has them so.
        most: the largest code that occurs, where not all do.
    """
    columns = codes.shape[-1]
    if bits not in MODES["affine"].bits or not sixteen(scales.dtype) or columns * bits % 32:
        return None
    sizes = MODES["affine"].group_sizes
    size = (
        group if group in sizes else next((one for one in sorted(sizes, reverse=True) if group % one == 0), 0)
    )
    if not size or columns % size or group * scales.shape[-1] != columns:
        return None
    if not holds(scales, zeros, zero, (1 << bits) - 1 if most is None else most):
        return None
    biases: LazyTensor = Biases(scales, zeros, zero, scales.dtype)
    if size != group:
        shape = (*scales.shape[:-1], columns // size)
        scales = Widened(scales, 1, group // size, shape)
        biases = Widened(biases, 1, group // size, shape)
    weight = stored if stored is not None else Repacked(codes, bits)
    return MlxForm(Quantization("affine", bits, size), weight, scales, biases)


def holds(scales: LazyTensor, zeros: LazyTensor | None, zero: int, most: int) -> bool:
    """Whether each code up to `most` times each scale, plus the bias, rounds to (code - zero) * scale.

    It reads the scales, up to the first that does not.
    """
    block_size = max(scales.block_size, zeros.block_size if zeros is not None else 1)
    step = max(ROWS_AT_ONCE // block_size, 1) * block_size
    codes = np.arange(most + 1, dtype=np.float32)
    at, count = 0, min(64, scales.size) if block_size == 1 else step
    while at < scales.size:
        until = min(at + count, scales.size)
        found = scales.read_range(at, until)
        taken = None if zeros is None else zeros.read_range(at, until)
        found, taken = _distinct(found, taken)
        for begin in range(0, found.size, 256):
            here = slice(begin, begin + 256)
            if not _hold(found[here], zero if taken is None else taken[here], codes):
                return False
        at, count = until, step
    return True


def _distinct(scales: Array, zeros: Array | None) -> tuple[Array, Array | None]:
    """Each pair of a scale of 16 bits and a zero of 8 once: scales that a form holds are few."""
    bits = scales.view(np.uint16)
    if zeros is None:
        return np.unique(bits).view(scales.dtype), None
    pairs = np.unique(bits.astype(np.uint32) << 8 | zeros.view(np.uint8))
    return (pairs >> 8).astype(np.uint16).view(scales.dtype), pairs.astype(np.uint8).view(zeros.dtype)


def _hold(scales: Array, zeros: Array | int, codes: Array) -> bool:
    dtype = scales.dtype
    wide = scales.astype(np.float32)[:, None]
    offsets = np.asarray(zeros, np.float32).reshape(-1, 1)
    with np.errstate(all="ignore"):
        biases = (wide * -offsets).astype(dtype).astype(np.float32)
        products = (wide * codes).astype(dtype).astype(np.float32)
        there = (products + biases).astype(dtype)
        here = (wide * (codes - offsets)).astype(dtype)
    return bool(np.array_equal(there, here))


def powers_of_two(scales: LazyTensor) -> bool:
    """Whether every scale is a power of two that a byte holds; read up to the first that is not."""
    known = powers()[:255]
    at, count = 0, min(64, scales.size)
    while at < scales.size:
        until = min(at + count, scales.size)
        found = scales.read_range(at, until).astype(np.float32)
        if not np.isin(found, known).all():
            return False
        at, count = until, ROWS_AT_ONCE
    return True


def words(tensor: LazyTensor) -> LazyTensor:
    """The bytes of packed codes as the uint32 that MLX has."""
    return tensor.view("uint32")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Checked(UnaryNode):
    """Scales as the bytes that they are, looked at as they are read: `values` refuses what is none."""

    PARENTS: ClassVar[tuple[str, ...]] = ("parent", "values")

    values: LazyTensor

    def read_into(self, start: int, stop: int, out: Array) -> None:
        self.values.read_range(start, stop)
        self.parent.read_into(start, stop, out)


def floating(
    mode: str, codes: LazyTensor, scales: LazyTensor, values: LazyTensor | None = None
) -> MlxForm | None:
    """A form whose codes are small floats, out of bytes that are MLX's already; None where these do not fit.

    Args:
        codes: bytes, (…, bytes of a row).
        scales: bytes, one for each group of a row.
        values: the scales as numbers, which refuse NaN as they are read, where `scales` do not.
    """
    how = Quantization.of(mode)
    row = codes.shape[-1]
    columns = row * 8 // how.bits
    if columns % how.group_size or scales.shape != (*codes.shape[:-1], columns // how.group_size) or row % 4:
        return None
    told = scales.view("uint8")
    return MlxForm(how, words(codes), told if values is None else Checked(told, values))
