"""Quantization in the lazy graph: a weight becomes codes, scales and biases in one pass, and back."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from wconv.errors import WconvError
from wconv.tensors import casts, dtypes
from wconv.tensors.borrowed import borrowed
from wconv.tensors.casts import Overflow
from wconv.tensors.dtypes import DType
from wconv.tensors.lazy import Array, LazyTensor, Shape
from wconv.tensors.multi import MultiNode
from wconv.tensors.quantize import Quantization, quantize_into
from wconv.tensors.quantize_columns import AT_ONCE

DENSE = ("float16", "bfloat16", "float32")
"""Dtypes that are quantized, as MLX does."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class QuantizeNode(MultiNode):
    """A weight as MLX stores it: uint32 codes, scales, and biases where the mode has them.

    A step is one group. Elements that are NaN or infinite spoil their group; they are counted as lost,
    with an infinite magnitude.
    """

    parent: LazyTensor
    how: Quantization

    @property
    def results(self) -> tuple[tuple[DType, Shape], ...]:
        return _results(self.parent.shape, self.parent.dtype.name, self.how)

    @property
    def steps(self) -> int:
        return self.parent.size // self.how.group_size

    @property
    def block_size(self) -> int:
        whole = math.lcm(self.parent.block_size, self.how.group_size) // self.how.group_size
        return max(AT_ONCE // self.how.group_size // whole, 1) * whole

    def read_into(self, first_step: int, last_step: int, outs: Sequence[Array | None]) -> None:
        size, steps = self.how.group_size, last_step - first_step
        before = casts.losses().count
        unwanted = [
            (dtype, steps * each) if out is None else (dtype, 0)
            for out, each, (dtype, _) in zip(outs, self.step_sizes, self.results, strict=True)
        ]
        nbytes = sum(dtype.nbytes(count) for dtype, count in (*unwanted, (self.parent.dtype, steps * size)))
        with borrowed(nbytes, 1 + len(outs)) as arena:
            values = self.parent.read_range(
                first_step * size, last_step * size, arena.empty((steps * size,), self.parent.dtype.numpy)
            )
            made = [
                arena.empty((count,), dtype.numpy) if out is None else out
                for out, (dtype, count) in zip(outs, unwanted, strict=True)
            ]
            if quantize_into(values, self.how, made[0], made[1], made[2] if self.how.has_biases else None):
                return
            # what a cast made infinite just now is counted already
            damaged = casts.count_not_finite(values) - (casts.losses().count - before)
        if damaged > 0:
            casts.add_loss(Overflow(damaged, math.inf))


@functools.lru_cache(maxsize=1024)
def _results(shape: Shape, dtype: str, how: Quantization) -> tuple[tuple[DType, Shape], ...]:
    """What a node of such a weight gives: a model has few shapes, and each is asked for many times."""
    *rows, columns = shape
    scale = dtypes.by_name(how.scale_dtype(dtype))
    groups = (*rows, columns // how.group_size)
    codes = dtypes.by_name("uint32"), (*rows, columns * how.bits // 32)
    return codes, *[(scale, groups)] * (2 if how.has_biases else 1)


def quantized(tensor: LazyTensor, how: Quantization) -> tuple[LazyTensor, ...]:
    """Codes, scales and, where the mode has them, biases of a weight, each of them lazy.

    Raises:
        WconvError: the weight is not floating, not a matrix, or its rows are not whole groups.
    """
    if tensor.dtype.name not in DENSE:
        raise WconvError(f"a weight of {tensor.dtype.name} cannot be quantized: {', '.join(DENSE)} can")
    if tensor.ndim < 2 or tensor.shape[-1] % how.group_size or not tensor.size:
        raise WconvError(f"a weight of shape {tensor.shape} does not have whole groups of {how.group_size}")
    return QuantizeNode(tensor, how).outputs
