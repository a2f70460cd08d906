"""Functions that find, compare neighbours, repeat and contract: searchsorted, isin, diff, tensordot …"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from wconv.torch import dtypes
from wconv.torch.arithmetic import TABLE, sub
from wconv.torch.convert import convert
from wconv.torch.creation import as_tensor
from wconv.torch.dtypes import dtype
from wconv.torch.indexing import narrow
from wconv.torch.joining import cat
from wconv.torch.linear import matmul
from wconv.torch.promotion import promote_types
from wconv.torch.reductions import exact, ordered, require_real
from wconv.torch.shapes import expand
from wconv.torch.size import Size, axis, whole
from wconv.torch.tensor import Tensor


def searchsorted(
    sorted_sequence: Tensor,
    input: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    """Where values would be put into a sorted sequence, or each row of them into its own.

    Raises:
        RuntimeError: the shapes do not go together, or `side` contradicts `right`.
    """
    if side not in (None, "left", "right") or (side == "left" and right):
        raise RuntimeError(f"searchsorted(): side is {side!r} and right is {right}")
    behind: Literal["left", "right"] = "right" if right or side == "right" else "left"
    values = input if isinstance(input, Tensor) else as_tensor(input, dtype=sorted_sequence.dtype)
    common = promote_types(values.dtype, sorted_sequence.dtype)
    values, sequence = values.to(common), sorted_sequence.to(common)
    require_real(values, "searchsorted")
    lines, wanted = ordered(sequence), ordered(values)
    if sorter is not None:
        lines = np.take_along_axis(lines, sorter._array, -1)
    to = np.int32 if out_int32 else np.int64
    if lines.ndim == 1:
        return Tensor._of(np.asarray(np.searchsorted(lines, wanted, behind)).astype(to))
    if lines.shape[:-1] != wanted.shape[:-1]:
        raise RuntimeError(
            f"searchsorted(): the sequence of {list(lines.shape)} and the values of {list(wanted.shape)} must"
            " agree but in the last axis"
        )
    made = np.empty(wanted.shape, to)
    for at in np.ndindex(wanted.shape[:-1]):
        made[at] = np.searchsorted(lines[at], wanted[at], behind)
    return Tensor._of(made)


def bucketize(input: Any, boundaries: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    """The number of the bucket between boundaries that each value is in."""
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)


def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> Tensor:
    """Whether each element is among others."""
    one, other = (each if isinstance(each, Tensor) else as_tensor(each) for each in (elements, test_elements))
    common = promote_types(one.dtype, other.dtype)
    first, second = (convert(each._array, common) for each in (one, other))
    return Tensor._of(np.asarray(np.isin(first, second, invert=invert)))


def diff(
    input: Tensor, n: int = 1, dim: int = -1, prepend: Tensor | None = None, append: Tensor | None = None
) -> Tensor:
    """The differences between neighbours, `n` times over; of booleans, whether they differ."""
    if not input.ndim:
        raise RuntimeError("diff expects input to be at least one-dimensional")
    at = axis(dim, input.ndim)
    made = cat([each for each in (prepend, input, append) if each is not None], at)
    for _ in range(min(n, made.shape[at])):
        count = made.shape[at] - 1
        later, earlier = narrow(made, at, 1, count), narrow(made, at, 0, count)
        made = TABLE["logical_xor"](later, earlier) if made.dtype is dtypes.bool_ else sub(later, earlier)
    return made


def cumprod(input: Tensor, dim: int, *, dtype: dtype | None = None) -> Tensor:
    """Products of all elements so far."""
    at = axis(dim, input.ndim)
    result = dtype or (input.dtype if input.is_floating_point() or input.is_complex() else dtypes.int64)
    source = convert(input._array, result)
    with np.errstate(all="ignore"):
        made = np.cumprod(exact(source), axis=at) if input.ndim else source
    return Tensor._of(convert(np.asarray(made), result))


def tensordot(a: Tensor, b: Tensor, dims: Any = 2) -> Tensor:
    """Products summed over axes of both: the last of `a` with the first of `b`, or those that are named.

    Raises:
        RuntimeError: the axes differ in length.
    """
    if isinstance(dims, (int, Tensor)):
        count = whole(dims)
        if count < 0 or count > min(a.ndim, b.ndim):
            raise RuntimeError(
                f"tensordot expects dims from 0 to {min(a.ndim, b.ndim)}, but got dims={count}"
            )
        first, second = list(range(a.ndim - count, a.ndim)), list(range(count))
    else:
        given = [list(each) if isinstance(each, (list, tuple)) else [each] for each in dims]
        first, second = [axis(each, a.ndim) for each in given[0]], [axis(each, b.ndim) for each in given[1]]
    if [a.shape[at] for at in first] != [b.shape[at] for at in second]:
        raise RuntimeError(
            f"tensordot: axes {first} of {list(a.shape)} and {second} of {list(b.shape)} differ in length"
        )
    left = [at for at in range(a.ndim) if at not in first]
    right = [at for at in range(b.ndim) if at not in second]
    inner = math.prod(a.shape[at] for at in first)
    rows = a.permute(*left, *first).reshape(math.prod(a.shape[at] for at in left), inner)
    columns = b.permute(*second, *right).reshape(inner, math.prod(b.shape[at] for at in right))
    shape = [a.shape[at] for at in left] + [b.shape[at] for at in right]
    made: Tensor = matmul(rows, columns).reshape(shape)
    return made


def argwhere(input: Tensor) -> Tensor:
    """The positions of all elements that are not 0, a row for each."""
    return Tensor._of(np.asarray(np.argwhere(input._array != 0), np.int64))


def repeat_interleave(
    input: Tensor, repeats: Any, dim: int | None = None, *, output_size: int | None = None
) -> Tensor:
    """Each element (of the flat tensor, or along an axis) as often as `repeats` says."""
    source = input.reshape(-1) if dim is None else input
    times = repeats._array if isinstance(repeats, Tensor) else whole(repeats)
    if np.min(times, initial=0) < 0:
        raise RuntimeError("repeats can not be negative")
    at = axis(dim or 0, source.ndim)
    try:
        made = np.repeat(source._array, times, at)
    except ValueError as error:
        raise RuntimeError(f"repeat_interleave: {error}") from None
    if output_size not in (None, made.shape[at]):
        raise RuntimeError(
            f"repeat_interleave: output_size={output_size} is not the {made.shape[at]} there are"
        )
    return Tensor._of(made)


def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """The elements at positions along an axis; of the flat tensor where none is named."""
    source = input.reshape(-1) if dim is None else input
    where = indices.reshape(-1) if dim is None else indices
    if where.dtype is not dtypes.int64:
        raise RuntimeError(f"take_along_dim(): indices must be int64, got {where.dtype}")
    try:
        return Tensor._of(np.take_along_axis(source._array, where._array, axis(dim or 0, source.ndim)))
    except (ValueError, IndexError) as error:
        raise RuntimeError(f"take_along_dim(): {error}") from None


def broadcast_shapes(*shapes: Any) -> Size:
    """The shape that tensors of these shapes are broadcast to."""
    try:
        return Size(np.broadcast_shapes(*(tuple(s) if isinstance(s, Sequence) else (s,) for s in shapes)))
    except ValueError as error:
        raise RuntimeError(f"broadcast_shapes: {error}") from None


def broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    """Views of the tensors in their common shape."""
    given = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else tensors
    shape = broadcast_shapes(*(each.shape for each in given))
    return tuple(expand(each, tuple(shape)) for each in given)


METHODS = (diff, cumprod, argwhere, repeat_interleave, take_along_dim)
FUNCTIONS = (
    searchsorted,
    bucketize,
    isin,
    diff,
    cumprod,
    tensordot,
    argwhere,
    repeat_interleave,
    take_along_dim,
    broadcast_shapes,
    broadcast_tensors,
)
