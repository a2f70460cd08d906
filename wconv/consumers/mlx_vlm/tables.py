"""mlx-vlm's layouts of vision-language models: Qwen's here, the others gathered."""

from __future__ import annotations

from wconv.consumers.mlx_lm.common import FP8
from wconv.consumers.mlx_vlm import encoders, gemma, hybrids, remote
from wconv.consumers.mlx_vlm.common import (
    BOTH,
    COMMAND,
    POSITIONS,
    QWEN3_VISION,
    ROTARY,
    TEXT,
    channels,
    tied_head,
)
from wconv.layouts.apply import Layout
from wconv.layouts.conditions import setting
from wconv.layouts.rules import Rule, rename, split, stack, transpose

PATCHES = transpose("vision_tower.patch_embed.proj.weight", "conv3d", last=channels())
BLOCKS = "vision_tower.blocks.#"
EXPERTS = "language_model.model.layers.#.mlp.experts"
SWITCH = "language_model.model.layers.#.mlp.switch_mlp"

QWEN2_SPELLINGS: tuple[Rule, ...] = (
    rename("model.visual.**", "visual.**"),
    rename("model.language_model.**", "model.**"),
)
"""Some trainers save the two parts inside `model`, which the consumers refuse for these models."""

QWEN2: tuple[Rule, ...] = (
    ROTARY,
    POSITIONS,
    rename("visual.**", "vision_tower.**"),
    rename("model.**", "language_model.model.**"),
    rename("lm_head.**", "language_model.lm_head.**"),
    PATCHES,
)

QWEN3: tuple[Rule, ...] = (
    ROTARY,
    POSITIONS,
    rename("model.visual.**", "vision_tower.**"),
    rename("model.language_model.**", "language_model.model.**"),
    rename("lm_head.**", "language_model.lm_head.**"),
    tied_head(False),
    PATCHES,
)

QWEN3_NAMES = (*TEXT, *QWEN3_VISION)

QWEN3_EXPERTS: tuple[Rule, ...] = (
    stack(
        f"{EXPERTS}.{{e}}.(gate|up|down)_proj.weight",
        f"{SWITCH}.(gate|up|down)_proj.weight",
        count=setting("num_experts|num_local_experts"),
    ),
    # Published with inputs before outputs; transformers 5 saves them as MLX has them.
    transpose(f"{EXPERTS}.gate_up_proj", "swap_last", only=(-2, setting("hidden_size"))),
    transpose(f"{EXPERTS}.down_proj", "swap_last", only=(-1, setting("hidden_size"))),
    split(f"{EXPERTS}.gate_up_proj", (f"{SWITCH}.gate_proj.weight", f"{SWITCH}.up_proj.weight"), -2),
    rename(f"{EXPERTS}.down_proj", f"{SWITCH}.down_proj.weight"),
)


def qwen(model_type: str, rules: tuple[Rule, ...], names: tuple[str, ...], *alias_rules: Rule) -> Layout:
    """A model of the Qwen family; mlx-lm runs its language part from the same directory."""
    return Layout(BOTH, (model_type,), names, rules, alias_rules, command=COMMAND)


LAYOUTS = (
    qwen(
        "qwen2_5_vl",
        (*QWEN2, tied_head(True)),
        (
            *TEXT,
            "vision_tower.patch_embed.proj.weight",
            f"{BLOCKS}.norm(1|2).weight",
            f"{BLOCKS}.attn.(qkv|proj).(weight|bias)",
            f"{BLOCKS}.mlp.(gate|up|down)_proj.(weight|bias)",
            "vision_tower.merger.ln_q.weight",
            "vision_tower.merger.mlp.#.(weight|bias)",
        ),
        *QWEN2_SPELLINGS,
    ),
    qwen(
        "qwen2_vl",
        (*QWEN2, tied_head(False)),
        (
            *TEXT,
            "vision_tower.patch_embed.proj.weight",
            f"{BLOCKS}.norm(1|2).(weight|bias)",
            f"{BLOCKS}.attn.(qkv|proj).(weight|bias)",
            f"{BLOCKS}.mlp.fc(1|2).(weight|bias)",
            "vision_tower.merger.ln_q.(weight|bias)",
            "vision_tower.merger.mlp.#.(weight|bias)",
        ),
        *QWEN2_SPELLINGS,
    ),
    qwen("qwen3_vl", QWEN3, QWEN3_NAMES),
    qwen(
        "qwen3_vl_moe",
        (FP8, *QWEN3, *QWEN3_EXPERTS),
        (
            *QWEN3_NAMES,
            "language_model.model.layers.#.mlp.gate.weight",
            f"{SWITCH}.(gate|up|down)_proj.weight",
        ),
    ),
    *hybrids.LAYOUTS,
    *gemma.LAYOUTS,
    *encoders.LAYOUTS,
    *remote.LAYOUTS,
)
