"""From MLX's quantized form back to dense values, bit for bit as MLX 0.32.4 goes on the CPU.

A value is its code times the scale, plus the bias; MLX rounds to the result's dtype after each step.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from wconv.tensors.quantize import Quantization
from wconv.tensors.quantize_floats import decoded

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

AT_ONCE = 1 << 17
"""Elements that are computed together, so that float32 numbers stay in the cache."""


def dequantize(
    codes: Array,
    scales: Array,
    biases: Array | None,
    how: Quantization,
    dtype: np.dtype[Any],
    out: Array | None = None,
) -> Array:
    """The dense values of whole groups.

    Args:
        codes: the bytes of the packed weight, contiguous.
        scales, biases: one for each group; `biases` is None where the mode has none.
        dtype: of the result: for affine that of the scales (MLX casts afterwards), else any floating one.
        out: of that dtype, contiguous, to write into; made when absent.

    Returns:
        One row for each group, `how.group_size` columns.
    """
    import numpy as np

    from wconv.tensors import casts
    from wconv.tensors.borrowed import borrowed
    from wconv.tensors.rounded import rounded

    packed = codes.view(np.uint8).reshape(-1, how.row_bytes(how.group_size))
    made = np.empty(len(packed) * how.group_size, dtype) if out is None else out
    result: Array = made.reshape(-1, how.group_size)
    step = max(min(AT_ONCE // how.group_size, len(packed)), 1)
    with np.errstate(all="ignore"), borrowed(step * how.group_size * (4 + 8 + 4), 3) as arena:
        factors = _factors(scales.reshape(-1, 1), how, dtype)
        offsets = None if biases is None else biases.reshape(-1, 1).astype(np.float32)
        buffer = arena.empty((step, how.group_size), np.float32)
        indices = arena.empty((step, how.group_size), np.intp)
        halves = arena.empty((step, how.group_size), dtype)
        for start in range(0, len(packed), step):
            here = slice(start, start + step)
            count = len(packed[here])
            values, rough = buffer[:count], halves[:count]
            _decode(packed[here], how, values, indices[:count])
            np.multiply(values, factors[here], out=values)
            if offsets is not None:
                if dtype != np.float32:
                    rounded(values.reshape(-1), rough.reshape(-1), counted=False)  # as MLX goes
                    casts.cast(rough.reshape(-1), values.reshape(-1))
                np.add(values, offsets[here], out=values)
            rounded(values.reshape(-1), result[here].reshape(-1), counted=False)
    return result


def _decode(packed: Array, how: Quantization, out: Array, indices: Array) -> None:
    """The value of each code, before the scale: of four bits two at once."""
    import numpy as np

    if how.bits == 4:
        both = indices[:, : packed.shape[1]]
        np.copyto(both, packed)
        table = _pairs(how.mode)
        np.take(table, both, out=out.view(table.dtype), mode="clip")
    elif how.has_biases:
        np.copyto(out, unpack(packed, how))
    else:
        np.copyto(indices, packed)
        np.take(decoded(how.mode), indices, out=out, mode="clip")


@functools.cache
def _pairs(mode: str) -> Array:
    """For each byte the values of its two codes of 4 bits, side by side."""
    import numpy as np

    table = np.arange(16, dtype=np.float32) if mode == "affine" else decoded(mode)
    both = np.arange(256)
    return np.ascontiguousarray(np.stack((table[both & 15], table[both >> 4]), 1)).view(np.complex64)[:, 0]


def _factors(scales: Array, how: Quantization, dtype: np.dtype[Any]) -> Array:
    """The scales as float32 numbers, rounded to the result's dtype as MLX has them."""
    import numpy as np

    if how.has_biases:
        return scales.astype(np.float32)
    if how.mode == "nvfp4":
        return _rounded(decoded("mxfp8")[scales], dtype)
    return _rounded(np.ldexp(np.float32(1), scales.astype(np.int32) - 127), dtype)


def _rounded(values: Array, dtype: np.dtype[Any]) -> Array:
    import numpy as np

    return values if dtype == np.float32 else values.astype(dtype).astype(np.float32)


def unpack(packed: Array, how: Quantization) -> Array:
    """The codes of groups as uint8, one for each element.

    Args:
        packed: bytes, one row for each group.
    """
    import numpy as np

    bits = how.bits
    if bits == 8:
        return packed
    codes = np.empty((len(packed), how.group_size), np.uint8)
    if bits in (2, 4):
        per_byte = 8 // bits
        for place in range(per_byte):
            codes[:, place::per_byte] = (packed >> (place * bits)) & ((1 << bits) - 1)
        return codes
    per_run = {3: 8, 5: 8, 6: 4}[bits]
    run_bytes = per_run * bits // 8
    for place in range(per_run):
        byte, shift = divmod(place * bits, 8)
        here = packed[:, byte::run_bytes] >> shift
        if shift + bits > 8:
            here = here | (packed[:, byte + 1 :: run_bytes] << (8 - shift))
        codes[:, place::per_run] = here & ((1 << bits) - 1)
    return codes
