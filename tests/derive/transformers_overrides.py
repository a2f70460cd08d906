"""What the prober cannot know of transformers' models: names, and fields of tiny configs that must fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.derive.override_values import BY_LAYER, CONVOLVED, LINEAR, LONG, MIXED, PLAIN, YARN

NAMES: Mapping[str, str] = {
    "phixtral": "-",
    "xlm_roberta": "xlm-roberta",
    "mms": "wav2vec2",
    "wav2vec": "wav2vec2",
    "sesame": "csm",
    "sam_audio": "-",
    "fish_qwen3_omni": "-",
    "parakeet": "-",
}
"""A program's model type → transformers', where they differ; "-" for one that only shares its name."""

FIELDS: Mapping[str, Mapping[str, Any]] = {
    "dbrx": {
        "d_model": 64,
        "n_heads": 4,
        "n_layers": 4,
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
        "ffn_config": {"ffn_hidden_size": 96, "moe_num_experts": 6, "moe_top_k": 2, "hidden_size": 64},
    },
    "falcon_h1": {
        "head_dim": 16,
        "attention_in_multiplier": 1.1,
        "attention_out_multiplier": 0.9375,
        "embedding_multiplier": 5.656854249492381,
        "key_multiplier": 0.390625,
        "lm_head_multiplier": 0.0390625,
        "mlp_multipliers": [0.8838834764831844, 0.5859375],
        "ssm_in_multiplier": 1.3,
        "ssm_multipliers": [0.3535533905932738, 0.25, 0.13, 0.5, 0.35355339],
        "ssm_out_multiplier": 0.23570226039551587,
    },
    "mamba2": {"num_heads": 8, "head_dim": 16},
    "glm5_next": {"num_key_value_heads": 4, "text_config": {"num_key_value_heads": 4}},
    "recurrent_gemma": {"num_key_value_heads": 1},
    "deepseek_v2": {"rope_parameters": YARN, "n_group": 1, "topk_group": 1},
    "minicpm3": {"rope_parameters": LONG},
    "gemma4_text": {**BY_LAYER, "layer_types": MIXED, "num_kv_shared_layers": 0},
    "gemma4": {"text_config": {**BY_LAYER, "layer_types": MIXED, "num_kv_shared_layers": 0}},
    "gemma4_unified": {"text_config": BY_LAYER},
    "diffusion_gemma": {"text_config": BY_LAYER},
    "embedding_gemma2": {"text_config": BY_LAYER, **BY_LAYER},
    "exaone_moe": {"mlp_layer_types": ["dense", "sparse", "sparse", "sparse"]},
    "granitemoehybrid": {"layer_types": LINEAR},
    "lfm2_moe": {"layer_types": CONVOLVED},
    "lfm2": {"layer_types": CONVOLVED},
    "hunyuan_v1_dense": {"rope_parameters": PLAIN},
    "hunyuan_vl": {"text_config": {"rope_parameters": PLAIN}, "rope_parameters": PLAIN},
    "nemotron": {"head_dim": 16},
    "gemma3": {"mm_tokens_per_image": 4},
    "llama4_text": {"moe_layers": [], "interleave_moe_layer_step": 0},
    "molmo2": {"adapter_config": {"vision_feature_layer": [3, 1], "vit_layers": [3, 1]}},
    "nemotron_h": {"layers_block_type": ["mamba", "attention", "mlp", "moe"]},
    "rt_detr_v2": {"backbone_config": {"out_features": None, "out_indices": None}},
    "muse_spark": {"vision_config": {"pos_emb_height": 4, "pos_emb_width": 4}},
    "dinov2": {"out_features": None, "out_indices": None},
    "sapiens2": {"out_features": None, "out_indices": None},
    "qwen4_exp": {"text_config": {"head_dim": 16}},
}
"""Fields of transformers' tiny configs, by model type."""
