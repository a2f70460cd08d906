"""Tensors on the device "meta": a shape, strides and a dtype, and no values.

A function is run on ordinary tensors of the same shapes, whose bytes are zeros that the system only promises:
what it makes has torch's shape, strides and dtype. What follows from the values is an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from wconv.tensors.base import Array
from wconv.torch import dtypes
from wconv.torch.device import device
from wconv.torch.dtypes import dtype
from wconv.torch.storage import Bytes, UntypedStorage
from wconv.torch.strides import contiguous_strides
from wconv.torch.tensor import Tensor

META = device("meta")

BY_VALUE = frozenset(
    "allclose equal item nonzero tolist unique unique_consecutive masked_select argwhere bincount".split()  # noqa: SIM905
)
"""Functions whose result, or whose result's shape, follows from the values."""


class MetaTensor(Tensor):
    """A tensor without values."""

    __module__ = "torch"

    @property
    def _array(self) -> Array:
        raise NotImplementedError("Cannot copy out of meta tensor; no data!")

    @property
    def device(self) -> device:
        return META

    @property
    def is_meta(self) -> bool:
        return True

    def data_ptr(self) -> int:
        return 0

    def __repr__(self) -> str:
        usual = (dtypes.get_default_dtype(), dtypes.int64, dtypes.bool_)
        kind = "" if self.dtype in usual else f", dtype={self.dtype}"
        return f"tensor(..., device='meta', size={tuple(self.shape)}{kind})"

    def __reduce__(self) -> Any:
        return empty, (tuple(self.shape), self.dtype, self.stride())

    def _as(self, kind: type[Tensor]) -> Tensor:
        """A Parameter without values, too."""
        kept = type(self) if issubclass(type(self), kind) and kind is not Tensor else _of_kind(kind)
        return super()._as(kept)


MetaTensor.__name__ = MetaTensor.__qualname__ = "Tensor"

_kinds: dict[type[Tensor], type[Tensor]] = {Tensor: MetaTensor}


def _of_kind(kind: type[Tensor]) -> type[Tensor]:
    if kind not in _kinds:
        _kinds[kind] = type(kind.__name__, (MetaTensor, kind), {"__module__": kind.__module__})
    return _kinds[kind]


def empty(shape: Sequence[int], to: dtype, strides: Sequence[int] | None = None) -> Tensor:
    """A tensor on the meta device."""
    steps = contiguous_strides(shape) if strides is None else strides
    reach = sum((length - 1) * step for length, step in zip(shape, steps, strict=True)) + 1
    size = reach * to.itemsize if math.prod(shape) else 0
    return MetaTensor._at(_promise(size), to, 0, shape, steps)


def _promise(size: int) -> UntypedStorage:
    return UntypedStorage.pending(size, lambda: _promised(size))


def _promised(size: int) -> Bytes:
    """Zeros that take no memory until they are written."""
    if not size:
        return np.zeros(0, np.uint8)
    import mmap

    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    return np.frombuffer(mmap.mmap(-1, size, flags=flags), np.uint8)


def like(tensor: Tensor) -> Tensor:
    """What is left of a tensor when its values are taken away."""
    made = empty(tensor.shape, tensor.dtype, tensor.stride())
    made._requires_grad = tensor._requires_grad
    return made


def _picks_by_value(name: str, args: tuple[Any, ...]) -> bool:
    """Whether the shape of what an index or a condition picks follows from its values."""
    if name == "where":
        return len(args) == 1
    if name not in ("getitem", "setitem") or len(args) < 2:
        return False
    entries = args[1] if isinstance(args[1], tuple) else (args[1],)
    return any(isinstance(each, MetaTensor) and each.dtype.name in ("bool", "uint8") for each in entries)


def shapes_only(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], real: bool = False
) -> Any:
    """Runs a function on tensors of which some have no values; the result has none, unless `real` is set.

    Raises:
        NotImplementedError: the result would follow from the values.
        RuntimeError: a tensor with values takes part.
    """
    name = function.__name__
    if name == "numpy":
        raise TypeError("can't convert meta device type tensor to numpy: it has no values")
    if name == "cpu":
        raise NotImplementedError("Cannot copy out of meta tensor; no data!")
    if name in BY_VALUE or _picks_by_value(name, args):
        raise NotImplementedError(f"{name}: a tensor on the meta device has no values to go by")
    given: dict[int, tuple[Tensor, Tensor]] = {}

    def stand_in(each: Any) -> Any:
        if isinstance(each, MetaTensor):
            made = Tensor._at(
                _promise(each.untyped_storage().nbytes()), each.dtype, 0, each.shape, each.stride()
            )
            given[id(made)] = made, each
            return made
        if isinstance(each, Tensor) and each.ndim and name != "copy_":
            raise RuntimeError(
                f"{name}: expected all tensors to be on the same device, but found at least two: meta and cpu"
            )
        if type(each) in (list, tuple):
            return type(each)(stand_in(part) for part in each)
        return each

    def without_values(each: Any) -> Any:
        if isinstance(each, Tensor):
            return given[id(each)][1] if id(each) in given else like(each)
        if isinstance(each, tuple) and hasattr(each, "_fields"):
            return type(each)(*map(without_values, each))
        if type(each) in (list, tuple):
            return type(each)(map(without_values, each))
        return each

    stand_ins = [stand_in(each) for each in args]
    named = {key: stand_in(each) for key, each in kwargs.items()}
    if name == "copy_" and not isinstance(args[0], MetaTensor):
        raise NotImplementedError("Cannot copy out of meta tensor; no data!")
    with np.errstate(all="ignore"):
        made = function(*stand_ins, **named)
        return made if real else without_values(made)
