"""Language models whose tables change tensors: experts, convolutions, norms, fused and split projections."""

from __future__ import annotations

from tests.oracle.mlx_lm.language import PARTIAL, PARTIAL_ROPE, ROPE, THETA, UNTIED
from tests.oracle.tiny import Tiny

EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
MLA = {
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
    "num_key_value_heads": 4,
}
ROUTED = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}

LONGROPE = {
    "rope_type": "longrope",
    "type": "longrope",
    "short_factor": [1.1] * 8,
    "long_factor": [2.5] * 8,
    "short_mscale": 1.2,
    "long_mscale": 1.3,
    "original_max_position_embeddings": 128,
}
DEEPSEEK_YARN = {
    "rope_type": "yarn",
    "type": "yarn",
    "factor": 4.0,
    "mscale": 0.707,
    "mscale_all_dim": 0.707,
    "beta_fast": 32,
    "beta_slow": 1,
    "original_max_position_embeddings": 128,
}
LLAMA4_SCALED = {
    "rope_type": "default",
    "rope_theta": 5000.0,
    "llama_4_scaling_beta": 0.1,
    "original_max_position_embeddings": 128,
}

MODELS = (
    Tiny("qwen2_moe", {**ROPE, **UNTIED, **EXPERTS, "shared_expert_intermediate_size": 48}, THETA),
    Tiny("olmoe", {**ROPE, **UNTIED, **EXPERTS}, THETA),
    Tiny("qwen3_moe", {**ROPE, **UNTIED, **EXPERTS, "head_dim": 16}, {**THETA, "num_experts": 4}),
    Tiny("mixtral", {**ROPE, **UNTIED, "num_local_experts": 4, "sliding_window": None}, THETA),
    Tiny(
        "phimoe",
        {
            "rope_parameters": {**LONGROPE, "rope_theta": 5000.0},
            **UNTIED,
            "num_local_experts": 4,
            "attention_bias": True,
            "lm_head_bias": True,
        },
        {**THETA, "rope_scaling": LONGROPE},
    ),
    Tiny(
        "qwen3_next",
        {
            **PARTIAL_ROPE,
            **UNTIED,
            **EXPERTS,
            "head_dim": 16,
            "shared_expert_intermediate_size": 48,
            "linear_key_head_dim": 16,
            "linear_value_head_dim": 16,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "num_hidden_layers": 4,
        },
        {**PARTIAL, "full_attention_interval": 4},
    ),
    Tiny(
        "deepseek_v2",
        {
            "rope_parameters": {**DEEPSEEK_YARN, "rope_theta": 5000.0},
            **UNTIED,
            **MLA,
            **ROUTED,
            "topk_method": "greedy",
        },
        {**THETA, "rope_scaling": DEEPSEEK_YARN},
    ),
    Tiny("deepseek_v3", {**ROPE, **UNTIED, **MLA, **ROUTED}, THETA),
    Tiny(
        "glm4_moe",
        {**PARTIAL_ROPE, **UNTIED, **ROUTED, "head_dim": 16, "use_qk_norm": True},
        {**PARTIAL, "rope_scaling": None},
    ),
    Tiny("glm4_moe_lite", {**ROPE, **UNTIED, **MLA, **ROUTED}, THETA),
    Tiny(
        "mamba", {"state_size": 8, "vocab_size": 272, "hidden_size": 64, "num_hidden_layers": 2}, sized=False
    ),
    Tiny(
        "mamba2",
        {
            "state_size": 8,
            "vocab_size": 272,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_heads": 8,
            "head_dim": 16,
            "n_groups": 1,
        },
        {"intermediate_size": 128},
        sized=False,
    ),
    Tiny(
        "gpt2",
        {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 272},
        {"n_ctx": 1024},
        sized=False,
        names=[("", "transformer.")],
    ),
    Tiny(
        "gpt_neox",
        {**PARTIAL_ROPE, **UNTIED, "intermediate_size": 256},
        {"rotary_emb_base": 5000, "rotary_pct": 0.5},
    ),
    Tiny(
        "ministral3",
        {"rope_parameters": LLAMA4_SCALED, **UNTIED, "head_dim": 16},
        {"rope_parameters": LLAMA4_SCALED},
    ),
    Tiny("deepseek_v32", {**ROPE, **UNTIED, **MLA, **ROUTED}, THETA),
)
