"""Quantization to small floats with shared scales (mxfp4, mxfp8, nvfp4), after MLX's `ops.cpp`."""

from __future__ import annotations

import functools

import numpy as np

from wconv.tensors import casts
from wconv.tensors.base import Array
from wconv.tensors.quantize_columns import Work, ends, fill_plane, load, spread_out
from wconv.tensors.rounded import rounded

LEAST_EXPONENT = -120
"""Scales below that are of numbers that may be subnormal."""

SMALLEST_EXACT = -14
"""From there on ratios of float16 have all their bits, and quotients are 6 at most but for a rounding."""

FP4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""The magnitudes of float4 e2m1, by code."""


@functools.cache
def decoded(mode: str) -> Array:
    """The float32 value of every code of a mode."""
    if mode == "mxfp8":
        import ml_dtypes

        floats: Array = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float32)
        return floats
    magnitudes = np.array(FP4, np.float32)
    return np.concatenate((magnitudes, -magnitudes))


def floating(block: Array, mode: str, work: Work, scales_out: Array) -> bool:
    """Makes the codes, in `work.codes`, and the scales of a block.

    Returns:
        Whether all numbers are finite.
    """
    load(block, work)
    high, low = ends(block, work)
    largest = np.maximum(np.abs(high), np.abs(low))
    top = np.float32(448 if mode == "mxfp8" else 6)
    # MLX computes in the weight's own dtype
    ratios = (largest / top).astype(block.dtype).astype(np.float32)
    if mode == "nvfp4":
        _scaled_by_floats(block, ratios, work, scales_out)
    else:
        _scaled_by_powers(block, ratios, mode, work, scales_out)
    return bool(np.isfinite(largest).all())


def _scaled_by_powers(block: Array, ratios: Array, mode: str, work: Work, scales_out: Array) -> None:
    """mxfp4 and mxfp8: the scale is the least power of two that is not below the ratio."""
    fraction, exponents = np.frexp(ratios)
    exponents -= fraction == 0.5
    exponents[ratios == 0] = 0
    np.copyto(scales_out, exponents + 127, casting="unsafe")
    smallest = int(exponents.min())
    ordinary = smallest >= LEAST_EXPONENT
    factors = spread_out(np.ldexp(np.float32(1), -exponents)) if ordinary else None
    for at, codes in enumerate(work.codes):
        plane = fill_plane(block, work, at)
        if factors is None:
            np.copyto(plane, np.ldexp(plane, spread_out(-exponents)))
        else:
            np.multiply(plane, factors, out=plane)
        _round_to_odd(plane, codes, exact=block.dtype.name == "bfloat16")
        if mode == "mxfp8":
            np.take(_e4m3(), codes, out=codes, mode="clip")
        else:
            _to_e2m1(codes, work, fitting=smallest > SMALLEST_EXACT)
    infinite = ~np.isfinite(ratios)
    if infinite.any():
        _saturate(block, infinite, mode, work, scales_out)


def _scaled_by_floats(block: Array, ratios: Array, work: Work, scales_out: Array) -> None:
    """nvfp4: the scale is a float8, and quotients are rounded to the weight's dtype."""
    upper = np.empty(ratios.shape, np.uint16)
    _round_to_odd(ratios.copy(), upper)
    np.copyto(scales_out, _e4m3()[upper], casting="unsafe")
    divisors = spread_out(decoded("mxfp8")[scales_out])
    # a scale rounded so far down, or to the largest, that quotients may exceed 8; or one that is none
    extreme = np.flatnonzero(spread_out(~((scales_out > 1) & (ratios <= 448))))
    fitting = scales_out.min() > 4 and scales_out.max() < 126  # of others a quotient may be more than 7
    for at, codes in enumerate(work.codes):
        plane = fill_plane(block, work, at)
        np.divide(plane, divisors, out=plane)
        few = plane[:, extreme]
        if block.dtype == np.float32:
            _round_to_odd(plane, codes)
        else:
            halves = codes.view(block.dtype).reshape(-1)
            rounded(plane.reshape(-1), halves, counted=False)
            few = few.astype(block.dtype).astype(np.float32)
            if block.dtype == np.float16:
                casts.cast(halves, plane.reshape(-1))
                _round_to_odd(plane, codes)
        _to_e2m1(codes, work, fitting=bool(fitting))
        if few.size:
            near = codes[:, extreme]
            beyond = ~(np.abs(few) <= 8)
            near[beyond] = _nearest(few[beyond])
            codes[:, extreme] = near


