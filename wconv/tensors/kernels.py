"""Casts as integer arithmetic on bit patterns, for the pairs of dtypes that numpy and ml_dtypes cast slowly.

A kernel computes every element as if it were regular (a normal number that stays normal) and returns a mask
of those that are not, or None when all are: subnormals, overflows, infinities, NaN. Its caller casts those
again with `astype`. A mask may name a few regular elements too, but misses no irregular one. All loops are
contiguous ufuncs into buffers that exist already, so that they run at the speed of the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 20
"""Elements a kernel takes at most. Smaller blocks lose more by handing the interpreter lock over than they
gain in the cache; larger ones fall out of it."""

Array = NDArray[Any]
Kernel = Callable[[Array, Array, "Scratch"], "NDArray[np.bool_] | None"]

_U8, _U16, _U32, _I8, _I16, _I32 = np.uint8, np.uint16, np.uint32, np.int8, np.int16, np.int32


class Scratch:
    """The buffers that one thread's casts work in; pages that no cast touches are never allocated."""

    __slots__ = ("halves", "middle", "odd", "words")

    def __init__(self) -> None:
        self.words = np.empty(BLOCK, _U32)
        self.halves = np.empty(BLOCK, _U16)
        self.odd = np.empty(BLOCK, np.bool_)
        self.middle = np.empty(BLOCK, _U32)


def bfloat16_to_float16(source: Array, out: Array, scratch: Scratch) -> NDArray[np.bool_] | None:
    """The fraction gains three zero bits; the exponent's bias falls by 112: modulo 32, its top bit flips."""
    x, y = source.view(_U16), out.view(_U16)
    magnitude, odd = scratch.halves[: x.size], scratch.odd[: x.size]
    np.add(x, x, out=magnitude)
    np.less(magnitude, _U16(113 << 8), out=odd)  # below 2^-14
    if magnitude.max(initial=0) >= 143 << 8:  # from 2^16
        np.logical_or(odd, magnitude >= _U16(143 << 8), out=odd)
    sign = np.bitwise_and(x, _U16(0x8000), out=magnitude)
    np.multiply(x, _U16(8), out=y)
    np.add(y, _U16(0x4000), out=y)
    np.bitwise_or(y, sign, out=y)
    return odd


def float16_to_bfloat16(source: Array, out: Array, scratch: Scratch) -> NDArray[np.bool_] | None:
    """The fraction loses three bits, rounded half to even; the exponent's bias grows by 112."""
    x, y = source.view(_I16), out.view(_I16)
    magnitude, odd = scratch.halves[: x.size], scratch.odd[: x.size]
    np.add(source.view(_U16), source.view(_U16), out=magnitude)
    np.less(magnitude, _U16(1 << 11), out=odd)  # subnormal
    if magnitude.max(initial=0) >= 31 << 11:  # infinite or NaN
        np.logical_or(odd, magnitude >= _U16(31 << 11), out=odd)
    np.right_shift(x, _I16(3), out=y)
    np.bitwise_and(y, _I16(1), out=y)
    np.add(y, x, out=y)
    np.add(y, _I16(3), out=y)
    np.right_shift(y, _I16(3), out=y)
    np.bitwise_and(y, _I16(-0x7001), out=y)  # the shift has copied the sign into three bits
    np.add(y, _I16(112 << 7), out=y)
    return odd


def float32_to_float16(source: Array, out: Array, scratch: Scratch) -> NDArray[np.bool_] | None:
    """The adder of the processor rounds: x + 2^(e + 13) keeps ten bits of x's fraction, half to even.

    The low 16 bits of that sum are x's fraction with its leading one; the anchor's own low bits correct the
    exponent, which the anchor's high half then contributes.
    """
    anchor, y = scratch.words[: source.size], out.view(_U16)
    high, odd = scratch.halves[: source.size], scratch.odd[: source.size]
    np.bitwise_and(source.view(_U32), _U32(0xFF800000), out=anchor)
    np.add(anchor, _U32((13 << 23) + 0x800), out=anchor)
    rounded = scratch.middle[: source.size]
    np.add(source, anchor.view(np.float32), out=rounded.view(np.float32))
    np.copyto(y, rounded, casting="unsafe")
    np.right_shift(anchor, _U32(16), out=anchor)
    np.copyto(high, anchor, casting="unsafe")
    magnitude = anchor.view(_U16)[: source.size]
    np.add(high, high, out=magnitude)
    np.less(magnitude, _U16((113 + 13) << 8), out=odd)  # below 2^-14, or so large that the anchor wrapped
    if magnitude.max(initial=0) >= (142 + 13) << 8:  # from 2^15: what rounds up to infinity is counted
        np.logical_or(odd, magnitude >= _U16((142 + 13) << 8), out=odd)
    np.multiply(magnitude, _U16(4), out=magnitude)
    np.add(y, magnitude, out=y)
    sign = np.bitwise_and(high, _U16(0x8000), out=high)
    np.bitwise_or(y, sign, out=y)
    return odd


def float32_to_bfloat16(source: Array, out: Array, scratch: Scratch) -> NDArray[np.bool_] | None:
    """ml_dtypes is fast here; only the infinities remain to be found."""
    np.copyto(out, source, casting="unsafe")
    return not_finite(out, 0x7F80)


