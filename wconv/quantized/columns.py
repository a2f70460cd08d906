"""Factors of what goes into a layer, taken into its weight (`pre_quant_scale`): each column times its own.

A program multiplies the input of the layer with them; a weight whose columns are multiplied gives the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from wconv.errors import FormatError
from wconv.quantized.stored import check_dtype, misfit
from wconv.quantized.values import FLOAT32
from wconv.tensors import casts
from wconv.tensors.dtypes import DType
from wconv.tensors.lazy import Array, LazyTensor
from wconv.tensors.nodes import UnaryNode, by_blocks

FLOATS = ("float32", "bfloat16", "float16")


def scaled_columns(dense: LazyTensor, factors: LazyTensor, name: str, weight: str) -> LazyTensor:
    """A weight, each column times its factor, in float32.

    Raises:
        FormatError: there is not one factor for each column, or one is no number.
    """
    check_dtype(name, factors, *FLOATS)
    if not dense.ndim or factors.size != dense.shape[-1]:
        raise misfit(name, factors, weight, dense, f"one for each of {dense.shape[-1:]} inputs")
    return ScaledColumns(dense, factors.reshape((-1,)), name)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ScaledColumns(UnaryNode):
    """A float32 tensor, each column times its factor."""

    PARENTS: ClassVar[tuple[str, ...]] = ("parent", "factors")

    factors: LazyTensor
    name: str

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return FLOAT32

    @property
    def block_size(self) -> int:
        return math.lcm(self.parent.block_size, max(self.shape[-1], 1))

    def read_into(self, start: int, stop: int, out: Array) -> None:
        by_blocks(start, stop, out, max(self.shape[-1], 1), self._rows)

    def _rows(self, first: int, last: int, out: Array) -> None:
        columns = self.shape[-1]
        factors = np.empty(columns, np.float32)
        casts.cast(self.factors.read_range(), factors)
        if not (np.isfinite(factors) & (factors >= 0)).all():
            raise FormatError(f"{self.name} holds NaN, an infinity or a negative factor: the file is damaged")
        values = self.parent.read_range(first * columns, last * columns).astype(np.float32, copy=False)
        np.multiply(values.reshape(-1, columns), factors, out=out.reshape(-1, columns))
