"""The language models that are compared with mlx-lm, table by table."""

from __future__ import annotations

from tests.oracle.tiny import Tiny

THETA = {"rope_theta": 5000.0}
"""No consumer's default, so that a lost `rope_theta` shows."""

ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}}
PARTIAL_ROPE = {
    "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0, "partial_rotary_factor": 0.5}
}
PARTIAL = {"rope_theta": 5000.0, "partial_rotary_factor": 0.5}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
UNTIED = {"tie_word_embeddings": False}
TIED = {"tie_word_embeddings": True}

LOCAL_ROPE = {
    "rope_parameters": {
        "full_attention": {"rope_type": "default", "rope_theta": 5000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 700.0},
    }
}

PLAIN = (
    Tiny("llama", {**ROPE, **UNTIED}, THETA),
    Tiny(
        "llama",
        {"rope_parameters": {**LLAMA3, "rope_theta": 5000.0}, **TIED},
        {**THETA, "rope_scaling": LLAMA3},
        variant="rope-scaling",
    ),
    Tiny("mistral", {**ROPE, **UNTIED, "sliding_window": None}, THETA),
    Tiny("qwen2", {**ROPE, **UNTIED}, THETA),
    Tiny("qwen2", {**ROPE, **TIED}, THETA, variant="tied"),
    Tiny("qwen3", {**ROPE, **UNTIED, "head_dim": 16}, THETA),
    Tiny("gemma", {**ROPE, "head_dim": 16}, THETA),
    Tiny("gemma2", {**ROPE, "head_dim": 16}, THETA),
    Tiny(
        "gemma3_text",
        {**LOCAL_ROPE, "head_dim": 16, "num_hidden_layers": 4, "sliding_window_pattern": 2},
        {**THETA, "rope_local_base_freq": 700.0, "sliding_window_pattern": 2},
    ),
    Tiny("phi", {**PARTIAL_ROPE, **UNTIED}, PARTIAL),
    Tiny("phi3", {**ROPE, **UNTIED}, THETA),
    Tiny("cohere", {**ROPE}, THETA),
    Tiny(
        "cohere2",
        {**ROPE, "num_hidden_layers": 4, "sliding_window_pattern": 2, "head_dim": 16},
        {**THETA, "sliding_window_pattern": 2},
    ),
    Tiny("olmo2", {**ROPE, **UNTIED}, THETA),
    Tiny("starcoder2", {**ROPE, **TIED}, THETA),
    Tiny("stablelm", {**PARTIAL_ROPE, **UNTIED, "use_qkv_bias": True}, PARTIAL),
    Tiny("glm4", {**PARTIAL_ROPE, **UNTIED, "head_dim": 16}, PARTIAL),
)

WITHOUT_A_TABLE = (
    Tiny("granite", {**ROPE, **UNTIED}, THETA),
    Tiny("helium", {**ROPE, **UNTIED, "head_dim": 16}, THETA),
    Tiny("smollm3", {**ROPE, **TIED, "no_rope_layers": [1, 0]}, THETA),
)

MODELS = (*PLAIN, *WITHOUT_A_TABLE)
