"""What the prober cannot know of a program's model: fields of tiny configs that must fit, or be there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.derive.override_values import (
    CONVOLVED,
    DELTA,
    EVERY_ROPE,
    LONG,
    MAMBA,
    MIXED,
    PLAIN,
    PYRAMID,
    YARN,
)

Fields = Mapping[str, Any]

ANY = ""

CONSUMER: Mapping[tuple[str, str], Fields] = {
    (ANY, "dbrx"): {
        "d_model": 64,
        "n_heads": 4,
        "n_layers": 4,
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
        "ffn_config": {"ffn_hidden_size": 96, "moe_num_experts": 6, "moe_top_k": 2},
    },
    (ANY, "deepseek_v2"): {"rope_scaling": YARN},
    (ANY, "exaone4"): {"sliding_window_pattern": "LLLG", "rope_scaling": None, "sliding_window": 32},
    (ANY, "exaone_moe"): {"is_moe_layer": [False, True, True, True], "layer_types": MIXED},
    (ANY, "gear"): {"layer_types": [*CONVOLVED[:3], "sliding_attention"]},
    (ANY, "glm_moe_dsa"): {
        "topk_method": "noaux_tc",
        "rope_parameters": PLAIN,
        "rope_theta": 10000.0,
        "first_k_dense_replace": 1,
    },
    (ANY, "granitemoehybrid"): {"layer_types": MAMBA},
    (ANY, "hunyuan"): {
        "rope_scaling": {"factor": 1.0, "type": "dynamic", "alpha": 1000.0},
        "num_shared_expert": 1,
    },
    (ANY, "jamba"): {"layers_block_type": MAMBA, "attn_layer_period": 2, "attn_layer_offset": 1},
    (ANY, "kimi_linear"): {
        "linear_attn_config": DELTA,
        "first_k_dense_replace": 1,
        "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 8,
        "v_head_dim": 12,
        "rope_scaling": None,
    },
    (ANY, "kimi_k3"): {
        "text_config": {
            "linear_attn_config": DELTA,
            "kv_lora_rank": 20,
            "q_lora_rank": 24,
            "qk_nope_head_dim": 16,
            "qk_rope_head_dim": 8,
            "v_head_dim": 12,
            "num_experts": 6,
            "num_key_value_heads": 4,
            "moe_intermediate_size": 40,
            "first_k_dense_replace": 1,
            "num_shared_experts": 1,
            "num_experts_per_token": 2,
        },
    },
    (ANY, "lfm2_moe"): {"layer_types": CONVOLVED, "full_attn_idxs": [1, 3]},
    (ANY, "lfm2"): {"layer_types": CONVOLVED, "full_attn_idxs": [1, 3]},
    (ANY, "mimo_v2_flash"): {
        "hybrid_layer_pattern": [0, 1, 0, 1],
        "moe_layer_freq": [0, 1, 1, 1],
        "scoring_func": "sigmoid",
        "topk_method": "noaux_tc",
        "n_shared_experts": None,
        "add_swa_attention_sink_bias": True,
        "partial_rotary_factor": 0.5,
    },
    (ANY, "minicpm3"): {"rope_scaling": LONG},
    (ANY, "nemotron-nas"): {
        "block_configs": [
            {
                "attention": {"n_heads_in_group": 2, "no_op": False, "replace_with_linear": at == 1},
                "ffn": {"ffn_mult": 2.0, "no_op": False, "replace_with_linear": at == 2},
            }
            for at in range(4)
        ]
    },
    (ANY, "openelm"): {
        "num_query_heads": [4] * 4,
        "num_kv_heads": [2] * 4,
        "ffn_multipliers": [1.0, 1.5, 1.0, 2.0],
        "ffn_dim_divisor": 32,
    },
    (ANY, "phixtral"): {"num_vocab": 272, "model_dim": 64, "num_heads": 4, "num_layers": 4, "rotary_dim": 8},
    (ANY, "spark2_5"): {"rope_parameters": {"full_attention": PLAIN, "sliding_attention": PLAIN}},
    (ANY, "deepseek_v41"): {
        "head_dim": 32,
        "o_groups": 2,
        "o_lora_rank": 16,
        "index_n_heads": 2,
        "index_head_dim": 16,
        "compress_ratios": [0, 0, 4, 4],
        "vocab_size": 272,
        "engram_layer_ids": [],
    },
    **{
        ("mlx-vlm", name): {
            "text_config": {"rope_parameters": EVERY_ROPE, "head_dim": 16, "num_hidden_layers": 4},
            "rope_parameters": EVERY_ROPE,
        }
        for name in ("clef", "decider2", "indic_ocr")
    },
    ("mlx-vlm", "clef"): {
        "text_config": {"rope_parameters": EVERY_ROPE, "head_dim": 16},
        "head_config": {
            "hidden_size": 64,
            "width": 64,
            "routing_layers": 2,
            "layers": 2,
            "heads": 4,
            "feedforward": 64,
        },
    },
    ("mlx-vlm", "limite"): {"rope_n_pairs": 4, "text_config": {"rope_n_pairs": 4}},
    ("mlx-vlm", "mage_vl"): {"vision_config": {"hidden_size": 128}},
    ("mlx-vlm", "longcat_flash_sparse"): {"index_n_heads": 2, "index_topk": 4, "index_head_dim": 16},
    ("mlx-vlm", "nemotron_h_nano_omni"): {
        "text_config": {"hybrid_override_pattern": ["M", "*", "-", "M"]},
    },
    ("mlx-vlm", "nemotron_voicechat"): {
        "text_config": {"hybrid_override_pattern": ["M", "*", "-", "M"]},
    },
    ("mlx-vlm", "video_depth_anything"): {
        "embed_dim": 64,
        "depth": 4,
        "num_heads": 4,
        "features": 64,
        "out_channels": [32, 32, 64, 64],
        "intermediate_layer_idx": [0, 1, 2, 3],
        "img_size": 56,
    },
    ("mlx-vlm", "moge3"): {
        "encoder": {
            "backbone": "dinov2_vits14",
            "embed_dim": 64,
            "depth": 4,
            "num_heads": 4,
            "intermediate_layers": [1, 3],
            "dim_out": 64,
            "img_size": 56,
        },
        "neck": {**PYRAMID, "dim_in": [66, 2, 2]},
        "points_head": {**PYRAMID, "dim_in": [64, 32, 16], "dim_out": [None, None, 3]},
        "mask_head": {**PYRAMID, "dim_in": [64, 32, 16], "dim_out": [None, None, 1]},
        "normal_head": {**PYRAMID, "dim_in": [64, 32, 16], "dim_out": [None, None, 3]},
        "scale_head": {"dims": [64, 64, 1]},
        "refiner": {
            "encoder_channels": 66,
            "model_channels": [16, 32, 48],
            "downsample_factors": [2, 2],
            "encoder_downsample": 4,
        },
    },
    ("mlx-vlm", "deepseekocr_2"): {"vision_config": {"width": {"qwen2-0-5b": {"dim": 64}, "sam_vit_b": {}}}},
    ("mlx-vlm", "glm5_next"): {
        "text_config": {"num_key_value_heads": 4, "index_topk": 8, "index_kpool": 4},
        "num_key_value_heads": 4,
        "index_topk": 8,
        "index_kpool": 4,
    },
    (ANY, "recurrent_gemma"): {
        "block_types": ["recurrent", "recurrent", "attention", "recurrent"],
        "_block_types": ["recurrent", "recurrent", "attention", "recurrent"],
        "num_key_value_heads": 1,
    },
    (ANY, "nemotron_h"): {
        "layers_block_type": ["mamba", "attention", "mlp", "moe"],
        "hybrid_override_pattern": ["M", "*", "-", "E"],
    },
    (ANY, "muse_spark"): {"vision_config": {"pos_emb_height": 4, "pos_emb_width": 4}},
    ("mlx-vlm", "mimo_v2"): {
        "text_config": {"hybrid_layer_pattern": [0, 1, 0, 1], "moe_layer_freq": [0, 1, 1, 1]}
    },
    ("mlx-vlm", "gemma3n"): {
        "text_config": {
            "layer_types": MIXED,
            "intermediate_size": [256] * 4,
            "activation_sparsity_pattern": [0.5, 0.0] * 2,
        }
    },
    ("mlx-lm", "gemma3n"): {
        "text_config": {
            "@own": "gemma3n:TextConfig",
            "layer_types": MIXED,
            "activation_sparsity_pattern": [0.5, 0.0] * 2,
            "num_kv_shared_layers": 0,
        }
    },
    (ANY, "glm4v"): {"text_config": {"eos_token_id": [1]}},
    ("mlx-vlm", "laya"): {"encoder_config": {"@own": "modernbert"}},
    ("mlx-vlm", "paddleocr_vl"): {"vision_config": {"model_type": "paddleocr_vl"}},
    ("mlx-vlm", "multi_modality"): {
        "vision_config": {"params": {}},
        "projector_config": {
            "cls": "MlpProjector",
            "model_type": "aligner",
            "params": {"projector_type": "mlp_gelu", "depth": 2, "input_dim": 64, "n_embed": 64},
        },
        "aligner_config": {
            "cls": "MlpProjector",
            "model_type": "aligner",
            "params": {"projector_type": "mlp_gelu", "depth": 2, "input_dim": 64, "n_embed": 64},
        },
    },
    (ANY, "llama4"): {
        "text_config": {
            "rope_scaling": None,
            "rope_theta": 10000.0,
            "num_experts_per_tok": 1,
            "interleave_moe_layer_step": 1,
        }
    },
    (ANY, "llama4_text"): {"no_rope_layers": [1, 1, 1, 0], "rope_scaling": None},
    (ANY, "gemma4_text"): {
        "global_head_dim": 16,
        "num_kv_shared_layers": 0,
        "layer_types": MIXED,
        "sliding_window_pattern": 2,
    },
    (ANY, "gemma4"): {
        "text_config": {
            "global_head_dim": 16,
            "layer_types": MIXED,
            "sliding_window_pattern": 2,
        }
    },
    ("mlx-vlm", "gemma3"): {"text_config": {"mm_tokens_per_image": 4}},
    ("mlx-audio", "voxtral"): {"audio_config": {"num_hidden_layers": 4}},
    **{
        ("mlx-audio", name): {
            "hidden_dim": 32,
            "style_dim": 16,
            "max_conv_dim": 32,
            "dim_in": 16,
            "dropout": 0.1,
            "max_dur": 8,
            "n_layer": 2,
            "n_mels": 16,
            "n_token": 20,
            "text_encoder_kernel_size": 5,
            "plbert": {
                "hidden_size": 24,
                "num_attention_heads": 4,
                "intermediate_size": 40,
                "max_position_embeddings": 32,
                "num_hidden_layers": 2,
                "dropout": 0.1,
            },
            "istftnet": {
                "upsample_kernel_sizes": [20, 12],
                "upsample_rates": [10, 6],
                "gen_istft_hop_size": 5,
                "gen_istft_n_fft": 20,
                "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
                "resblock_kernel_sizes": [3, 7, 11],
                "upsample_initial_channel": 32,
            },
        }
        for name in ("kokoro", "kitten_tts")
    },
    ("mlx-lm", "lfm2-vl"): {"text_config": {"@own": "lfm2", "block_ff_dim": 96}},
    ("mlx-lm", "pixtral"): {"text_config": {"@own": "llama"}},
}
"""Fields of the program's tiny configs; "@own" stands for the tiny config of another of its models."""


def consumer(program: str, model_type: str) -> Fields:
    """The fields for a model of a program: its own, or those for both programs."""
    name = model_type.replace("_nas", "-nas")
    return CONSUMER.get((program, model_type)) or CONSUMER.get((ANY, name)) or {}
