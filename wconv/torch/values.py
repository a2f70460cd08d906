"""Arrays out of what Python has for values: numbers, nested lists, arrays, tensors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from wconv.tensors.base import Array
from wconv.torch import dtypes
from wconv.torch.convert import convert
from wconv.torch.dtypes import dtype
from wconv.torch.promotion import of_number, promote_types
from wconv.torch.storage import UntypedStorage
from wconv.torch.tensor import Tensor


def gathered(data: Any, to: dtype | None) -> Array:
    """A new array with the values of `data`, of dtype `to` or of the one that torch infers."""
    if isinstance(data, Tensor):
        return convert(data._array, to or data.dtype)
    if isinstance(data, (np.ndarray, np.generic)):
        array = np.asarray(data)
        return convert(array, to or dtypes.of_numpy(array.dtype))
    if isinstance(data, UntypedStorage):
        raise TypeError("tensor() needs numbers: use torch.asarray(storage, dtype=torch.uint8)")
    shape, leaves = _flattened(data)
    found = to or _inferred(leaves)
    if found.row.kind == "int":
        return np.array([scalar(leaf, found) for leaf in leaves], found.numpy).reshape(shape)
    values = [leaf.item() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    kind = np.complex128 if any(isinstance(v, complex) for v in values) else np.float64
    return convert(np.array(values, kind), found).reshape(shape)


def _flattened(data: Any) -> tuple[list[int], list[Any]]:
    """The shape of nested sequences and their numbers in C order."""
    if isinstance(data, (Tensor, np.ndarray)) and data.shape:
        flat = data.reshape(-1)
        return list(data.shape), [flat[at] for at in range(len(flat))]
    if not isinstance(data, (list, tuple, range)):
        if not isinstance(data, (Tensor, np.ndarray, np.generic, int, float, complex)):
            raise (TypeError if isinstance(data, str) else RuntimeError)(
                f"Could not infer dtype of {type(data).__name__}: a tensor is made of numbers"
            )
        return [], [data]
    inner: list[int] | None = None
    leaves: list[Any] = []
    for entry in data:
        shape, found = _flattened(entry)
        if inner is not None and shape != inner:
            raise ValueError(
                f"the nested sequences are ragged: {inner or 'a number'} here, {shape or 'a number'} there"
            )
        inner = shape
        leaves.extend(found)
    return [len(data), *(inner or [])], leaves


def _inferred(leaves: list[Any]) -> dtype:
    found: dtype | None = None
    for kind in {leaf.dtype if isinstance(leaf, Tensor) else type(leaf): leaf for leaf in leaves}.values():
        if isinstance(kind, Tensor):
            each = kind.dtype
        elif isinstance(kind, (np.generic, np.ndarray)):
            each = dtypes.of_numpy(kind.dtype)
        else:
            each = of_number(kind)
        found = each if found is None else promote_types(found, each)
    return found or dtypes.get_default_dtype()


def scalar(value: Any, to: dtype) -> Any:
    """One number as an element of a dtype.

    Raises:
        RuntimeError: an integer dtype cannot hold it.
    """
    number = value.item() if isinstance(value, (Tensor, np.generic, np.ndarray)) else value
    if to.row.kind == "int" and isinstance(number, (int, float)):
        limits = np.iinfo(to.numpy)
        if not math.isfinite(number) or not limits.min <= int(number) <= limits.max:
            raise RuntimeError(f"value cannot be converted to type {to.name} without overflow")
        return to.numpy.type(int(number))
    if not isinstance(number, (int, float, complex)):
        raise TypeError(f"a number is needed, not {type(value).__name__}")
    if isinstance(number, complex) and not to.is_complex:
        raise RuntimeError(f"value cannot be converted to type {to.name} without overflow")
    return convert(np.asarray(number), to)
