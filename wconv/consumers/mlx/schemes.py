"""The quantization schemes that MLX's programs take as they are: names of `wconv.quantized.schemes`."""

from __future__ import annotations

OWN = frozenset({"mlx"})
"""MLX's own."""

IN_MODULES = OWN | {"nvfp4", "mxfp4", "mxfp8", "fp8-blocks"}
"""Those that both programs for language models repack in the modules of some models, or decode there."""

LANGUAGE = IN_MODULES | {"awq", "bitnet"}
"""Those of mlx-lm, which takes AWQ's gemm (`_transform_awq_weights`) and BitNet (`bitnet_quantize`) in any
model. mlx-vlm takes neither: it warns of the one and does not know the other."""
