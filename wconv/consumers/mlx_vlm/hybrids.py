"""mlx-vlm's layouts of Qwen3.5: linear and full attention by turns, with a vision encoder."""

from __future__ import annotations

from wconv.consumers.mlx_lm.common import FP8
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
from wconv.layouts.rules import Rule, add_one, drop, keep_dtype, rename, split, stack, transpose

LAYER = "language_model.model.layers.#"
EXPERTS = f"{LAYER}.mlp.experts"
SWITCH = f"{LAYER}.mlp.switch_mlp"

SPELLINGS: tuple[Rule, ...] = (rename("model.language_model.visual.**", "model.visual.**"),)

RULES: tuple[Rule, ...] = (
    ROTARY,
    POSITIONS,
    drop("**mtp.**", "predicts further tokens, which the consumers keep apart"),
    rename("model.visual.**", "vision_tower.**"),
    rename("model.language_model.**", "language_model.model.**"),
    rename("lm_head.**", "language_model.lm_head.**"),
    tied_head(False),
    transpose("vision_tower.patch_embed.proj.weight", "conv3d", last=channels()),
    transpose(f"{LAYER}.linear_attn.conv1d.weight", "conv1d", last=1),
    add_one(f"{LAYER}.(input|post_attention)_layernorm.weight"),
    add_one(f"{LAYER}.self_attn.(q|k)_norm.weight"),
    add_one("language_model.model.norm.weight"),
    keep_dtype("**.A_log"),
)

NAMES = (
    *TEXT,
    *QWEN3_VISION,
    f"{LAYER}.linear_attn.(A_log|dt_bias)",
    f"{LAYER}.linear_attn.(conv1d|in_proj_qkv|in_proj_z|in_proj_a|in_proj_b|norm|out_proj).weight",
)

MIXTURE: tuple[Rule, ...] = (
    stack(
        f"{EXPERTS}.{{e}}.(gate|up|down)_proj.weight",
        f"{SWITCH}.(gate|up|down)_proj.weight",
        count=setting("num_experts|num_local_experts"),
    ),
    split(f"{EXPERTS}.gate_up_proj", (f"{SWITCH}.gate_proj.weight", f"{SWITCH}.up_proj.weight"), -2),
    rename(f"{EXPERTS}.down_proj", f"{SWITCH}.down_proj.weight"),
)

MIXTURE_NAMES = (
    f"{LAYER}.mlp.(gate|shared_expert_gate).weight",
    f"{LAYER}.mlp.shared_expert.(gate|up|down)_proj.weight",
    f"{SWITCH}.(gate|up|down)_proj.weight",
)

LAYOUTS = (
    Layout(BOTH, ("qwen3_5",), NAMES, RULES, SPELLINGS, command=COMMAND),
    Layout(
        BOTH,
        ("qwen3_5_moe",),
        (*NAMES, *MIXTURE_NAMES),
        (FP8, *RULES, *MIXTURE),
        SPELLINGS,
        command=COMMAND,
    ),
)
