"""mlx-vlm's layouts of vision-language models; mlx-lm loads all of them too."""

from __future__ import annotations

from wconv.layouts.engine import Layout
from wconv.layouts.rules import Rule, drop, rename, transpose
from wconv.layouts.settings import setting, tied

COMMAND = "mlx_vlm.generate --model {model} --image IMAGE --prompt 'Describe this image.'"
CONSUMERS = ("mlx-vlm", "mlx-lm")

TEXT = (
    "language_model.model.embed_tokens.weight",
    "language_model.model.norm.weight",
    "language_model.lm_head.weight",
    "language_model.model.layers.#.self_attn.(q|k|v|o)_proj.(weight|bias)",
    "language_model.model.layers.#.mlp.(gate|up|down)_proj.weight",
    "language_model.model.layers.#.(input|post_attention)_layernorm.weight",
)

QWEN_SPELLINGS: tuple[Rule, ...] = (
    rename("model.visual.**", "visual.**"),
    rename("model.language_model.**", "model.**"),
)

QWEN_VISION: tuple[Rule, ...] = (
    drop("**rotary_emb.inv_freq", "recomputed by the consumer"),
    drop("**position_ids", "recomputed by the consumer"),
    rename("visual.**", "vision_tower.**"),
    rename("model.**", "language_model.model.**"),
    rename("lm_head.**", "language_model.lm_head.**"),
    drop("language_model.lm_head.weight", "tied to the embedding", when=tied(False)),
    transpose(
        "vision_tower.patch_embed.proj.weight",
        "conv3d",
        last=setting("vision_config.in_channels|vision_config.in_chans", 3),
    ),
)

LAYOUTS = (
    Layout(
        consumers=CONSUMERS,
        model_types=("qwen2_5_vl",),
        command=COMMAND,
        spellings=QWEN_SPELLINGS,
        rules=QWEN_VISION,
        names=(
            *TEXT,
            "vision_tower.patch_embed.proj.weight",
            "vision_tower.blocks.#.norm(1|2).weight",
            "vision_tower.blocks.#.attn.(qkv|proj).(weight|bias)",
            "vision_tower.blocks.#.mlp.(gate|up|down)_proj.(weight|bias)",
            "vision_tower.merger.ln_q.weight",
            "vision_tower.merger.mlp.#.(weight|bias)",
        ),
    ),
    Layout(
        consumers=CONSUMERS,
        model_types=("qwen2_vl",),
        command=COMMAND,
        spellings=QWEN_SPELLINGS,
        rules=QWEN_VISION,
        names=(
            *TEXT,
            "vision_tower.patch_embed.proj.weight",
            "vision_tower.blocks.#.norm(1|2).(weight|bias)",
            "vision_tower.blocks.#.attn.(qkv|proj).(weight|bias)",
            "vision_tower.blocks.#.mlp.fc(1|2).(weight|bias)",
            "vision_tower.merger.ln_q.(weight|bias)",
            "vision_tower.merger.mlp.#.(weight|bias)",
        ),
    ),
)
