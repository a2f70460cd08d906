"""What mflux calls the modules of its models, and which of them it applies an adapter to.

Facts: mflux 0.24, `*_lora_mapping.py`. No rules files: these are names of modules, not of a model's tensors.
"""

from __future__ import annotations

from wconv.layouts.rules import Rule, rename

BLOCK, SINGLE = "transformer_blocks.#", "single_transformer_blocks.#"
ADDED = "add_q_proj|add_k_proj|add_v_proj|to_add_out"

FLUX = (
    f"{BLOCK}.attn.(to_q|to_k|to_v|to_out.0|{ADDED}).weight",
    f"{BLOCK}.(ff|ff_context).(net.0.proj|net.2).weight",
    f"{BLOCK}.(norm1|norm1_context).linear.weight",
    f"{SINGLE}.(attn.to_q|attn.to_k|attn.to_v|proj_mlp|proj_out|norm.linear).weight",
)

FLUX2 = (
    "(x_embedder|context_embedder|norm_out.linear|proj_out).weight",
    "time_guidance_embed.(linear_1|linear_2|guidance_linear_1|guidance_linear_2).weight",
    "(double_stream_modulation_img|double_stream_modulation_txt|single_stream_modulation).linear.weight",
    f"{BLOCK}.attn.(to_q|to_k|to_v|to_out|{ADDED}).weight",
    f"{BLOCK}.(ff|ff_context).(linear_in|linear_out).weight",
    f"{SINGLE}.attn.(to_qkv_mlp_proj|to_out).weight",
)

QWEN = (
    f"{BLOCK}.attn.(to_q|to_k|to_v|to_out.0|{ADDED}).weight",
    f"{BLOCK}.(img_mlp|txt_mlp).(net.0.proj|net.2).weight",
)

Z_IMAGE = (
    "(noise_refiner|context_refiner|layers).#.adaLN_modulation.0.weight",
    "(noise_refiner|context_refiner|layers).#.attention.(to_q|to_k|to_v|to_out.0).weight",
    "(noise_refiner|context_refiner|layers).#.feed_forward.(w1|w2|w3).weight",
)
"""Patterns of the modules that take an adapter, each with `.weight`."""

FLUX2_RENAMED: tuple[Rule, ...] = (
    rename(
        "time_guidance_embed.timestep_embedder.(linear_1|linear_2).weight",
        "time_guidance_embed.(linear_1|linear_2).weight",
    ),
    rename(
        "time_guidance_embed.guidance_embedder.(linear_1|linear_2).weight",
        "time_guidance_embed.(guidance_linear_1|guidance_linear_2).weight",
    ),
    rename(f"{BLOCK}.attn.to_out.0.weight", f"{BLOCK}.attn.to_out.weight"),
)
"""From diffusers' names to mflux's."""