def _saturate(block: Array, infinite: Array, mode: str, work: Work, scales: Array) -> None:
    """What MLX makes of a group that holds an infinity or NaN: nothing of use, but the same here as there."""
    scales[infinite] = 128 if block.dtype == np.float32 else 0
    places = spread_out(infinite)
    for at, codes in enumerate(work.codes):
        group = fill_plane(block, work, at)[:, places]
        negative = np.signbit(group)
        negative[np.isnan(group)] &= block.dtype.name != "bfloat16"
        negative[group == 0] = block.dtype.name != "bfloat16"  # 0 / 0, whose sign is the processor's
        codes[:, places] = np.where(negative, 0xFE, 0x7E) if mode == "mxfp8" else 0


def _round_to_odd(values: Array, out: Array, *, exact: bool = False) -> None:
    """The upper 16 bits of float32, the last of them set if a lower one is: as good as all of it for one more
    rounding to few bits.

    Args:
        values: changed in place.
        exact: there are no lower bits, but of numbers that are too small to count.
    """
    bits = values.view(np.uint32)
    if not exact:
        low = np.bitwise_and(bits, np.uint32(0xFFFF))
        np.not_equal(low, 0, out=low, casting="unsafe")
        np.left_shift(low, 16, out=low)
        np.bitwise_or(bits, low, out=bits)
    np.right_shift(bits, 16, out=bits)
    np.copyto(out, bits, casting="unsafe")


def _to_e2m1(codes: Array, work: Work, *, fitting: bool) -> None:
    """Replaces the upper halves of float32 by codes of 4 bits; a tie goes toward zero, and so does -0.

    Args:
        fitting: no magnitude is more than 7.

    From 1 on a code is a float of its own: the exponent's two bits and one of the fraction. Below, it counts
    how many of the two middles a magnitude exceeds. All in whole passes over integers of 16 bits, where codes
    are negative until the end and -1 means yes.
    """
    some, code = work.plane.view(np.int16).reshape(2, *codes.shape)
    more, signed = work.aside.view(np.int16), codes.view(np.int16)
    np.bitwise_and(signed, np.int16(0x7FFF), out=some)
    np.subtract(np.int16(0x3E80), some, out=some)  # from 0.25
    np.add(some, np.int16(0x3F20 - 0x3E80), out=code)  # from 0.625
    np.right_shift(code, 6, out=code)
    np.add(some, np.int16(0x3F40 - 0x3E80), out=more)  # from 0.75
    np.right_shift(more, 15, out=more)
    np.right_shift(some, 15, out=some)
    np.right_shift(signed, 12, out=signed)
    np.bitwise_and(signed, np.int16(8), out=signed)
    np.bitwise_and(signed, some, out=signed)
    np.add(some, more, out=some)
    np.minimum(code, some, out=code)
    if not fitting:
        # with a scalar numpy takes ten times as long
        np.maximum(code, np.full(code.shape[-1], -7, np.int16), out=code)
    np.subtract(signed, code, out=signed)


def _nearest(values: Array) -> Array:
    """Codes of values beyond the range, by distances in float32: to a very large one all are equal."""
    codes: Array = np.argmin(np.abs(values[:, None] - decoded("nvfp4")[None, :]), axis=1).astype(np.uint8)
    return codes


@functools.cache
def _e4m3() -> Array:
    """The code of every float32 whose lower 16 bits are zero, by the upper ones."""
    import ml_dtypes

    values = (np.arange(1 << 16, dtype=np.uint32) << 16).view(np.float32)
    magnitudes = np.abs(values)
    known = np.where(magnitudes <= 448, magnitudes, np.float32(448))
    codes = known.astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
    return (codes | (np.signbit(values).astype(np.uint8) << 7)).astype(np.uint16)
