"""Arrays from one dtype to another, with the rounding of `wconv.tensors.casts`, which is torch's."""

from __future__ import annotations

import warnings

import numpy as np

from wconv.tensors import casts
from wconv.tensors.base import Array
from wconv.torch import dtypes
from wconv.torch.dtypes import dtype
from wconv.torch.strides import empty_as, memory_order


def convert(array: Array, to: dtype, *, keep_order: bool = True) -> Array:
    """A copy of `array` in another dtype (float to int truncates, anything but 0 is True).

    Args:
        keep_order: lay the copy out as `array` is laid out, as torch does; otherwise C-contiguous.
    """
    out = empty_as(array, to.numpy, keep_order=keep_order)
    if array.dtype == to.numpy:
        np.copyto(out, array)
        return out
    dtypes.require_values(dtypes.of_numpy(array.dtype), to)
    if to is dtypes.bool_:
        np.not_equal(array, 0, out=out)
        return out
    if array.dtype.kind == "c" and not to.is_complex:
        warnings.warn("Casting complex values to real discards the imaginary part", UserWarning, stacklevel=3)
        array = array.real
    by_memory = memory_order(out.shape, out.strides)
    source = np.ascontiguousarray(array.transpose(by_memory))
    casts.cast(source.reshape(-1), out.transpose(by_memory).reshape(-1))
    return out
