"""What most language models have in common in mlx-lm."""

from __future__ import annotations

from wconv.layouts.computed.scaled import dequantized
from wconv.layouts.conditions import tied
from wconv.layouts.rules import Rule, compute, drop

COMMAND = "mlx_lm.generate --model {model} --prompt 'Hello'"

BOTH = ("mlx-lm", "mlx-vlm")
"""mlx-vlm runs most language models, too, from the same directory."""

ALONE = ("mlx-lm",)
"""Models of which mlx-vlm computes something else, or nothing."""

ROTARY = drop("**rotary_emb.inv_freq", "recomputed by the consumer")

FP8 = compute("**.weight", "**.weight_scale_inv", "dequantized", dequantized)
"""mlx-lm decodes DeepSeek's 8-bit blocks like this, and takes no other model's.

mlx-vlm makes 8 bits of its own of them, but for models with experts.
"""

BLOCK = (
    "model.embed_tokens.weight",
    "model.norm.(weight|bias)",
    "lm_head.(weight|bias)",
    "model.layers.#.self_attn.(q|k|v|o|qkv)_proj.(weight|bias)",
    "model.layers.#.mlp.(gate|up|down|gate_up)_proj.(weight|bias)",
    "model.layers.#.(input|post_attention)_layernorm.(weight|bias)",
)

EMBEDDINGS = (
    "model.embed_tokens.weight",
    "model.language_model.embed_tokens.weight",
    "backbone.embeddings.weight",
    "model.wte.weight",
    "wte.weight",
)
"""What embeddings are called where the output layer is `lm_head`."""

NO_HEAD = drop("lm_head.weight", "the consumer always uses the embedding", same_as=EMBEDDINGS)


def head(tied_by_default: bool) -> Rule:
    """The output layer is left out where it is the embedding."""
    return drop("lm_head.weight", "tied to the embedding", same_as=EMBEDDINGS, when=tied(tied_by_default))


def qk_norm() -> tuple[str, ...]:
    """The norms of queries and keys that some models have."""
    return ("model.layers.#.self_attn.(q|k)_norm.weight",)
