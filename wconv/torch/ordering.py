"""Functions that compare elements or whole tensors: sorted, unique, equal, close."""

from __future__ import annotations

from typing import Any

import numpy as np

from wconv.tensors.base import Array
from wconv.torch.reductions import Extreme, exact, ordered, require_real
from wconv.torch.size import axis
from wconv.torch.tensor import Tensor


def sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> Extreme:
    """Sorted values and where they came from; equal ones keep their order."""
    require_real(input, "sort")
    at = axis(dim, input.ndim)
    order = _argsort(ordered(input), at, descending)
    values = input._array if not input.ndim else np.take_along_axis(input._array, order, at)
    return Extreme(Tensor._of(np.asarray(values.copy())), Tensor._of(order))


def argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    return sort(input, dim, descending, stable).indices


def _argsort(array: Array, at: int, descending: bool) -> Array:
    if not array.ndim:
        return np.zeros((), np.int64)
    if not descending:
        return np.argsort(array, axis=at, kind="stable")
    backwards = np.argsort(np.flip(array, at), axis=at, kind="stable")
    return np.ascontiguousarray(np.flip(array.shape[at] - 1 - backwards, at))


def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Extreme:
    at = axis(dim, input.ndim)
    if k > (input.shape[at] if input.ndim else 1):
        raise RuntimeError("selected index k out of range")
    values, indices = sort(input, at, descending=largest)
    return Extreme(values.narrow(at, 0, k).contiguous(), indices.narrow(at, 0, k).contiguous())


def allclose(
    input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> bool:
    """Whether |input - other| <= atol + rtol * |other| everywhere."""
    return bool(isclose(input, other, rtol, atol, equal_nan)._array.all())


def isclose(
    input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    if input.dtype is not other.dtype:
        raise RuntimeError(f"{input.dtype} did not match {other.dtype}")
    first, second = exact(input._array), exact(other._array)
    return Tensor._of(np.asarray(np.isclose(first, second, rtol=rtol, atol=atol, equal_nan=equal_nan)))


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether shapes and all values are the same (NaN equals nothing)."""
    if input.shape != other.shape:
        return False
    from wconv.torch.arithmetic import TABLE

    compare = TABLE["eq"]
    if input.ndim and input.shape[0] > 1:  # what differs mostly does so at once
        from wconv.torch.indexing import narrow

        first = compare(narrow(input, 0, 0, 1), narrow(other, 0, 0, 1))
        if not first._array.all():
            return False
    return bool(compare(input, other)._array.all())


def unique(
    input: Tensor, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False
) -> Any:
    values, inverse, counts = np.unique(input._array, return_inverse=True, return_counts=True)
    found = [Tensor._of(values)]
    if return_inverse:
        found.append(Tensor._of(inverse.reshape(input.shape)))
    if return_counts:
        found.append(Tensor._of(counts))
    return found[0] if len(found) == 1 else tuple(found)


METHODS = (sort, argsort, topk, allclose, isclose, equal, unique)
FUNCTIONS = METHODS
