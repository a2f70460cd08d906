"""`tensor[...]` and its relatives: slices give views, masks and index tensors copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wconv.tensors.base import Array
from wconv.torch import dtypes
from wconv.torch.convert import convert
from wconv.torch.shapes import unsqueeze
from wconv.torch.size import axis, whole
from wconv.torch.strides import in_c_order
from wconv.torch.tensor import Tensor


def getitem(self: Tensor, index: Any) -> Tensor:
    """`self[index]`."""
    part, picks = _resolve(self, index)
    if all(pick is None for pick in picks):
        return part
    return Tensor._of(_gathered(part._array, picks))


def setitem(self: Tensor, index: Any, value: Any) -> None:
    """`self[index] = value`; the value is converted to the tensor's dtype."""
    part, picks = _resolve(self, index)
    target = part._array
    new = _as_array(value, self)
    where: Any = ... if all(pick is None for pick in picks) else _numpy_index(picks)
    wanted = target.shape if where is ... else target[where].shape
    while new.ndim > len(wanted) and new.shape[0] == 1:
        new = new[0]
    try:
        target[where] = new
    except ValueError:
        raise RuntimeError(
            f"values of shape {list(new.shape)} cannot be written where the index picks {list(wanted)}"
        ) from None


def _as_array(value: Any, like: Tensor) -> Array:
    from wconv.torch import creation

    if isinstance(value, (list, tuple)):
        raise TypeError(f"can't assign a {type(value).__name__} to a tensor: use torch.tensor")
    made = value if isinstance(value, Tensor) else creation.tensor(value)
    return made._array if made.dtype is like.dtype else convert(made._array, like.dtype)


def _resolve(self: Tensor, index: Any) -> tuple[Tensor, list[Array | None]]:
    """The view that the plain entries make, and for each of its axes the index array that picks from it."""
    entries = list(index) if isinstance(index, tuple) else [index]
    if isinstance(index, list) and any(isinstance(e, (slice, type(None), type(...), Tensor)) for e in index):
        entries = index
    consumed = sum(_consumes(entry) for entry in entries)
    if consumed > self.ndim:
        raise IndexError(f"too many indices for tensor of dimension {self.ndim}")
    ellipses = [at for at, entry in enumerate(entries) if entry is Ellipsis]
    if len(ellipses) > 1:
        raise IndexError("an index can hold only one ellipsis ('...')")
    if ellipses:
        entries[ellipses[0] : ellipses[0] + 1] = [slice(None)] * (self.ndim - consumed)
    part = self
    picks: list[Array | None] = []
    for entry in entries:
        at = len(picks)
        if entry is None or (flag := _flag(entry)) is not None:
            part = unsqueeze(part, at)
            picks.append(None if entry is None else np.arange(int(bool(flag))))
        elif isinstance(entry, slice):
            part = _sliced(part, at, entry)
            picks.append(None)
        elif (number := _number(entry)) is not None:
            part = select(part, at, number)
        else:
            arrays = _index_arrays(entry, part, at)
            picks.extend(arrays)
    picks.extend([None] * (part.ndim - len(picks)))
    return part, picks


def _flag(entry: Any) -> bool | None:
    """What a mask without axes says: it adds an axis, of length 1 or 0. None for any other entry."""
    if isinstance(entry, Tensor):
        is_mask = not entry.shape and entry.dtype in (dtypes.bool_, dtypes.uint8)
        return bool(entry.item()) if is_mask else None
    if isinstance(entry, np.ndarray):
        return bool(entry) if not entry.shape and entry.dtype in (np.bool_, np.uint8) else None
    return entry if isinstance(entry, bool) else None


def _consumes(entry: Any) -> int:
    """How many axes an entry stands for."""
    if entry is None or entry is Ellipsis or isinstance(entry, bool):
        return 0
    if isinstance(entry, Tensor) and entry.dtype in (dtypes.bool_, dtypes.uint8):
        return entry.ndim
    return 1  # numpy's masks too, however many axes they have: so torch counts them


def _number(entry: Any) -> int | None:
    """A plain integer, also from a 0-d integer tensor; None for anything else."""
    if isinstance(entry, Tensor):
        return int(entry.item()) if not entry.shape and entry.dtype.row.kind == "int" else None
    if isinstance(entry, (list, tuple, np.ndarray)):
        return None
    if isinstance(entry, str):
        raise TypeError("a tensor cannot be indexed by a name")
    try:
        return whole(entry)
    except TypeError:
        raise IndexError(
            f"{type(entry).__name__} is no index: use integers, slices, ..., None, masks or index tensors"
        ) from None


def _index_arrays(entry: Any, part: Tensor, at: int) -> list[Array]:
    """Integer index arrays for one mask (as many as it has axes) or one index tensor."""
    from wconv.torch import creation

    given = entry if isinstance(entry, Tensor) else creation.as_tensor(entry)
    array = given._array
    if not given.numel() and not isinstance(entry, (Tensor, np.ndarray)):
        array = array.astype(np.int64)
    if array.dtype == np.uint8:
        array = array != 0
    if array.dtype == bool:
        for axis_of_mask, length in enumerate(array.shape):
            if length != part.shape[at + axis_of_mask]:
                raise IndexError(
                    f"a mask of {list(array.shape)} does not fit axis {at} of a tensor of {list(part.shape)}"
                )
        return list(np.nonzero(array))
    if array.dtype.kind not in "iu":
        raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
    return [_checked(array, part.shape[at], at)]


def _checked(indices: Array, length: int, at: int) -> Array:
    wrong = indices[(indices < -length) | (indices >= length)]
    if wrong.size:
        raise IndexError(f"index {wrong[0]} is out of bounds for dimension {at} with size {length}")
    return indices


