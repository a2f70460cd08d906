"""The quantization schemes that MLX's programs take as they are."""

from __future__ import annotations

from wconv.quantized.schemes import AWQ, FP8_BLOCKS, MLX, MXFP4, MXFP8, NVFP4

OWN = frozenset({MLX.name})
"""MLX's own."""

IN_MODULES = OWN | {one.name for one in (NVFP4, MXFP4, MXFP8, FP8_BLOCKS)}
"""Those that both programs for language models repack in the modules of some models, or decode there."""

LANGUAGE = IN_MODULES | {AWQ.name, "bitnet"}
"""Those of mlx-lm, which takes AWQ's gemm (`_transform_awq_weights`) and BitNet (`bitnet_quantize`) in any
model. mlx-vlm takes neither: it warns of the one and does not know the other."""
