"""Weights that were stored in 8 bits with scales of their own, as the consumers decode them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from wconv.errors import ComputedOverflowError, LayoutError
from wconv.tensors import casts, dtypes
from wconv.tensors.dtypes import DType
from wconv.tensors.lazy import Array, LazyTensor, Shape
from wconv.tensors.nodes import by_blocks

BLOCK = 128
"""Rows and columns that share a scale in DeepSeek's format, where scales are a matrix."""

RESULT = dtypes.by_name("bfloat16")
"""What the consumers decode to, before any cast that the user asks for."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class BlockScaled(LazyTensor):
    """An 8-bit matrix times its scales, one for each block; or any 8-bit tensor times a single scale,
    or times one for each index of its first axis.

    The product is rounded as MLX does: in the wider of bfloat16 and the scale's dtype, then to bfloat16.
    """

    PARENTS: ClassVar[tuple[str, ...]] = ("weight", "scale")

    weight: LazyTensor
    scale: LazyTensor

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return RESULT

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        return self.weight.shape

    @property
    def block_size(self) -> int:
        return max(self.shape[-1], 1) if self.scale.ndim == 2 else 1

    def read_into(self, start: int, stop: int, out: Array) -> None:
        if self.scale.ndim == 0:
            self._times(self.weight.read_range(start, stop), self.scale.read_range(), out)
        elif self.scale.ndim == 1:
            each = self.size // self.shape[0]
            indices = np.arange(start, stop) // each
            first = int(start // each)
            scale = self.scale.read(first, -(-stop // each))
            self._times(self.weight.read_range(start, stop), scale[indices - first], out)
        else:
            by_blocks(start, stop, out, self.shape[-1], self._rows)

    def _rows(self, first: int, last: int, out: Array) -> None:
        columns = self.shape[-1]
        scale = self.scale.read(first // BLOCK, -(-last // BLOCK))
        wide = np.repeat(scale, BLOCK, axis=1)[:, :columns]
        rows = np.arange(first, last) // BLOCK - first // BLOCK
        weight = self.weight.read_range(first * columns, last * columns).reshape(last - first, columns)
        self._times(weight, wide[rows], out.reshape(last - first, columns))

    def _times(self, weight: Array, scale: Array, out: Array) -> None:
        with np.errstate(all="ignore"):
            np.copyto(out, weight.astype(out.dtype) * scale, casting="same_kind")
            odd = casts.count_not_finite(out)
            if odd and odd > casts.count_not_finite(weight):
                path, _ = self.scale.file_position
                raise ComputedOverflowError(f"its scales in {path} make it infinite in {RESULT}")


def dequantized(weight: LazyTensor, scale: LazyTensor) -> LazyTensor:
    """`weight` in bfloat16, decoded with its scales.

    Raises:
        LayoutError: the weight is not in 8 bits, or the scales do not fit its shape.
    """
    if weight.dtype.name != "float8_e4m3fn":
        raise LayoutError(f"a {weight.dtype.name} weight of shape {weight.shape} has scales of its own")
    if scale.ndim == 0 or scale.size == 1:
        return BlockScaled(weight, scale.reshape(()))
    if weight.ndim > 2 and scale.shape == (weight.shape[0], *(1,) * (weight.ndim - 1)):
        return BlockScaled(weight, scale.reshape((-1,)))
    blocks = tuple(-(-length // BLOCK) for length in weight.shape)
    if weight.ndim != 2 or scale.shape != blocks:
        raise LayoutError(f"scales of shape {scale.shape} do not fit a weight of shape {weight.shape}")
    return BlockScaled(weight, scale)


def dequantized_of_padded(weight: LazyTensor, scale: LazyTensor) -> LazyTensor:
    """Like `dequantized`; scales of blocks that the weight does not reach are left out.

    Raises:
        LayoutError: the weight is not in 8 bits, or there are too few scales for its shape.
    """
    if weight.ndim == scale.ndim == 2:
        for axis, length in enumerate(weight.shape):
            scale = scale.slice(axis, 0, min(-(-length // BLOCK), scale.shape[axis]))
    return dequantized(weight, scale)
