"""The same elements in another shape or order: views wherever torch's are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from wconv.torch.dtypes import dtype
from wconv.torch.size import axes, axis, lengths, whole
from wconv.torch.storage import UntypedStorage
from wconv.torch.strides import contiguous_strides, restride, view_strides
from wconv.torch.tensor import Tensor


def strided(input: Tensor, shape: Sequence[int], strides: Sequence[int]) -> Tensor:
    """A view from the tensor's first element on; `strides` in elements, known to stay inside."""
    steps = [step * input.itemsize for step in strides]
    return input._view(restride(input._array, shape, steps))


def complete(shape: Sequence[int], count: int) -> tuple[int, ...]:
    """`shape` with its -1 filled in.

    Raises:
        RuntimeError: no such shape holds `count` elements.
    """
    if sum(length == -1 for length in shape) > 1:
        raise RuntimeError("only one dimension can be inferred")
    if any(length < -1 for length in shape):
        raise RuntimeError(f"invalid shape dimension {min(shape)}")
    rest = math.prod(length for length in shape if length != -1)
    if -1 in shape and rest == 0:
        raise RuntimeError(
            f"cannot reshape tensor of {count} elements into shape {list(shape)} because the unspecified"
            " dimension size -1 can be any value and is ambiguous"
        )
    full = tuple(count // rest if length == -1 else length for length in shape)
    if math.prod(full) != count:
        raise RuntimeError(f"shape '{list(shape)}' is invalid for input of size {count}")
    return full


def view(self: Tensor, *shape: Any, **named: Any) -> Tensor:
    """The same memory in another shape, or read as another dtype (the last axis shrinks or grows)."""
    if "dtype" in named and not shape:
        shape = (named.pop("dtype"),)
    if named:
        raise TypeError(f"view() got an unexpected argument {next(iter(named))!r}")
    if len(shape) == 1 and isinstance(shape[0], dtype):
        return _view_dtype(self, shape[0])
    full = complete(lengths(shape), self.numel())
    strides = view_strides(self.shape, self.stride(), full)
    if strides is None:
        raise RuntimeError(
            f"no view of shape {list(full)} shows a tensor of shape {list(self.shape)} and strides"
            f" {self.stride()}: use .reshape(...), which copies"
        )
    return strided(self, full, strides)


def _view_dtype(self: Tensor, to: dtype) -> Tensor:
    old, new = self.itemsize, to.itemsize
    if old != new:
        if not self.shape:
            raise RuntimeError(
                f"self.dim() cannot be 0 to view {self.dtype} as {to} (different element sizes)"
            )
        others = self.stride()[:-1]
        fits = self.shape[-1] * old % new == 0 and self.storage_offset() * old % new == 0
        if self.stride(-1) != 1 or not fits or any(step * old % new for step in others):
            raise RuntimeError(
                f"{self.dtype} {tuple(self.shape)} with strides {self.stride()} is no view of {to}:"
                " its last axis must be contiguous and hold a whole number of elements"
            )
        if not self.numel():
            return self._view(np.empty((*self.shape[:-1], self.shape[-1] * old // new), to.numpy))
    return self._view(self._array.view(to.numpy))


def view_as(self: Tensor, other: Tensor) -> Tensor:
    return view(self, tuple(other.shape))


def reshape(input: Tensor, *shape: Any) -> Tensor:
    """The elements in another shape: a view where possible, else a copy."""
    full = complete(lengths(shape), input.numel())
    strides = view_strides(input.shape, input.stride(), full)
    if strides is None:
        return Tensor._of(np.array(input._array, order="C").reshape(full))
    return strided(input, full, strides)


def reshape_as(self: Tensor, other: Tensor) -> Tensor:
    return reshape(self, tuple(other.shape))


def permute(input: Tensor, *dims: Any) -> Tensor:
    order = tuple(axis(dim, input.ndim) for dim in lengths(dims))
    if len(order) != input.ndim:
        raise RuntimeError(f"permute: {input.ndim} axes cannot be put in the order {order}")
    if len(set(order)) != len(order):
        raise RuntimeError("permute(): duplicate dims are not allowed.")
    return input._view(input._array.transpose(order))


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    first, second = axis(dim0, input.ndim), axis(dim1, input.ndim)
    return input._view(input._array.swapaxes(first, second) if input.ndim else input._array[...])


def t(input: Tensor) -> Tensor:
    if input.ndim > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {input.ndim}D")
    return input._view(input._array.T)


def reversed_axes(self: Tensor) -> Tensor:
    """`tensor.T`: all axes reversed."""
    return self._view(self._array.T)


def matrix_transpose(self: Tensor) -> Tensor:
    """`tensor.mT`: the last two axes swapped."""
    if self.ndim < 2:
        raise RuntimeError(
            f"tensor.mT is only supported on matrices or batches of matrices. Got {self.ndim}-D tensor."
        )
    return transpose(self, -2, -1)


def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    try:
        return input._view(np.moveaxis(input._array, source, destination))
    except np.exceptions.AxisError as error:
        raise IndexError(str(error)) from None
    except ValueError as error:
        raise RuntimeError(str(error)) from None


def squeeze(input: Tensor, dim: Any = None) -> Tensor:
    """Without the axes of length 1: all of them, or those of `dim` that are."""
    chosen = axes(dim, input.ndim) if input.ndim or dim is not None else ()
    gone = {d for d in chosen if input.ndim and input.shape[d] == 1}
    return input._view(input._array.squeeze(tuple(gone)))


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    at = axis(dim, input.ndim + 1)
    strides = list(input.stride())
    step = strides[at] * input.shape[at] if at < input.ndim else 1
    return strided(input, [*input.shape[:at], 1, *input.shape[at:]], [*strides[:at], step, *strides[at:]])


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    first, last = axis(start_dim, input.ndim), axis(end_dim, input.ndim)
    if first > last:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    if input.ndim and first == last:
        return input
    run = math.prod(input.shape[first : last + 1])
    return reshape(input, (*input.shape[:first], run, *input.shape[last + 1 :]))


def ravel(input: Tensor) -> Tensor:
    return reshape(input, -1)


def unflatten(input: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    at = axis(dim, input.ndim)
    if not sizes:
        raise RuntimeError("unflatten: sizes must be non-empty")
    try:
        inner = complete(lengths((tuple(sizes),)), input.shape[at])
    except RuntimeError as error:
        raise RuntimeError(f"unflatten: {error}") from None
    return view(input, (*input.shape[:at], *inner, *input.shape[at + 1 :]))


def expand(self: Tensor, *sizes: Any) -> Tensor:
    """Axes of length 1 repeated without copying; -1 keeps an axis."""
    wanted = lengths(sizes)
    new = len(wanted) - self.ndim
    if new < 0:
        raise RuntimeError(f"expand: {list(wanted)} has fewer axes than the tensor's {self.ndim}")
    shape, strides = [0] * len(wanted), [0] * len(wanted)
    for at in reversed(range(len(wanted))):
        if at >= new:
            length, step = self.shape[at - new], self.stride()[at - new]
        else:
            length, step = 1, shape[at + 1] * strides[at + 1] if at + 1 < len(wanted) else 1
        asked = wanted[at]
        if asked == -1 and at >= new:
            asked = length
        if asked < 0 or (asked != length and length != 1):
            raise RuntimeError(f"expand: {list(self.shape)} cannot be expanded to {list(wanted)}")
        shape[at], strides[at] = asked, step if asked == length else 0
    return strided(self, shape, strides)


def expand_as(self: Tensor, other: Tensor) -> Tensor:
    return expand(self, tuple(other.shape))


def broadcast_to(input: Tensor, size: Sequence[int]) -> Tensor:
    return expand(input, tuple(size))


def as_strided(
    input: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> Tensor:
    """Any view of the tensor's storage.

    Raises:
        RuntimeError: it would reach outside the storage.
    """
    shape, steps = lengths((tuple(size),)), lengths((tuple(stride),))
    first = input.storage_offset() if storage_offset is None else whole(storage_offset)
    if len(shape) != len(steps) or min((0, first, *shape, *steps)) < 0:
        raise RuntimeError(f"as_strided: sizes {list(shape)} and strides {list(steps)} do not fit together")
    storage = input.untyped_storage()
    last = first + sum((length - 1) * step for length, step in zip(shape, steps, strict=True))
    if math.prod(shape) and (last + 1) * input.itemsize > storage.nbytes():
        raise RuntimeError(
            f"as_strided: {list(shape)} with strides {list(steps)} from {first} on is outside the storage of"
            f" {storage.nbytes()} bytes"
        )
    made = Tensor._at(storage, input.dtype, first, shape, steps)
    made._root = input._owner
    return made


def set_(
    self: Tensor, source: Any = None, storage_offset: int = 0, size: Any = None, stride: Any = None
) -> Tensor:
    """Makes this tensor a view of another's memory, or of a storage."""
    if source is None:
        source = UntypedStorage(0)
    if isinstance(source, Tensor):
        made = source if size is None else as_strided(source, size, stride, storage_offset)
    else:
        whole_length = (source.nbytes() // self.itemsize - storage_offset,)
        shape = whole_length if size is None else lengths((tuple(size),))
        flat = Tensor._at(source, self.dtype, storage_offset, whole_length, (1,))
        steps = contiguous_strides(shape) if stride is None else stride
        made = as_strided(flat, shape, steps, storage_offset)
    if made.dtype is not self.dtype:
        raise RuntimeError(f"set_: {made.dtype} is not the tensor's {self.dtype}")
    wants = self._requires_grad
    self.__dict__.clear()
    self.__dict__.update(made.__dict__, _requires_grad=wants)
    return self


METHODS = (
    set_,
    view,
    view_as,
    reshape,
    reshape_as,
    permute,
    transpose,
    t,
    movedim,
    squeeze,
    unsqueeze,
    flatten,
    ravel,
    unflatten,
    expand,
    expand_as,
    broadcast_to,
    as_strided,
)
FUNCTIONS = (
    reshape,
    permute,
    transpose,
    t,
    movedim,
    squeeze,
    unsqueeze,
    flatten,
    ravel,
    unflatten,
    broadcast_to,
    as_strided,
)
METHOD_ALIASES = FUNCTION_ALIASES = {"swapaxes": transpose, "swapdims": transpose, "moveaxis": movedim}
PROPERTIES = {"T": reversed_axes, "mT": matrix_transpose}
