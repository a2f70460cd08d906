"""Normally distributed numbers out of uniform ones, as torch's CPU kernels make them.

Sixteen float32 values or more go through ATen's vectorised Box-Muller transform (native/cpu/avx_mathfun.h, as
compiled for x86-64 with AVX2 and FMA): its logarithm and its sine and cosine are polynomials in float32, done
here with the same roundings. On a machine without AVX2 torch itself gives other last bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wconv.torch.generator import Generator

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

_f = np.float32

LOG = (
    7.0376836292e-2,
    -1.1514610310e-1,
    1.1676998740e-1,
    -1.2420140846e-1,
    1.4249322787e-1,
    -1.6668057665e-1,
    2.0000714765e-1,
    -2.4999993993e-1,
    3.3333331174e-1,
)
SINE = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
COSINE = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
QUARTER_PI = (-0.78515625, -2.4187564849853515625e-4, -3.77489497744594108e-8)
"""-pi / 4 in three parts."""

BLOCK = 1 << 12
"""Sixteens of numbers that are transformed at a time: little enough for the processor's cache."""


def fma(a: Floats, b: Floats | np.float32, c: Floats | np.float32) -> Floats:
    """`a * b + c` in float32, rounded once."""
    product = a.astype(np.float64) * b
    total = product + c
    halfway = (total.view(np.int64) & 0x1FFFFFFF) == 0x10000000
    if halfway.any():
        # float64 rounded to just between two float32: what it dropped decides
        addend = np.broadcast_to(np.asarray(c, np.float64), total.shape)[halfway]
        first, near = product[halfway], total[halfway]
        back = near - first
        rest = (first - (near - back)) + (addend - back)
        total[halfway] = np.where(rest == 0, near, np.nextafter(near, np.where(rest > 0, np.inf, -np.inf)))
    return total.astype(np.float32)


def polynomial(factors: tuple[float, ...], x: Floats) -> Floats:
    made = np.full_like(x, factors[0])
    for factor in factors[1:]:
        made = fma(made, x, _f(factor))
    return made


def log(x: Floats) -> Floats:
    """The natural logarithm of normal float32 numbers above 0, as avx_mathfun's log256_ps."""
    bits = x.view(np.int32)
    exponent: Floats = ((bits >> 23) - 0x7F).astype(np.float32) + _f(1)
    mantissa = ((bits & ~0x7F800000) | 0x3F000000).view(np.float32)
    small = mantissa < _f(0.707106781186547524)
    exponent = exponent - small.astype(np.float32)
    m: Floats = (mantissa - _f(1)) + np.where(small, mantissa, _f(0))
    z = m * m
    y = polynomial(LOG, m) * m
    y = fma(y, z, exponent * _f(-2.12194440e-4))
    y -= z * _f(0.5)
    return fma(exponent, _f(0.693359375), m + y)


def sine_and_cosine(x: Floats) -> tuple[Floats, Floats]:
    """Of float32 numbers from 0 on, as avx_mathfun's sincos256_ps."""
    octant = ((x * _f(1.27323954473516)).astype(np.int32) + 1) & ~1
    turns = octant.astype(np.float32)
    for part in QUARTER_PI:
        x = fma(turns, _f(part), x)
    z = x * x
    cosine = fma(polynomial(COSINE, z) * z, z, -(z * _f(0.5))) + _f(1)
    sine = fma(polynomial(SINE, z) * z, x, x)
    swap = (octant & 2) != 0
    sines, cosines = np.where(swap, cosine, sine), np.where(swap, sine, cosine)
    sines = np.where((octant & 4) != 0, -sines, sines)
    return sines, np.where(((octant - 2) & 4) == 0, -cosines, cosines)


def _sixteens32(unit: Floats, mean: float, std: float) -> Floats:
    """Box-Muller on rows of 16: eight radii, then eight angles."""
    made = np.empty_like(unit)
    for first in range(0, len(unit), BLOCK):
        part = unit[first : first + BLOCK]
        radius = np.sqrt(_f(-2) * log(_f(1) - part[:, :8]))
        sines, cosines = sine_and_cosine(_f(2 * math.pi) * part[:, 8:])
        pair = np.concatenate([radius * cosines, radius * sines], axis=1)
        made[first : first + BLOCK] = fma(pair, _f(std), _f(mean))
    return made


def _sixteens64(unit: Doubles, mean: float, std: float) -> Doubles:
    made = np.empty_like(unit)
    flat, out = unit.reshape(-1, 2, 8), made.reshape(-1, 2, 8)
    for at, (first, second) in enumerate(flat.tolist()):
        for lane in range(8):
            radius = math.sqrt(-2 * math.log(1 - first[lane]))
            theta = 2 * math.pi * second[lane]
            out[at, 0, lane] = fma64(radius * math.cos(theta), std, mean)
            out[at, 1, lane] = fma64(radius * math.sin(theta), std, mean)
    return made


def fma64(a: float, b: float, c: float) -> float:
    """`a * b + c` in float64, rounded once."""
    if (b, c) == (1.0, 0.0):
        return a
    from fractions import Fraction

    return float(Fraction(a) * Fraction(b) + Fraction(c))


def filled(
    generator: Generator, count: int, double: bool, mean: float, std: float, narrow: bool
) -> NDArray[Any]:
    """`count` (16 or more) numbers for a contiguous tensor, as float32 or float64.

    Args:
        narrow: for float16 and bfloat16, which torch fills by sixteens.
    """
    whole = count // 16 * 16
    draw: Callable[[int], NDArray[Any]] = generator.unit64 if double else generator.unit32
    transform: Callable[..., NDArray[Any]] = _sixteens64 if double else _sixteens32
    made = draw(whole if narrow else count)
    if narrow:
        made = np.concatenate([made, made[: count - whole]])
    made[:whole] = transform(made[:whole].reshape(-1, 16), mean, std).reshape(-1)
    if count % 16:  # the last sixteen are drawn again
        made[-16:] = transform(draw(16).reshape(1, 16), mean, std).reshape(-1)
    return made


def one_by_one(generator: Generator, count: int, mean: float, std: float) -> Doubles:
    """Numbers for small tensors and views: in float64, two from each pair of draws."""
    made = np.empty(count, np.float64)
    for at in range(count):
        sample, generator.next_normal = generator.next_normal, None
        if sample is None:
            angle, unit = generator.unit64(2).tolist()
            radius = math.sqrt(-2.0 * math.log1p(-unit))
            theta = 2.0 * math.pi * angle
            generator.next_normal = radius * math.sin(theta)
            sample = radius * math.cos(theta)
        made[at] = fma64(sample, std, mean)
    return made
