"""The closed set of lazy operations: each makes a `LazyTensor` out of others without reading them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from wconv.tensors import dtypes
from wconv.tensors.base import LazyTensor
from wconv.tensors.dtypes import DTypeLike
from wconv.tensors.indexing import checked_axis
from wconv.tensors.nodes import (
    AddNumberNode,
    AddTensorsNode,
    CastNode,
    ConcatNode,
    ReshapeNode,
    SliceNode,
    TransposeNode,
    ViewNode,
)


def cast(tensor: LazyTensor, dtype: DTypeLike) -> LazyTensor:
    """The same values in another dtype of any library, rounded to nearest even as torch does.

    The tensor itself when it has that dtype already. Numpy's name for it is `astype`, torch's `to`.
    """
    to = dtypes.of(dtype)
    return tensor if to is tensor.dtype else CastNode(tensor, to)


def reshape(tensor: LazyTensor, shape: Sequence[int]) -> LazyTensor:
    """The same elements in another shape; one length may be -1.

    Raises:
        ValueError: the shape holds another number of elements.
    """
    new = tuple(shape)
    if new.count(-1) == 1:
        rest = math.prod(length for length in new if length != -1)
        new = tuple((tensor.size // rest if rest else 0) if length == -1 else length for length in new)
    if math.prod(new) != tensor.size or any(length < 0 for length in new):
        raise ValueError(f"{tensor.shape} cannot be reshaped to {tuple(shape)}")
    if new == tensor.shape:
        return tensor
    found = tensor.consecutive(0, new)
    return (
        found
        if found is not None
        else ReshapeNode(tensor.parent if isinstance(tensor, ReshapeNode) else tensor, new)
    )


def transpose(tensor: LazyTensor, axes: Sequence[int]) -> LazyTensor:
    """Axes in another order; a mere reshape where only axes of length 1 move.

    Raises:
        IndexError: the tensor has no such axis.
        ValueError: `axes` names one twice, or not all.
    """
    order = tuple(checked_axis(axis, tensor.ndim) for axis in axes)
    if sorted(order) != list(range(tensor.ndim)):
        raise ValueError(f"{tuple(axes)} is no order of {tensor.ndim} axes")
    if isinstance(tensor, TransposeNode):
        return transpose(tensor.parent, [tensor.axes[axis] for axis in order])
    moved = [axis for axis in order if tensor.shape[axis] != 1]
    if moved == sorted(moved):
        return reshape(tensor, [tensor.shape[axis] for axis in order])
    return TransposeNode(tensor, order)


def slice_axis(tensor: LazyTensor, axis: int, start: int, stop: int, step: int = 1) -> LazyTensor:
    """Elements `start` to `stop` of one axis, every `step`-th.

    Raises:
        IndexError: the tensor has no such axis.
        ValueError: the range is not within the axis.
    """
    axis = checked_axis(axis, tensor.ndim)
    length = tensor.shape[axis]
    if step < 1 or start < 0 or stop > length:
        raise ValueError(f"[{start}:{stop}:{step}] of an axis of {length}")
    picked = len(range(start, stop, step))
    if picked == length:
        return tensor
    found = None
    if step == 1 and math.prod(tensor.shape[:axis]) == 1:
        shape = (*tensor.shape[:axis], picked, *tensor.shape[axis + 1 :])
        found = tensor.consecutive(start * math.prod(tensor.shape[axis + 1 :]), shape)
    return found if found is not None else SliceNode(tensor, axis, start, stop, step)


def split(tensor: LazyTensor, sections: int | Sequence[int], axis: int = 0) -> tuple[LazyTensor, ...]:
    """Consecutive parts along an axis: so many equal ones, or of the given lengths.

    Raises:
        IndexError: the tensor has no such axis.
        ValueError: the parts do not add up to the axis.
    """
    axis = checked_axis(axis, tensor.ndim)
    length = tensor.shape[axis]
    lengths = [length // sections] * sections if isinstance(sections, int) else list(sections)
    if sum(lengths) != length:
        raise ValueError(f"an axis of {length} cannot be split into {sections}")
    ends = itertools.accumulate(lengths)
    return tuple(slice_axis(tensor, axis, end - part, end) for end, part in zip(ends, lengths, strict=True))


def concat(tensors: Sequence[LazyTensor], axis: int = 0) -> LazyTensor:
    """Tensors one after another along an axis.

    Raises:
        IndexError: the first tensor has no such axis.
        ValueError: there are none, or their dtypes or other axes differ.
    """
    first = tensors[0] if tensors else None
    if first is None:
        raise ValueError("nothing to join")
    axis = checked_axis(axis, first.ndim)
    for tensor in tensors:
        rest = (*tensor.shape[:axis], *tensor.shape[axis + 1 :])
        if tensor.dtype is not first.dtype or rest != (*first.shape[:axis], *first.shape[axis + 1 :]):
            raise ValueError(
                f"{tensor.dtype.name} {tensor.shape} cannot be joined to {first.dtype.name} {first.shape}"
                f" along axis {axis}"
            )
    if len(tensors) == 1:
        return first
    ends = tuple(itertools.accumulate(math.prod(tensor.shape[axis:]) for tensor in tensors))
    length = sum(tensor.shape[axis] for tensor in tensors)
    return ConcatNode(tuple(tensors), axis, (*first.shape[:axis], length, *first.shape[axis + 1 :]), ends)


def stack(tensors: Sequence[LazyTensor], axis: int = 0) -> LazyTensor:
    """Tensors of one shape side by side along a new axis. Raises as `concat` does."""
    axis = checked_axis(axis, tensors[0].ndim + 1) if tensors else axis
    return concat(
        [reshape(t, (*t.shape[:axis], 1, *t.shape[axis:])) for t in tensors],
        axis,
    )


def view(tensor: LazyTensor, dtype: DTypeLike) -> LazyTensor:
    """The same bytes read as another dtype; the last axis shrinks or grows, as with `torch.Tensor.view`.

    Raises:
        ValueError: the last axis is no whole number of the new elements.
    """
    to = dtypes.of(dtype)
    if to is tensor.dtype:
        return tensor
    old, new = tensor.dtype.itemsize, to.itemsize
    if min(to.bits, tensor.dtype.bits) < 8:
        raise ValueError(f"{tensor.dtype.name} cannot be viewed as {to.name}")
    if old == new:
        shape = tensor.shape
    elif not tensor.shape or tensor.shape[-1] * old % new:
        raise ValueError(f"{tensor.dtype.name} {tensor.shape} cannot be viewed as {to.name}")
    else:
        shape = (*tensor.shape[:-1], tensor.shape[-1] * old // new)
    found = tensor.reinterpreted(to, shape)
    return found if found is not None else ViewNode(tensor, to, shape)


def add(tensor: LazyTensor, value: float) -> LazyTensor:
    """Every element plus a number, rounded once to the tensor's own dtype."""
    return AddNumberNode(tensor, value)


def add_tensors(tensor: LazyTensor, other: LazyTensor) -> LazyTensor:
    """The sum of two tensors, element by element, rounded to their dtype.

    Raises:
        ValueError: their dtypes or shapes differ.
    """
    if tensor.dtype is not other.dtype or tensor.shape != other.shape:
        raise ValueError(
            f"{tensor.dtype.name} {tensor.shape} and {other.dtype.name} {other.shape} cannot be added"
        )
    return AddTensorsNode(tensor, other)
