"""Tensors as arrays of numpy, MLX and whoever speaks DLPack."""

from __future__ import annotations

from typing import Any

import numpy as np

from wconv.extras import require
from wconv.tensors.base import Array
from wconv.torch import grad
from wconv.torch.dtypes import float4_x2
from wconv.torch.tensor import Tensor


def numpy(self: Tensor, *, force: bool = False) -> Array:
    """The values as an array over the same memory.

    Raises:
        TypeError: numpy has no such dtype (bfloat16, float8): use `.float()`, or `mx.array(tensor)`.
        RuntimeError: the tensor requires grad: `detach` it first, or pass `force=True`.
    """
    if self._requires_grad and not force and grad.is_grad_enabled():
        raise RuntimeError("a tensor that requires grad cannot become an array: use tensor.detach().numpy()")
    if self._dtype is float4_x2:
        raise TypeError(f"Got unsupported ScalarType {self._dtype}: .view(torch.uint8).numpy() has the bytes")
    if self._dtype.row.module != "numpy":
        raise TypeError(
            f"Got unsupported ScalarType {self._dtype.row.storage or self._dtype.name}: numpy has no"
            f" {self._dtype.name}. Use .float().numpy(), mx.array(tensor), or"
            " wconv.load for arrays of ml_dtypes"
        )
    return self._array


def array(self: Tensor, dtype: np.dtype[Any] | None = None, copy: bool | None = None) -> Array:
    return np.array(numpy(self), dtype=dtype, copy=copy)


def array_wrap(self: Tensor, array: Array, context: Any = None, return_scalar: bool = False) -> Tensor:
    return Tensor._of(np.asarray(array))


def mlx_array(self: Tensor) -> Any:
    """The values as an `mlx.core.array` of the same dtype (float64 as float32, as MLX has it from torch).

    Raises:
        TypeError: MLX has no such dtype.
    """
    mx = require("mlx.core", "the array for MLX")
    if self._dtype.name == "bfloat16":
        return mx.array(np.asarray(self._array, order="C").view(np.uint16)).view(mx.bfloat16)
    if self._dtype.name == "complex128" or self._dtype.row.module != "numpy":
        raise TypeError(f"MLX has no {self._dtype.name}: convert first, for example with .to(torch.float32)")
    return mx.array(self._array)


def dlpack(self: Tensor, **options: Any) -> Any:
    """A DLPack capsule, for `mx.array(tensor)`, `np.from_dlpack(tensor)` and others.

    Raises:
        BufferError: the dtype has none (float8).
    """
    if self._dtype.name == "bfloat16":
        return mlx_array(self).__dlpack__()
    if self._dtype is float4_x2:
        raise TypeError(f"Got unsupported ScalarType {self._dtype}: .view(torch.uint8).numpy() has the bytes")
    if self._dtype.row.module != "numpy":
        raise BufferError(f"{self._dtype} cannot be exchanged by DLPack")
    array = self._array if self._array.flags.writeable else self._array.copy()
    return array.__dlpack__(**options)


def dlpack_device(self: Tensor) -> tuple[int, int]:
    return (1, 0)


METHODS = (numpy,)
FUNCTIONS = ()
OPERATORS = {
    "__array__": array,
    "__array_wrap__": array_wrap,
    "__mlx_array__": mlx_array,
    "__dlpack__": dlpack,
    "__dlpack_device__": dlpack_device,
}
