"""float32 that was computed of codes and scales, rounded to the dtype of a result."""

from __future__ import annotations

import numpy as np

from wconv.tensors import casts, dtypes
from wconv.tensors.base import Array
from wconv.tensors.kernels import BLOCK, float32_to_float16

BFLOAT16 = dtypes.by_name("bfloat16").numpy


def rounded(values: Array, out: Array, *, finite: bool = False, counted: bool = True) -> None:
    """As `casts.cast` has it; faster to float16 where many values are zero, as those of codes are.

    Args:
        values: 1-D, contiguous.
        out: likewise and of the same length.
        finite: none is so large that bfloat16 does not hold it.
        counted: what overflows is told by `casts.take_losses`.
    """
    if out.dtype == np.float32 or (out.dtype == BFLOAT16 and (finite or not counted)):
        with np.errstate(all="ignore"):
            np.copyto(out, values, casting="unsafe")
    elif out.dtype == np.float16:
        for at in range(0, values.size, BLOCK):
            _to_float16(values[at : at + BLOCK], out[at : at + BLOCK], counted=counted)
    else:
        casts.cast(values, out)


def _to_float16(values: Array, out: Array, *, counted: bool) -> None:
    with np.errstate(all="ignore"):
        scratch = casts.scratch()
        odd = float32_to_float16(values, out, scratch)
        if odd is None:
            return
        # a quarter of a model's codes are zeros, which the kernel takes for irregular; it leaves their signs
        some, bits, signs = values != 0, out.view(np.uint16), scratch.halves[: values.size]
        np.multiply(bits, some.view(np.uint8), out=bits)
        np.bitwise_or(bits, signs, out=bits)
        np.logical_and(odd, some, out=odd)
        places = np.flatnonzero(odd)  # for the next cast takes the same memory
        if places.size:
            again = np.empty(places.size, np.float16)
            if counted:
                casts.cast(values[places], again)
            else:
                np.copyto(again, values[places], casting="unsafe")
            out[places] = again
