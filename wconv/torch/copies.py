"""Copies of tensors: contiguous, repeated, reversed, rolled."""

from __future__ import annotations

from typing import Any

import numpy as np

from wconv.tensors.base import Array
from wconv.torch.convert import convert
from wconv.torch.device import keeps_order, memory_format
from wconv.torch.size import axes, axis, lengths
from wconv.torch.tensor import Tensor


def repeat(self: Tensor, *repeats: Any) -> Tensor:
    """The tensor tiled, so many times along each axis."""
    times = lengths(repeats)
    if len(times) < self.ndim:
        raise RuntimeError(f"repeat: {len(times)} counts for a tensor of {self.ndim} axes")
    if any(time < 0 for time in times):
        raise RuntimeError(f"repeat: negative count in {list(times)}")
    return Tensor._of(np.tile(self._array, times))


def tile(input: Tensor, *dims: Any) -> Tensor:
    times = lengths(dims)
    return repeat(input, (1,) * (input.ndim - len(times)) + times)


def flip(input: Tensor, *dims: Any) -> Tensor:
    """A copy with some axes reversed."""
    wanted = lengths(dims)
    return Tensor._of(
        np.flip(input._array, axes(wanted, input.ndim) if wanted and input.ndim else ()).copy(order="K")
    )


def roll(input: Tensor, shifts: Any, dims: Any = None) -> Tensor:
    """A copy whose elements are moved along axes, or through the flattened tensor; the last become the first.

    Raises:
        RuntimeError: there are not as many shifts as axes.
        IndexError: the tensor has no such axis.
    """
    along = () if dims is None else lengths((dims,))
    steps = lengths((shifts,))
    if not steps:
        raise RuntimeError("`shifts` required")
    if len(steps) != len(along) and (along or len(steps) > 1):
        raise RuntimeError(f"shifts and dimensions must align. shifts: {len(steps)}, dims:{len(along)}")
    if along and not input.ndim:
        raise IndexError(f"Dimension specified as {along[0]} but tensor has no dimensions")
    if not input.numel():
        return clone(input)
    if not along:
        return Tensor._of(np.roll(input._array.reshape(-1), steps[0]).reshape(input.shape))
    where = tuple(axis(dim, input.ndim) for dim in along)
    return Tensor._of(np.ascontiguousarray(np.roll(input._array, steps, where)))


def contiguous(self: Tensor, memory_format: memory_format | None = None) -> Tensor:
    """Itself when C-contiguous, else a copy that is."""
    if memory_format is not None:
        keeps_order(memory_format)
    return self if is_contiguous(self) else Tensor._of(in_blocks(self._array))


BLOCK = 256
"""Rows and columns of a block that fits a processor's nearer memory."""


def in_blocks(array: Array) -> Array:
    """A C-contiguous copy; matrices that lie the other way round go block by block, four times as fast."""
    rows, columns = array.shape[-2:] if array.ndim >= 2 else (0, 0)
    if min(rows, columns) < 2 * BLOCK or array.strides[-2] >= array.strides[-1]:
        return np.array(array, order="C")
    made = np.empty(array.shape, array.dtype)
    for row in range(0, rows, BLOCK):
        for column in range(0, columns, BLOCK):
            part = (..., slice(row, row + BLOCK), slice(column, column + BLOCK))
            made[part] = array[part]
    return made


def is_contiguous(self: Tensor, memory_format: memory_format | None = None) -> bool:
    if memory_format is not None:
        keeps_order(memory_format)
    return bool(self._array.flags.c_contiguous)


def clone(input: Tensor, *, memory_format: memory_format | None = None) -> Tensor:
    return Tensor._of(convert(input._array, input.dtype, keep_order=keeps_order(memory_format)))


METHODS = (repeat, tile, flip, roll, contiguous, is_contiguous, clone)
FUNCTIONS = (tile, flip, roll, clone)
