"""Quantization in the lazy graph: a weight becomes codes, scales and biases in one pass, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from wconv.errors import WconvError
from wconv.tensors import casts, dtypes
from wconv.tensors.casts import Overflow
from wconv.tensors.dequantize import dequantize
from wconv.tensors.dtypes import DType
from wconv.tensors.lazy import Array, LazyTensor, Shape
from wconv.tensors.multi import MultiNode
from wconv.tensors.nodes import by_blocks
from wconv.tensors.quantize import Quantization, quantize

DENSE = ("float16", "bfloat16", "float32")
"""Dtypes that are quantized, as MLX does."""

GROUPS_AT_ONCE = 1024
"""Groups that are cheapest computed together: what the kernels take at once."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Quantize(MultiNode):
    """A weight as MLX stores it: uint32 codes, scales, and biases where the mode has them.

    A step is one group. Elements that are NaN or infinite spoil their group; they are counted as lost,
    with an infinite magnitude.
    """

    parent: LazyTensor
    how: Quantization

    @property
    def results(self) -> tuple[tuple[DType, Shape], ...]:
        *rows, columns = self.parent.shape
        scale = dtypes.by_name(self.how.scale_dtype(self.parent.dtype.name))
        groups = (*rows, columns // self.how.group_size)
        codes = dtypes.by_name("uint32"), (*rows, columns * self.how.bits // 32)
        return codes, *[(scale, groups)] * (2 if self.how.has_biases else 1)

    @property
    def steps(self) -> int:
        return self.parent.size // self.how.group_size

    @property
    def grain(self) -> int:
        whole = math.lcm(self.parent.grain, self.how.group_size) // self.how.group_size
        return max(GROUPS_AT_ONCE // whole, 1) * whole

    def read_into(self, first_step: int, last_step: int, outs: Sequence[Array | None]) -> None:
        size = self.how.group_size
        before = casts.losses().count
        values = self.parent.elements(first_step * size, last_step * size)
        # what a cast made infinite just now is counted already
        damaged = casts.count_not_finite(values) - (casts.losses().count - before)
        if damaged > 0:
            casts.add_loss(Overflow(damaged, math.inf))
        made = quantize(values, self.how)
        parts = (made.codes.reshape(-1).view(np.uint32), made.scales, made.biases)
        for out, part in zip(outs, parts, strict=False):
            if out is not None and part is not None:
                out[:] = part


def quantized(tensor: LazyTensor, how: Quantization) -> tuple[LazyTensor, ...]:
    """Codes, scales and, where the mode has them, biases of a weight, each of them lazy.

    Raises:
        WconvError: the weight is not floating, not a matrix, or its rows are not whole groups.
    """
    if tensor.dtype.name not in DENSE:
        raise WconvError(f"a weight of {tensor.dtype.name} cannot be quantized: {', '.join(DENSE)} can")
    if tensor.ndim < 2 or tensor.shape[-1] % how.group_size or not tensor.size:
        raise WconvError(f"a weight of shape {tensor.shape} does not have whole groups of {how.group_size}")
    return Quantize(tensor, how).outputs


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Dequantized(LazyTensor):
    """The dense weight that MLX's codes, scales and biases stand for."""

    codes: LazyTensor
    scales: LazyTensor
    biases: LazyTensor | None
    how: Quantization
    dtype: DType
    shape: Shape

    PARENTS: ClassVar[tuple[str, ...]] = ("codes", "scales", "biases")

    @property
    def parents(self) -> tuple[LazyTensor, ...]:
        return tuple(one for one in (self.codes, self.scales, self.biases) if one is not None)

    def with_parents(self, *parents: LazyTensor) -> LazyTensor:
        codes, scales, *rest = parents
        biases = rest[0] if rest else None
        return Dequantized(codes, scales, biases, self.how, self.dtype, self.shape)

    @property
    def grain(self) -> int:
        return self.how.group_size

    @property
    def origin(self) -> tuple[str, int]:
        return self.codes.origin

    def fill(self, start: int, stop: int, out: Array) -> None:
        by_blocks(start, stop, out, self.how.group_size, self._groups)

    def _groups(self, first: int, last: int, out: Array) -> None:
        words = self.how.row_bytes(self.how.group_size) // 4
        codes = self.codes.elements(first * words, last * words)
        scales = self.scales.elements(first, last)
        biases = None if self.biases is None else self.biases.elements(first, last)
        out[:] = dequantize(codes, scales, biases, self.how, self.dtype.numpy).reshape(-1)


def dequantized(
    codes: LazyTensor, scales: LazyTensor, biases: LazyTensor | None, how: Quantization
) -> LazyTensor:
    """The dense weight of MLX's quantized form, as MLX's `dequantize` gives it.

    It has the dtype of the scales for affine, and bfloat16 for the other modes.

    Raises:
        WconvError: the shapes or dtypes do not belong together.
    """
    rows = codes.shape[:-1]
    columns = codes.shape[-1] * 32 // how.bits if codes.shape else 0
    groups = (*rows, columns // how.group_size)
    fits = (
        codes.ndim >= 2
        and codes.dtype.name == "uint32"
        and columns % how.group_size == 0
        and scales.shape == groups
        and (biases is None) != how.has_biases
        and (biases is None or biases.shape == groups)
        and (scales.dtype.name in DENSE if how.has_biases else scales.dtype.name == "uint8")
    )
    if not fits:
        told = f"codes {codes.dtype.name} {codes.shape}, scales {scales.dtype.name} {scales.shape}"
        raise WconvError(f"{told} are not {how.mode}, {how.bits} bits, groups of {how.group_size}")
    dtype = scales.dtype if how.has_biases else dtypes.by_name("bfloat16")
    return Dequantized(codes, scales, biases, how, dtype, (*rows, columns))
