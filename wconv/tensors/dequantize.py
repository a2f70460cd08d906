"""From MLX's quantized form back to dense values, bit for bit as MLX 0.32.4 goes on the CPU.

A value is its code times the scale, plus the bias; MLX rounds to the result's dtype after each step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wconv.tensors.quantize import Quantization
from wconv.tensors.quantize_floats import decoded

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

GROUPS_AT_ONCE = 1024


def dequantize(
    codes: Array, scales: Array, biases: Array | None, how: Quantization, dtype: np.dtype[Any]
) -> Array:
    """The dense values of whole groups.

    Args:
        codes: the bytes of the packed weight, contiguous.
        scales, biases: one for each group; `biases` is None where the mode has none.
        dtype: of the result: for affine that of the scales (MLX casts afterwards), else any floating one.

    Returns:
        One row for each group, `how.group_size` columns.
    """
    import numpy as np

    packed = codes.view(np.uint8).reshape(-1, how.row_bytes(how.group_size))
    result = np.empty((len(packed), how.group_size), dtype)
    with np.errstate(all="ignore"):
        factors = _factors(scales.reshape(-1, 1), how, dtype)
        offsets = None if biases is None else biases.reshape(-1, 1).astype(np.float32)
        for start in range(0, len(packed), GROUPS_AT_ONCE):
            here = slice(start, start + GROUPS_AT_ONCE)
            whole = unpack(packed[here], how)
            values = whole.astype(np.float32) if how.has_biases else decoded(how.mode)[whole]
            np.multiply(values, factors[here], out=values)
            if offsets is not None:
                values = _rounded(values, dtype)
                np.add(values, offsets[here], out=values)
            result[here] = values
    return result


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
