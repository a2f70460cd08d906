"""Which values of a lazy tensor were lost in casts, wherever in its graph those stand.

Casts report what they lose to `casts.take_losses`; so nothing is swallowed, but what was cast and then
sliced away counts too. Where something was lost, which is rare, `exactly` makes the graph again over
magnitudes instead of values: each element is what was lost on its way, or 0. Operations that move elements
move them too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from wconv.tensors import casts, dtypes
from wconv.tensors.casts import NONE, Overflow
from wconv.tensors.dtypes import DType
from wconv.tensors.lazy import Array, ArrayTensor, FileTensor, LazyTensor, PackedFileTensor
from wconv.tensors.nodes import (
    AddNumberNode,
    AddTensorsNode,
    CastNode,
    ReshapeNode,
    UnaryNode,
    ViewNode,
    ZerosNode,
)


def count_lost(tensor: LazyTensor, start: int, stop: int) -> Overflow:
    """What the casts within `tensor` lost of its flattened elements `start` to `stop`.

    Reads them again. Elements that occur twice count twice; of complex ones each component counts.
    """
    found = _magnitudes(tensor)
    lost = NONE
    if found is not None:
        values = found.read_range(start, stop).view(np.float64)
        lost = Overflow(int(np.count_nonzero(values)), float(values.max(initial=0.0)))
    casts.take_losses()
    return lost


def _like(dtype: DType) -> DType:
    return dtypes.by_name("complex128" if dtype.kind == "complex" else "float64")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class _Lost(UnaryNode):
    """For each element of a cast the magnitude that it lost, or that `before` says was lost on the way."""

    PARENTS: ClassVar[tuple[str, ...]] = ("parent", "before")

    target: DType
    before: LazyTensor | None

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return _like(self.target)

    def read_into(self, start: int, stop: int, out: Array) -> None:
        source = self.parent.read_range(start, stop)
        result = np.empty(stop - start, self.target.numpy)
        out[:] = 0
        if casts.cast(source, result).count:
            if self.parent.dtype.kind == "complex":
                halves = source.view(f"f{source.itemsize // 2}"), result.view(f"f{result.itemsize // 2}")
                _mark(*halves, out.view(np.float64))
            else:
                lost = np.zeros(out.size)
                _mark(source, result if self.target.kind != "complex" else result.real, lost)
                out[:] = lost
        if self.before is not None:
            before = self.before.read_range(start, stop)
            if before.dtype == out.dtype:
                _larger(out, before)
            else:
                out[:] = np.maximum(out.real, before)


def _mark(source: Array, result: Array, out: Array) -> None:
    """Writes the magnitudes of finite values that `result` does not have, as `casts` counts them."""
    with np.errstate(all="ignore"):
        wide = source.astype(np.float64)
        if result.dtype == dtypes.by_name("float8_e4m3fn").numpy:
            gone = np.abs(source.astype(np.float32)) > 464
        else:
            gone = ~np.isfinite(result.astype(np.float64))
        np.copyto(out, np.abs(wide), where=gone & np.isfinite(wide))


def _larger(out: Array, other: Array) -> None:
    flat = out.view(np.float64)
    np.maximum(flat, other.view(np.float64), out=flat)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class _Either(UnaryNode):
    """The larger of two magnitudes."""

    PARENTS: ClassVar[tuple[str, ...]] = ("parent", "other")

    other: LazyTensor

    def read_into(self, start: int, stop: int, out: Array) -> None:
        self.parent.read_into(start, stop, out)
        _larger(out, self.other.read_range(start, stop))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class _Computed(UnaryNode):
    """Magnitudes for an operation of which only the tally is known: what is not finite was lost."""

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return _like(self.parent.dtype)

    def read_into(self, start: int, stop: int, out: Array) -> None:
        out[:] = 0
        casts.take_losses()
        values = self.parent.read_range(start, stop)
        lost = casts.take_losses()
        if not lost.count:
            return
        kind = self.parent.dtype.kind
        places = np.zeros(out.size, np.bool_)
        if kind in ("float", "complex"):
            places = ~np.isfinite(values if kind == "complex" else values.astype(np.float64))
        if not places.any():
            places[: lost.count] = True  # where is not known
        out[places] = lost.largest


def _magnitudes(tensor: LazyTensor) -> LazyTensor | None:
    """The lazy tensor of what each element lost; None where nothing can be lost."""
    find = _of_moved if tensor.MOVES else _BY_TYPE.get(type(tensor), _Computed)
    return find(tensor)


def _of_cast(tensor: LazyTensor) -> LazyTensor | None:
    assert isinstance(tensor, CastNode)
    return _Lost(tensor.parent, tensor.target, _magnitudes(tensor.parent))


def _of_moved(tensor: LazyTensor) -> LazyTensor | None:
    found = [_magnitudes(parent) for parent in tensor.parents]
    if all(one is None for one in found):
        return None
    nothing = _like(tensor.dtype)
    return tensor.with_parents(
        *(
            ZerosNode(parent.shape, nothing) if one is None else one
            for parent, one in zip(tensor.parents, found, strict=True)
        )
    )


def _of_sum(tensor: LazyTensor) -> LazyTensor | None:
    one, other = map(_magnitudes, tensor.parents)
    return _Either(one, other) if one is not None and other is not None else one or other


def _of_add(tensor: LazyTensor) -> LazyTensor | None:
    return _magnitudes(*tensor.parents)


def _of_view(tensor: LazyTensor) -> LazyTensor | None:
    assert isinstance(tensor, ViewNode)
    found = _magnitudes(tensor.parent)
    if found is None:
        return None
    same = tensor.target.itemsize == tensor.parent.dtype.itemsize and found.dtype is _like(tensor.target)
    return ReshapeNode(found, tensor.new_shape) if same else _Computed(tensor)


def _of_stored(tensor: LazyTensor) -> LazyTensor | None:
    return None


_BY_TYPE: dict[type[LazyTensor], Callable[..., LazyTensor | None]] = {
    FileTensor: _of_stored,
    PackedFileTensor: _of_stored,
    ArrayTensor: _of_stored,
    ZerosNode: _of_stored,
    CastNode: _of_cast,
    AddNumberNode: _of_add,
    AddTensorsNode: _of_sum,
    ViewNode: _of_view,
}
"""Nodes whose losses are known by element, beside those that move elements; of all others `_Computed` makes
the best."""