def float16_to_float32(source: Array, out: Array, scratch: Scratch) -> NDArray[np.bool_] | None:
    """The bits move to float32's places and a multiplication corrects the bias, exact for subnormals too."""
    if flushes_subnormals():
        np.copyto(out, source, casting="unsafe")
        return None
    y = out.view(_I32)
    np.copyto(y, source.view(_I16))
    np.left_shift(y, _I32(13), out=y)
    np.bitwise_and(y, _I32(-0x70000001), out=y)  # widening has copied the sign into three bits
    np.multiply(out, _UP_112, out=out)
    return not_finite(source, 0x7C00)


def e4m3_to_bfloat16(source: Array, out: Array, scratch: Scratch) -> NDArray[np.bool_] | None:
    """float8_e4m3fn: the fraction gains four bits, the exponent's bias 120."""
    y = out.view(_I16)
    np.copyto(y, source.view(np.int8))
    np.multiply(y, _I16(1 << 4), out=y)
    np.bitwise_and(y, _I16(-0x7801), out=y)
    np.add(y, _I16(120 << 7), out=y)
    return _where_e4m3_is_odd(source, scratch)


def e4m3_to_float16(source: Array, out: Array, scratch: Scratch) -> NDArray[np.bool_] | None:
    """float8_e4m3fn: the fraction gains seven bits, the exponent's bias 8."""
    y = out.view(_I16)
    np.copyto(y, source.view(np.int8))
    np.multiply(y, _I16(1 << 7), out=y)
    np.bitwise_and(y, _I16(-0x4001), out=y)
    np.add(y, _I16(8 << 10), out=y)
    return _where_e4m3_is_odd(source, scratch)


def e4m3_to_float32(source: Array, out: Array, scratch: Scratch) -> NDArray[np.bool_] | None:
    """float8_e4m3fn: as float16, with a bias of 120 to gain; only NaN is odd."""
    if flushes_subnormals():
        np.copyto(out, source, casting="unsafe")
        return None
    y = out.view(_I32)
    np.copyto(y, source.view(np.int8))
    np.left_shift(y, _I32(20), out=y)
    np.bitwise_and(y, _I32(-0x78000001), out=y)
    np.multiply(out, _UP_120, out=out)
    magnitude = np.bitwise_and(source.view(_U8), _U8(0x7F), out=scratch.halves.view(_U8)[: source.size])
    return np.equal(magnitude, _U8(0x7F), out=scratch.odd[: source.size])


def e4m3_scaled_down(source: Array, out: Array) -> bool:
    """Writes float8_e4m3fn times 2^-120 as float32, for a factor that makes up for it to follow.

    Returns:
        Whether it did: not where a value is NaN, nor where the processor takes subnormals for zero.
    """
    if source.view(_I8).max(initial=0) == 0x7F or source.view(_U8).max(initial=0) == 0xFF:
        return False
    if flushes_subnormals():
        return False
    y = out.view(_I32)
    np.copyto(y, source.view(_I8))
    np.left_shift(y, _I32(20), out=y)
    np.bitwise_and(y, _I32(-0x78000001), out=y)
    return True


def e5m2_to_float16(source: Array, out: Array, scratch: Scratch) -> NDArray[np.bool_] | None:
    """float8_e5m2 is the upper half of a float16."""
    y = out.view(_U16)
    np.copyto(y, source.view(_U8))
    np.left_shift(y, _U16(8), out=y)
    return None


KERNELS: dict[tuple[str, str], Kernel] = {
    ("bfloat16", "float16"): bfloat16_to_float16,
    ("float16", "bfloat16"): float16_to_bfloat16,
    ("float16", "float32"): float16_to_float32,
    ("float32", "float16"): float32_to_float16,
    ("float32", "bfloat16"): float32_to_bfloat16,
    ("float8_e4m3fn", "bfloat16"): e4m3_to_bfloat16,
    ("float8_e4m3fn", "float16"): e4m3_to_float16,
    ("float8_e4m3fn", "float32"): e4m3_to_float32,
    ("float8_e5m2", "float16"): e5m2_to_float16,
}
"""By the names that `dtypes` gives source and target. Absent pairs are fast in `astype`, or rare."""

_SUBNORMAL = np.float32(2.0**-130)
_UP_112 = np.float32(2.0**112)
_UP_120 = np.float32(2.0**120)


def not_finite(values: Array, infinity: int) -> NDArray[np.bool_] | None:
    """Infinities and NaN of a 16-bit dtype, None for none; `infinity` is the pattern of the positive one."""
    patterns = values.view(_U16)
    if values.view(_I16).max(initial=0) < infinity and patterns.max(initial=0) < infinity + 0x8000:
        return None
    return np.bitwise_and(patterns, _U16(0x7FFF)) >= _U16(infinity)


def flushes_subnormals() -> bool:
    """Whether a fast-math library in this process has told the processor to take subnormals for zero."""
    return bool(np.multiply(_SUBNORMAL, _UP_112) == 0)


def _where_e4m3_is_odd(source: Array, scratch: Scratch) -> NDArray[np.bool_]:
    """Zeros, subnormals and NaN."""
    magnitude, odd = scratch.halves.view(_U8)[: source.size], scratch.odd[: source.size]
    np.add(source.view(_U8), source.view(_U8), out=magnitude)
    np.less(magnitude, _U8(1 << 4), out=odd)
    if magnitude.max(initial=0) == 0xFE:
        np.logical_or(odd, magnitude == _U8(0xFE), out=odd)
    return odd
