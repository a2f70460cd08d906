"""Values of fields that several tiny configs have: kinds of rotary embeddings, and of layers."""

from __future__ import annotations

YARN = {
    "type": "yarn",
    "rope_type": "yarn",
    "factor": 4.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "beta_fast": 32,
    "beta_slow": 1,
    "original_max_position_embeddings": 64,
    "rope_theta": 10000.0,
}
LONG = {
    "type": "longrope",
    "rope_type": "longrope",
    "long_factor": [1.0] * 4,
    "short_factor": [1.0] * 4,
    "original_max_position_embeddings": 64,
    "rope_theta": 10000.0,
}
PLAIN = {"rope_type": "default", "rope_theta": 10000.0}
EVERY_ROPE = {
    "type": "default",
    "rope_type": "default",
    "rope_theta": 10000.0,
    "partial_rotary_factor": 0.5,
    "mrope_section": [2, 1, 1],
}
MIXED = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
CONVOLVED = ["conv", "full_attention", "conv", "full_attention"]
LINEAR = ["linear_attention", "full_attention", "linear_attention", "full_attention"]
MAMBA = ["mamba", "attention", "mamba", "attention"]
DELTA = {
    "kda_layers": [1, 2, 3],
    "full_attn_layers": [4],
    "num_heads": 4,
    "head_dim": 16,
    "short_conv_kernel_size": 4,
}
BY_LAYER = {"per_layer_config": None}
PYRAMID = {
    "dim_res_blocks": [64, 32, 16],
    "num_res_blocks": [0, 1, 0],
    "res_block_in_norm": "none",
    "res_block_hidden_norm": "none",
    "resamplers": ["conv_transpose", "bilinear"],
}
