"""MLX's quantization in numpy: a few bits for each weight, a scale (and a bias) for each group of them.

Bit for bit what `mx.quantize` of MLX 0.32.4 gives on the CPU backend. The arithmetic is that of MLX's
`backend/cpu/quantized.cpp` (affine) and `ops.cpp` (mxfp4, mxfp8, nvfp4); the order of the work is not: groups
lie transposed, one to a column, so that every step is one long loop over neighbouring numbers.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from wconv.errors import WconvError

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

Mode = Literal["affine", "mxfp4", "mxfp8", "nvfp4"]

EQUALS = "MLX 0.32.4 (CPU)"
"""Whose bits the results are: other versions and Metal round some scales and codes differently."""

GROUPS_AT_ONCE = 2048
"""Columns of one block: 512 KiB of float32 for groups of 64.

Small enough for the cache. With half as many two threads take longer than one: they wait for the interpreter.
"""


@dataclass(frozen=True, slots=True)
class ModeLimits:
    """What one mode can do, its defaults first.

    Attributes:
        scale: the dtype of the scales; None for that of the weight.
    """

    bits: tuple[int, ...]
    group_sizes: tuple[int, ...]
    has_biases: bool
    scale: str | None


MODES: dict[str, ModeLimits] = {
    "affine": ModeLimits((4, 2, 3, 5, 6, 8), (64, 32, 128), has_biases=True, scale=None),
    "mxfp4": ModeLimits((4,), (32,), has_biases=False, scale="uint8"),
    "mxfp8": ModeLimits((8,), (32,), has_biases=False, scale="uint8"),
    "nvfp4": ModeLimits((4,), (16,), has_biases=False, scale="uint8"),
}


@dataclass(frozen=True, slots=True)
class Quantization:
    """How a weight is stored: `bits` for each element, a scale for each `group_size` of a row.

    Example:
        >>> Quantization.of("mxfp8")
        Quantization(mode='mxfp8', bits=8, group_size=32)
        >>> Quantization.of(bits=3).bits_per_weight("bfloat16")
        3.5
    """

    mode: str
    bits: int
    group_size: int

    @classmethod
    def of(cls, mode: str = "affine", bits: int | None = None, group_size: int | None = None) -> Quantization:
        """The quantization of a mode, with the mode's own defaults for what is not said.

        Raises:
            WconvError: there is no such mode, or it does not have those bits or groups.
        """
        limits = MODES.get(mode)
        if limits is None:
            raise WconvError(f"{mode!r} is not a quantization mode: one of {', '.join(MODES)}")
        for value, allowed, what in (
            (bits, limits.bits, "bits"),
            (group_size, limits.group_sizes, "groups of"),
        ):
            if value is not None and value not in allowed:
                known = ", ".join(map(str, sorted(allowed)))
                raise WconvError(f"{mode} does not have {what} {value}: it has {known}")
        return cls(mode, bits or limits.bits[0], group_size or limits.group_sizes[0])

    @property
    def has_biases(self) -> bool:
        return MODES[self.mode].has_biases

    def scale_dtype(self, weight: str) -> str:
        """The dtype of the scales (and biases) of a weight of that dtype."""
        return MODES[self.mode].scale or weight

    def bits_per_weight(self, weight: str) -> float:
        """Bits that one element takes with its share of scale and bias."""
        scale = {"uint8": 8, "float32": 32}.get(self.scale_dtype(weight), 16)
        return self.bits + scale * (2 if self.has_biases else 1) / self.group_size

    def row_bytes(self, columns: int) -> int:
        """Bytes of the codes of one row."""
        return columns * self.bits // 8


@dataclass(slots=True)
class Quantized:
    """Codes and scales of whole groups, in the order of the groups.

    Attributes:
        codes: bytes, one row for each group.
        scales, biases: one for each group; `biases` is None where the mode has none.
    """

    codes: Array
    scales: Array
    biases: Array | None


def quantize(values: Array, how: Quantization) -> Quantized:
    """Quantizes groups of float16, bfloat16 or float32 numbers.

    Args:
        values: of any shape whose size is a multiple of `how.group_size`, contiguous.

    Returns:
        Codes as bytes, which viewed as uint32 are MLX's; scales and biases in MLX's dtypes.
    """
    import numpy as np

    groups = values.reshape(-1, how.group_size)
    count = len(groups)
    limits = MODES[how.mode]
    scale_dtype = np.dtype(np.uint8) if limits.scale else groups.dtype
    result = Quantized(
        np.empty((count, how.row_bytes(how.group_size)), np.uint8),
        np.empty(count, scale_dtype),
        np.empty(count, scale_dtype) if limits.has_biases else None,
    )
    with np.errstate(all="ignore"):
        for start in range(0, count, GROUPS_AT_ONCE):
            block = groups[start : start + GROUPS_AT_ONCE]
            here = slice(start, start + len(block))
            if result.biases is not None:
                codes, scales, biases = _affine(block, how.bits)
                result.scales[here], result.biases[here] = scales, biases
            else:
                codes, result.scales[here] = _floating(block, how.mode)
            _pack(codes, how.bits, result.codes[here])
    return result


def _columns(block: Array) -> Array:
    """The groups as float32 columns; of 16-bit numbers those at even places first, then those at odd."""
    import numpy as np

    if block.dtype.name != "bfloat16":
        wide = block.astype(np.float32) if block.dtype != np.float32 else block
        return np.concatenate((wide[:, 0::2].T, wide[:, 1::2].T))
    # two bfloat16 are one word; each of them becomes a float32 when the other's bits are gone
    words = np.ascontiguousarray(np.ascontiguousarray(block).view(np.uint32).T)
    columns = np.empty((2 * len(words), words.shape[1]), np.uint32)
    np.left_shift(words, 16, out=columns[: len(words)])
    np.bitwise_and(words, np.uint32(0xFFFF0000), out=columns[len(words) :])
    return columns.view(np.float32)


def _affine(block: Array, bits: int) -> tuple[Array, Array, Array]:
    """Codes in columns, scales and biases, with which the end of larger magnitude is exact."""
    import numpy as np

    columns = _columns(block)
    high, low = np.maximum.reduce(columns, 0), np.minimum.reduce(columns, 0)
    finite = bool(np.isfinite(high).all() and np.isfinite(low).all())
    if not finite:  # MLX's comparisons pass over NaN
        high = np.fmax.reduce(columns, 0, initial=np.float32(-np.inf))
        low = np.fmin.reduce(columns, 0, initial=np.float32(np.inf))
    top = np.float32((1 << bits) - 1)
    negative = np.abs(low) > np.abs(high)
    scales = np.maximum((high - low) / top, np.float32(1e-7))
    np.negative(scales, out=scales, where=~negative)
    edge = np.where(negative, low, high)
    steps = np.rint(edge / scales)
    reached = steps != 0
    biases = np.where(reached, edge, np.float32(0))
    np.divide(edge, steps, out=scales, where=reached)
    np.subtract(columns, biases, out=columns)
    np.divide(columns, scales, out=columns)
    np.rint(columns, out=columns)
    np.clip(columns, 0, top, out=columns)
    if not finite:
        np.nan_to_num(columns, copy=False, nan=0.0)
    return columns.astype(np.uint8), scales.astype(block.dtype), biases.astype(block.dtype)


def _floating(block: Array, mode: str) -> tuple[Array, Array]:
    """Codes in columns and scales of the modes whose codes are small floats."""
    import numpy as np

    columns = _columns(block)
    largest = np.maximum.reduce(np.abs(columns), 0)
    top = np.float32(448 if mode == "mxfp8" else 6)
    # MLX computes in the weight's own dtype
    ratios = (largest / top).astype(block.dtype).astype(np.float32)
    table = _codes(mode)
    if mode == "nvfp4":
        scales = _codes("mxfp8")[_to_odd(ratios)]
        columns = (columns / decoded("mxfp8")[scales]).astype(block.dtype).astype(np.float32)
        codes = table[_to_odd(columns)]
        odd_ones = np.nonzero(~(np.abs(columns) <= 8))
        if len(odd_ones[0]):
            codes[odd_ones] = _nearest(columns[odd_ones])
        return codes, scales
    fraction, exponent = np.frexp(ratios)
    exponent = np.where(ratios == 0, 0, np.where(fraction == 0.5, exponent - 1, exponent))
    scales = (exponent + 127).astype(np.uint8)
    codes = table[_to_odd(np.ldexp(columns, -exponent))]
    infinite = ~np.isfinite(ratios)
    if infinite.any():
        _saturate(codes, scales, columns, infinite, mode, block.dtype)
    return codes, scales


def _saturate(
    codes: Array, scales: Array, columns: Array, infinite: Array, mode: str, dtype: np.dtype[Any]
) -> None:
    """What MLX makes of a group that holds an infinity or NaN: nothing of use, but the same here as there."""
    import numpy as np

    scales[infinite] = 128 if dtype == np.float32 else 0
    group = columns[:, infinite]
    negative = np.signbit(group)
    negative[np.isnan(group)] &= dtype.name != "bfloat16"
    negative[group == 0] = dtype.name != "bfloat16"  # 0 / 0, whose sign is the processor's
    codes[:, infinite] = np.where(negative, 0xFE, 0x7E) if mode == "mxfp8" else 0


def _to_odd(columns: Array) -> Array:
    """float32 rounded to odd in its upper 16 bits: as good as all of it for one more rounding to few bits."""
    import numpy as np

    bits = np.ascontiguousarray(columns).view(np.uint32)
    upper: Array = ((bits >> 16) | ((bits & 0xFFFF) != 0)).astype(np.uint16)
    return upper


def _nearest(values: Array) -> Array:
    """Codes of values beyond the range, by distances in float32: to a very large one all are equal."""
    import numpy as np

    codes: Array = np.argmin(np.abs(values[:, None] - decoded("nvfp4")[None, :]), axis=1).astype(np.uint8)
    return codes


FP4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""The magnitudes of float4 e2m1, by code."""


