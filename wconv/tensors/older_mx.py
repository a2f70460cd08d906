"""The mx modes as MLX before 0.32.2 quantized them: a scale is the nearest power of two, not the next one up.

Half of the scales are the same. The logarithm is taken in the weight's own dtype, as there: measured against
MLX 0.30.0 to 0.32.1 on the CPU. Affine and nvfp4 are the same in all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

LARGEST = {"mxfp4": 6.0, "mxfp8": 448.0}
"""The largest magnitude of each mode's codes."""

MIDDLES = (0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0)
"""Between the magnitudes of float4; a value in the middle goes toward zero."""


def quantize_groups(groups: Array, mode: str) -> tuple[Array, Array]:
    """Packed codes and scales of groups of finite numbers.

    Args:
        groups: float16, bfloat16 or float32, one row for each group.

    Returns:
        The codes' bytes, one row for each group, and the scales' exponents, biased by 127.
    """
    import numpy as np

    wide = groups.astype(np.float32)
    ratios = np.abs(wide).max(axis=1) / np.float32(LARGEST[mode])
    ratios = ratios.astype(groups.dtype).astype(np.float32)
    logarithms = np.log2(np.where(ratios == 0, np.float32(1), ratios))
    exponents = np.rint(logarithms.astype(groups.dtype).astype(np.float32))
    exponents = np.clip(np.nan_to_num(exponents, nan=127.0), -127, 127).astype(np.int32)
    values = np.ldexp(wide, -exponents[:, None])
    scales = (exponents + 127).astype(np.uint8)
    if mode == "mxfp8":
        import ml_dtypes

        held = np.clip(values, -448, 448).astype(ml_dtypes.float8_e4m3fn)
        return held.view(np.uint8), scales
    codes = np.searchsorted(np.array(MIDDLES, np.float32), np.abs(values)).astype(np.uint8)
    codes |= ((values < 0) & (codes > 0)).astype(np.uint8) << 3
    return codes[:, 0::2] | codes[:, 1::2] << 4, scales
