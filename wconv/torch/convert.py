"""Arrays from one dtype to another, with the rounding of `wconv.casts`, which is torch's."""

from __future__ import annotations

import warnings

import numpy as np

from wconv import casts
from wconv.tensor import Array
from wconv.torch import dtypes
from wconv.torch.dtypes import dtype


def convert(array: Array, to: dtype, *, keep_order: bool = True) -> Array:
    """A copy of `array` in another dtype (float to int truncates, anything but 0 is True).

    Args:
        keep_order: lay the copy out as `array` is laid out, as torch does; otherwise C-contiguous.
    """
    order = "K" if keep_order else "C"
    if array.dtype == to.numpy:
        return np.array(array, order=order, copy=True)
    if array.dtype.kind == "c" and not to.is_complex and to is not dtypes.bool_:
        warnings.warn("Casting complex values to real discards the imaginary part", UserWarning, stacklevel=3)
        array = array.real
    if to is dtypes.bool_:
        return np.asarray(array != 0)
    out = np.empty_like(array, dtype=to.numpy, order=order, subok=False)
    by_memory = sorted(range(out.ndim), key=lambda axis: -out.strides[axis])
    source = np.ascontiguousarray(array.transpose(by_memory))
    casts.cast(source.reshape(-1), out.transpose(by_memory).reshape(-1))
    return out