def _numpy_index(picks: Sequence[Array | None]) -> tuple[Any, ...]:
    return tuple(slice(None) if pick is None else pick for pick in picks)


def _gathered(array: Array, picks: Sequence[Array | None]) -> Array:
    try:
        found = array[_numpy_index(picks)]
        return in_c_order(np.array(found, order="C"))
    except IndexError as error:
        raise IndexError(f"shape mismatch: {error}") from None


def _sliced(part: Tensor, at: int, entry: slice) -> Tensor:
    start, stop, step = (
        None if each is None else whole(each) for each in (entry.start, entry.stop, entry.step)
    )
    if step is not None and step < 1:
        raise ValueError("step must be greater than zero")
    where = (*[slice(None)] * at, slice(start, stop, step))
    return part._view(part._array[where])


def select(input: Tensor, dim: int, index: int) -> Tensor:
    """A view of one position of an axis, without that axis."""
    if not input.ndim:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    at, position = axis(dim, input.ndim), whole(index)
    length = input.shape[at]
    if not -length <= position < length:
        raise IndexError(f"index {position} is out of bounds for dimension {at} with size {length}")
    where: tuple[Any, ...] = (*[slice(None)] * at, position, ...)
    return input._view(input._array[where])


def narrow(input: Tensor, dim: int, start: Any, length: int) -> Tensor:
    """A view of `length` positions of an axis, from `start` on."""
    if not input.ndim:
        raise RuntimeError("narrow() cannot be applied to a 0-dim tensor.")
    at, first = axis(dim, input.ndim), whole(start)
    size = input.shape[at]
    if not -size <= first <= size:
        raise IndexError(f"Dimension out of range: start {first} of an axis of {size}")
    first = first + size if first < 0 else first
    if length < 0 or first + length > size:
        raise RuntimeError(f"start ({first}) + length ({length}) exceeds dimension size ({size}).")
    return _sliced(input, at, slice(first, first + length))


def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The positions of an axis that a 1-D index tensor names, in its order."""
    at = axis(dim, input.ndim)
    if index.ndim > 1:
        raise IndexError("index_select(): Index is supposed to be a vector")
    if index.dtype not in (dtypes.int64, dtypes.int32):
        raise RuntimeError("index_select(): Expected dtype int32 or int64 for index")
    length = input.shape[at] if input.ndim else 1
    indices = index._array.reshape(-1)
    if ((indices < 0) | (indices >= length)).any():
        raise RuntimeError(f"index_select(): index out of range of an axis of {length}")
    if not input.ndim:
        return Tensor._of(input._array.copy())
    return Tensor._of(np.ascontiguousarray(np.take(input._array, indices, axis=at)))


def gather(input: Tensor, dim: int, index: Tensor, *, sparse_grad: bool = False) -> Tensor:
    """For each element of `index`, the input's element at that position; `sparse_grad` is ignored."""
    at = axis(dim, input.ndim)
    if index.dtype is not dtypes.int64:
        raise RuntimeError("gather(): Expected dtype int64 for index")
    if index.ndim != input.ndim:
        raise RuntimeError("Index tensor must have the same number of dimensions as input tensor")
    indices = index._array
    if ((indices < 0) | (indices >= input.shape[at])).any():
        raise RuntimeError(f"index is out of bounds for dimension {at} with size {input.shape[at]}")
    if any(index.shape[d] > input.shape[d] for d in range(input.ndim) if d != at):
        raise RuntimeError(
            f"Size does not match at some dimension: index {list(index.shape)}, {list(input.shape)}"
        )
    cut = tuple(slice(None) if d == at else slice(index.shape[d]) for d in range(input.ndim))
    return Tensor._of(np.take_along_axis(input._array[cut], indices, at))


def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where the mask is set, 1-D."""
    _require_mask(mask, "masked_select")
    values, chosen = np.broadcast_arrays(input._array, mask._array)
    return Tensor._of(values[chosen])


def masked_fill_(self: Tensor, mask: Tensor, value: Any) -> Tensor:
    """Sets the elements where the mask is set."""
    _require_mask(mask, "masked_fill")
    np.copyto(self._array, _as_array(value, self), where=mask._array)
    return self


def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    _require_mask(mask, "masked_fill")
    shape = np.broadcast_shapes(input.shape, mask.shape)
    return masked_fill_(Tensor._of(np.array(np.broadcast_to(input._array, shape))), mask, value)


def _require_mask(mask: Tensor, name: str) -> None:
    if mask.dtype is not dtypes.bool_:
        raise RuntimeError(f"{name}: expected a BoolTensor for mask, got {mask.dtype}")


def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """Where the elements are not 0: one row of indices per element, or one tensor per axis."""
    array = input._array
    if as_tuple:
        found = np.nonzero(array.reshape(array.shape or (1,)))
        return tuple(Tensor._of(np.ascontiguousarray(each)) for each in found)
    if not array.ndim:
        return Tensor._of(np.zeros((int(bool(array)), 0), np.int64))
    return Tensor._of(np.array(np.nonzero(array)).T)


def take(input: Tensor, index: Tensor) -> Tensor:
    """Elements by their position in the flattened tensor."""
    return Tensor._of(_checked_take(input._array.reshape(-1), index._array))


def _checked_take(flat: Array, indices: Array) -> Array:
    return np.asarray(flat[_checked(indices, flat.size, 0)])


METHODS = (
    select,
    narrow,
    index_select,
    gather,
    masked_select,
    masked_fill,
    masked_fill_,
    nonzero,
    take,
)
FUNCTIONS = (select, narrow, index_select, gather, masked_select, masked_fill, nonzero, take)
OPERATORS = {"__getitem__": getitem, "__setitem__": setitem}