@functools.cache
def decoded(mode: str) -> Array:
    """The float32 value of every code of a mode."""
    import numpy as np

    if mode == "mxfp8":
        import ml_dtypes

        floats: Array = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float32)
        return floats
    magnitudes = np.array(FP4, np.float32)
    return np.concatenate((magnitudes, -magnitudes))


@functools.cache
def _codes(mode: str) -> Array:
    """The code of every float32 whose lower 16 bits are zero, by the upper ones."""
    import numpy as np

    values = (np.arange(1 << 16, dtype=np.uint32) << 16).view(np.float32)
    magnitudes = np.abs(values)
    if mode == "mxfp8":
        import ml_dtypes

        known = np.where(magnitudes <= 448, magnitudes, np.float32(448))
        codes = known.astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
        return codes | (np.signbit(values).astype(np.uint8) << 7)
    middles = [(low + high) / 2 for low, high in itertools.pairwise(FP4)]
    fours = sum((magnitudes > middle).astype(np.uint8) for middle in middles)  # a tie goes toward zero
    return np.where((values < 0) & (fours > 0), fours | 8, fours).astype(np.uint8)


def _pack(codes: Array, bits: int, out: Array) -> None:
    """Writes the columns of codes as little-endian runs of bits, one row for each group."""
    import numpy as np

    half = len(codes) // 2
    even, odd = codes[:half], codes[half:]
    if bits == 8:
        out[:, 0::2], out[:, 1::2] = even.T, odd.T
        return
    if bits == 4:
        np.left_shift(odd, 4, out=odd)
        out[:] = np.bitwise_or(even, odd, out=even).T
        return
    per_run = 8 // bits if bits == 2 else {3: 8, 5: 8, 6: 4}[bits]
    run_bytes = per_run * bits // 8
    packed = np.zeros((len(codes) // per_run * run_bytes, codes.shape[1]), np.uint8)
    for place in range(per_run):
        here = (odd if place % 2 else even)[place // 2 :: per_run // 2]
        byte, shift = divmod(place * bits, 8)
        packed[byte::run_bytes] |= here << shift
        if shift + bits > 8:
            packed[byte + 1 :: run_bytes] |= here >> (8 - shift)
    out[:] = packed.T
