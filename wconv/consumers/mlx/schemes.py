"""The quantization schemes that MLX's programs take as they are."""

from __future__ import annotations

from wconv.quantized.schemes import AWQ, FP8_BLOCKS, MLX, MXFP4, MXFP8, NVFP4

OWN = frozenset({MLX.name})
"""MLX's own."""

LANGUAGE = frozenset(one.name for one in (MLX, AWQ, NVFP4, MXFP4, MXFP8, FP8_BLOCKS)) | {"bitnet"}
"""Those that mlx-lm and mlx-vlm decode or repack when they load."""
