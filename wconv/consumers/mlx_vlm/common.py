"""What most vision-language models have in common in mlx-vlm."""

from __future__ import annotations

from wconv.layouts.conditions import Setting, setting, tied
from wconv.layouts.rules import Rule, drop

COMMAND = "mlx_vlm.generate --model {model} --image IMAGE --prompt 'Describe this image.'"

BOTH = ("mlx-vlm", "mlx-lm")
"""Models whose language part mlx-lm runs from the same directory."""

ROTARY = drop("**rotary_emb.inv_freq", "recomputed by the consumer")
POSITIONS = drop("**position_ids", "recomputed by the consumer")

TEXT = (
    "language_model.model.embed_tokens.weight",
    "language_model.model.norm.weight",
    "language_model.lm_head.weight",
    "language_model.model.layers.#.self_attn.(q|k|v|o)_proj.(weight|bias)",
    "language_model.model.layers.#.self_attn.(q|k)_norm.weight",
    "language_model.model.layers.#.mlp.(gate|up|down)_proj.(weight|bias)",
    "language_model.model.layers.#.(input|post_attention)_layernorm.weight",
    "language_model.model.layers.#.(pre|post)_feedforward_layernorm.weight",
)
"""A language model in `language_model.model`, of any of the usual families."""

QWEN3_VISION = (
    "vision_tower.patch_embed.proj.(weight|bias)",
    "vision_tower.pos_embed.weight",
    "vision_tower.blocks.#.norm(1|2).(weight|bias)",
    "vision_tower.blocks.#.attn.(qkv|proj).(weight|bias)",
    "vision_tower.blocks.#.mlp.linear_fc(1|2).(weight|bias)",
    "vision_tower.merger.(norm|linear_fc1|linear_fc2).(weight|bias)",
    "vision_tower.deepstack_merger_list.#.(norm|linear_fc1|linear_fc2).(weight|bias)",
)
"""The vision encoder of Qwen3-VL and later."""


EMBEDDINGS = ("language_model.model.embed_tokens.weight",)

NO_HEAD = drop("language_model.lm_head.weight", "the consumer always uses the embedding", same_as=EMBEDDINGS)


def tied_head(tied_by_default: bool) -> Rule:
    """The output layer is left out where it is the embedding."""
    return drop(
        "language_model.lm_head.weight",
        "tied to the embedding",
        same_as=EMBEDDINGS,
        when=tied(tied_by_default),
    )


def channels() -> Setting:
    """How many colours an image has."""
    return setting("vision_config.num_channels|vision_config.in_channels|vision_config.in_chans", 3)
