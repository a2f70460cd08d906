"""MLX's quantization in numpy: a few bits for each weight, a scale (and a bias) for each group of them.

Bit for bit what `mx.quantize` of MLX 0.32.4 gives on the CPU backend. The arithmetic is that of MLX's
`backend/cpu/quantized.cpp` (affine) and `ops.cpp` (mxfp4, mxfp8, nvfp4); the order of the work is not, as
`quantize_columns` tells.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from wconv.errors import WconvError

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

Mode = Literal["affine", "mxfp4", "mxfp8", "nvfp4"]

EQUALS = "MLX 0.32.4 (CPU)"
"""Whose bits the results are: Metal rounds some scales and codes differently, as older versions do."""

FIRST, CHANGED, LAST = (0, 29, 4), (0, 32, 2), (0, 32, 4)
"""MLX versions: the first one that was compared, the one since which scales are rounded up, the last one."""

OLDER_MODES = ("mxfp4", "mxfp8")
"""Modes whose scales MLX before 0.32.2 rounded otherwise."""


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

    Attributes:
        older: rounds scales as MLX before 0.32.2, which matters to `OLDER_MODES` alone.

    Example:
        >>> Quantization.of("mxfp8")
        Quantization(mode='mxfp8', bits=8, group_size=32)
        >>> Quantization.of(bits=3).bits_per_weight("bfloat16")
        3.5
    """

    mode: str
    bits: int
    group_size: int
    older: bool = field(default=False, repr=False)

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

    if how.older and how.mode in OLDER_MODES:
        from wconv.tensors.older_mx import quantize_groups

        with np.errstate(all="ignore"):
            return Quantized(*quantize_groups(values.reshape(-1, how.group_size), how.mode), None)
    count = values.size // how.group_size
    limits = MODES[how.mode]
    scale_dtype = np.dtype(np.uint8) if limits.scale else values.dtype
    result = Quantized(
        np.empty((count, how.row_bytes(how.group_size)), np.uint8),
        np.empty(count, scale_dtype),
        np.empty(count, scale_dtype) if limits.has_biases else None,
    )
    quantize_into(values, how, result.codes, result.scales, result.biases)
    return result


def quantize_into(
    values: Array, how: Quantization, codes: Array, scales: Array, biases: Array | None
) -> bool:
    """As `quantize`, into arrays of the caller's.

    Args:
        codes: of the bytes of the codes, whatever its dtype and shape.
        scales, biases: one for each group; `biases` is None where the mode has none.

    Returns:
        Whether all values are known to be finite.
    """
    import numpy as np

    from wconv.tensors.borrowed import borrowed
    from wconv.tensors.quantize_affine import affine
    from wconv.tensors.quantize_columns import AT_ONCE, Work, pack
    from wconv.tensors.quantize_floats import floating

    groups = values.reshape(-1, how.group_size)
    packed = codes.reshape(-1).view(np.uint8).reshape(len(groups), -1)
    at_once = min(AT_ONCE // how.group_size, len(groups))
    finite = True
    with borrowed(Work.nbytes(at_once, how.group_size), Work.ARRAYS) as arena, np.errstate(all="ignore"):
        work = Work(arena, at_once, how.group_size)
        for start in range(0, len(groups), at_once or 1):
            here = slice(start, start + at_once)
            block = groups[here]
            if len(block) < at_once:
                arena.clear()
                work = Work(arena, len(block), how.group_size)
            if biases is not None:
                finite &= affine(block, how.bits, work, scales[here], biases[here])
            else:
                finite &= floating(block, how.mode, work, scales[here])
            pack(work, how.bits, packed[here])
    return finite
