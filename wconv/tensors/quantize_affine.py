"""Affine quantization, `code * scale + bias`, of a block of groups: MLX's `backend/cpu/quantized.cpp`."""

from __future__ import annotations

import numpy as np

from wconv.tensors.base import Array
from wconv.tensors.quantize_columns import Work, ends, fill_plane, finite_ends, load, spread_out

_UNIT = np.float32(1.5 * 2**23)
"""A float32 whose last bit is worth one: added to a small number, the adder rounds half to even."""


def affine(block: Array, bits: int, work: Work, scales_out: Array, biases_out: Array) -> bool:
    """Makes the codes, in `work.codes`, with which the end of larger magnitude is exact.

    Returns:
        Whether all numbers are known to be finite.
    """
    load(block, work)
    high, low = ends(block, work)
    range_ = high - low
    finite = bool(np.isfinite(range_).all())
    if not finite:  # MLX's comparisons pass over NaN
        high, low = finite_ends(block, work)
        range_ = high - low
    top = (1 << bits) - 1
    negative = np.abs(low) > np.abs(high)
    edge = np.where(negative, low, high)
    scales = np.maximum(range_ / np.float32(top), np.float32(1e-7))
    scales = np.where(negative, scales, -scales)
    steps = np.rint(edge / scales)
    reached = steps != 0
    if reached.all():
        biases = edge
        np.divide(edge, steps, out=scales)
    else:
        biases = np.where(reached, edge, np.float32(0))
        np.divide(edge, steps, out=scales, where=reached)
    spread_biases, spread_scales = spread_out(biases), spread_out(scales)
    for at in (0, 1):
        plane = fill_plane(block, work, at)
        np.subtract(plane, spread_biases, out=plane)
        np.divide(plane, spread_scales, out=plane)
        if not finite:
            np.clip(plane, 0, top, out=plane)
            np.nan_to_num(plane, copy=False, nan=0.0)
        # of finite numbers the quotients are at least -1/2 and hardly larger than the largest code
        np.add(plane, _UNIT, out=plane)
        np.copyto(work.codes[at], plane.view(np.uint32), casting="unsafe")
    work.limit(top, work.codes)
    np.copyto(scales_out, scales, casting="unsafe")
    np.copyto(biases_out, biases, casting="unsafe")
    return finite
