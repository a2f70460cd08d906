"""What `tensor[...]` reads of a lazy tensor: integers, slices, `...` and None, as numpy takes them."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from wconv.tensors.base import Array, LazyTensor

PIECE = 8 << 20
"""Bytes of the tensor that are read at a time where what is picked does not lie together."""


def read(tensor: LazyTensor, index: Any) -> Array:
    """`tensor[2]`, `tensor[:, 4:8]`, `tensor[..., ::-2]`: reads what numpy would pick, and little else.

    Suits `jax.make_array_from_callback`, whose callback is handed a tuple of slices.

    Raises:
        IndexError: the tensor has no such axis or position, or `index` holds a mask or a list.
    """
    entries = list(index) if isinstance(index, tuple) else [index]
    for entry in entries:
        _check(entry)
    count = sum(entry is not None and entry is not Ellipsis for entry in entries)
    gaps = sum(entry is Ellipsis for entry in entries)
    if count > tensor.ndim:
        raise IndexError(f"{count} indices for a tensor of {_axes(tensor.ndim)}")
    if gaps > 1:
        raise IndexError("an index can hold only one ellipsis ('...')")
    picked, rest, axis = tensor, list[Any](), 0
    for entry in entries:
        if entry is None or entry is Ellipsis:
            rest.append(entry)
            axis += 0 if entry is None else tensor.ndim - count
            continue
        start, stop, step, then = _range(entry, tensor.shape[axis], axis)
        picked = picked.slice(axis, start, stop, step)
        rest.append(then)
        axis += 1
    found: Array = _in_pieces(picked, tensor)[tuple(rest)]
    return found


def _check(entry: Any) -> None:
    """Raises: IndexError: it is no integer, slice, `...` or None."""
    if entry is None or entry is Ellipsis or isinstance(entry, slice):
        return
    try:
        fits = not isinstance(entry, bool) and operator.index(entry) is not None
    except TypeError:
        fits = False
    if not fits:
        raise IndexError(
            f"a lazy tensor takes integers, slices, ... and None as an index, not a {type(entry).__name__}:"
            " read it first, tensor.numpy()[...]"
        )


def _range(entry: Any, length: int, axis: int) -> tuple[int, int, int, Any]:
    """Start, stop and a positive step along one axis, and what remains to be done with those elements."""
    if isinstance(entry, slice):
        try:
            chosen = range(*entry.indices(length))
        except (TypeError, ValueError) as error:
            raise IndexError(f"a slice of axis {axis} is none: {error}") from None
        if not chosen:
            return 0, 0, 1, slice(None)
        if chosen.step > 0:
            return chosen.start, chosen[-1] + 1, chosen.step, slice(None)
        return chosen[-1], chosen.start + 1, -chosen.step, slice(None, None, -1)
    at = operator.index(entry)
    if not -length <= at < length:
        raise IndexError(f"index {at} is out of bounds for axis {axis} with size {length}")
    return at % length, at % length + 1, 1, 0


def _in_pieces(picked: LazyTensor, tensor: LazyTensor) -> Array:
    """`picked` as an array; where it is gathered from all over a file, a part of the file at a time."""
    if tensor.parents or not tensor.file_position[0] or not picked.size or tensor.nbytes <= PIECE:
        return picked.numpy()
    count = max(picked.size * PIECE // tensor.nbytes // picked.block_size, 1) * picked.block_size
    made = np.empty(picked.size, picked.dtype.numpy)
    for start in range(0, picked.size, count):
        stop = min(start + count, picked.size)
        picked.read_range(start, stop, made[start:stop])
    return made.reshape(picked.shape)


def checked_axis(axis: Any, ndim: int) -> int:
    """`axis` counted from 0.

    Raises:
        IndexError: a tensor of `ndim` axes has no such one.
    """
    at = operator.index(axis)
    if not -ndim <= at < ndim:
        raise IndexError(f"axis {at} of a tensor of {_axes(ndim)}")
    return at % ndim


def _axes(count: int) -> str:
    return f"{count} {'axis' if count == 1 else 'axes'}"
