"""Weights that were trained as a length and a direction for each row, as the one tensor they stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from wconv.errors import ComputedOverflowError, LayoutError
from wconv.tensors.lazy import Array, LazyTensor
from wconv.tensors.nodes import UnaryNode, by_blocks


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class WeightNorm(UnaryNode):
    """The parent's rows, each brought to the length that `length` has for it.

    Computed in float32 and rounded once to the parent's dtype.
    """

    PARENTS: ClassVar[tuple[str, ...]] = ("parent", "length")

    length: LazyTensor

    @property
    def block_size(self) -> int:
        return max(self._columns, 1)

    @property
    def _columns(self) -> int:
        return self.size // self.shape[0] if self.shape[0] else 0

    def read_into(self, start: int, stop: int, out: Array) -> None:
        by_blocks(start, stop, out, self._columns, self._rows)

    def _rows(self, first: int, last: int, out: Array) -> None:
        columns = self._columns
        rows = self.parent.read_range(first * columns, last * columns).reshape(last - first, columns)
        wide = rows.astype(np.float32)
        length = self.length.read_range(first, last).astype(np.float32)[:, None]
        with np.errstate(all="ignore"):  # a row of zeros has no direction: NaN, as in torch
            norm = np.sqrt(np.sum(np.square(wide, dtype=np.float64), axis=1, keepdims=True)).astype(
                np.float32
            )
            np.copyto(out.reshape(last - first, columns), wide * (length / norm), casting="same_kind")
            if np.isinf(out).any() and np.isfinite(wide).all() and np.isfinite(length).all():
                raise ComputedOverflowError(
                    f"as the product of its length and direction it overflows {self.dtype}"
                )


def weight_norm(direction: LazyTensor, length: LazyTensor) -> LazyTensor:
    """torch's `weight_norm` over axis 0, folded: direction × length / norm of the direction, row by row.

    Raises:
        LayoutError: the lengths are not one for each row.
    """
    if direction.ndim < 2 or length.shape != (direction.shape[0], *[1] * (direction.ndim - 1)):
        raise LayoutError(
            f"lengths of shape {length.shape} do not fit a weight of shape {direction.shape} row by row"
        )
    if not (direction.dtype.is_floating and length.dtype.is_floating):
        raise LayoutError(f"a weight of {direction.dtype.name} with lengths of {length.dtype.name}")
    return WeightNorm(direction, length.reshape((length.shape[0],)))
