"""The vision-language models that are compared with mlx-vlm, table by table."""

from __future__ import annotations

from typing import Any

from tests.oracle.mlx_lm.language_moe import MLA
from tests.oracle.tiny import GONE, SIZES, Tiny, merged

AUTO = "AutoModelForImageTextToText"
THETA = {"rope_theta": 5000.0}
UNTIED = {"tie_word_embeddings": False}
ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}}
MROPE = {"mrope_section": [2, 3, 3]}
TEXT = {**SIZES, **ROPE}
QWEN_TEXT: dict[str, Any] = {
    **SIZES,
    "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0, **MROPE},
}
QWEN_TOKENS = {
    "image_token_id": 266,
    "video_token_id": 267,
    "vision_start_token_id": 264,
    "vision_end_token_id": 265,
}


def hoisted(**more: object) -> dict[str, object]:
    """The root of a config as it was before the language model's part had its own."""
    text = {key: value for key, value in SIZES.items() if value is not None}
    rope = {**THETA, "rope_scaling": {"type": "mrope", **MROPE}}
    return {**text, **rope, "rms_norm_eps": 1e-5, "text_config": GONE, **more}


QWEN = (
    Tiny(
        "qwen2_5_vl",
        {
            "text_config": QWEN_TEXT,
            "vision_config": {
                "depth": 2,
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_heads": 2,
                "out_hidden_size": 64,
                "window_size": 112,
                "fullatt_block_indexes": [1],
            },
            "tie_word_embeddings": False,
            **QWEN_TOKENS,
        },
        hoisted(vision_config={"model_type": "qwen2_5_vl"}),
        AUTO,
        sized=False,
    ),
    Tiny(
        "qwen2_vl",
        {
            "text_config": QWEN_TEXT,
            "vision_config": {"depth": 2, "embed_dim": 32, "num_heads": 2, "hidden_size": 64, "mlp_ratio": 2},
            "tie_word_embeddings": True,
            **QWEN_TOKENS,
        },
        hoisted(vision_config={"model_type": "qwen2_vl"}),
        AUTO,
        sized=False,
    ),
)

SIGLIP = {
    "model_type": "siglip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
    "vision_use_head": False,
}
CLIP = {**SIGLIP, "model_type": "clip_vision_model", "projection_dim": 16}
LLAMA = {**TEXT, "model_type": "llama", "head_dim": 16}
TOWER = [("vision_tower.vision_model.", "vision_tower.")]
"""Published checkpoints have one more module around the vision encoder."""

TEXT_HUB = {"text_config": THETA}
LOCAL = {
    "rope_parameters": {
        "full_attention": {"rope_type": "default", "rope_theta": 5000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 700.0},
    }
}
QWEN3_VISION = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 2,
    "out_hidden_size": 64,
    "num_position_embeddings": 16,
    "deepstack_visual_indexes": [0, 1],
}
QWEN3_ROPE = {"rope_parameters": {**QWEN_TEXT["rope_parameters"], "mrope_interleaved": True}}
QWEN3_HUB = {
    "text_config": {
        **UNTIED,
        **THETA,
        "rope_scaling": {"rope_type": "default", "mrope_interleaved": True, **MROPE},
    }
}

MISTRAL4_ROPE: dict[str, object] = {
    "rope_type": "yarn",
    "type": "yarn",
    "rope_theta": 5000.0,
    "factor": 4.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "original_max_position_embeddings": 128,
    "llama_4_scaling_beta": 0.1,
}
MISTRAL4: dict[str, object] = {
    **SIZES,
    **MLA,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "rope_parameters": MISTRAL4_ROPE,
}

QWEN3_5_TEXT = {
    **SIZES,
    "head_dim": 16,
    "num_hidden_layers": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "rope_parameters": {**QWEN3_ROPE["rope_parameters"], "partial_rotary_factor": 0.5},
}
QWEN3_5_VISION = {key: value for key, value in QWEN3_VISION.items() if key != "deepstack_visual_indexes"}
QWEN3_5_HUB = {"text_config": {"rope_parameters": QWEN3_5_TEXT["rope_parameters"]}}

QWEN3_5 = (
    Tiny(
        "qwen3_5",
        {"text_config": QWEN3_5_TEXT, "vision_config": QWEN3_5_VISION, **UNTIED, **QWEN_TOKENS},
        {**QWEN3_5_HUB, "vision_config": {"model_type": "qwen3_5"}},
        AUTO,
        sized=False,
    ),
    Tiny(
        "qwen3_5_moe",
        {
            "text_config": {
                **QWEN3_5_TEXT,
                "num_experts": 4,
                "num_experts_per_tok": 2,
                "moe_intermediate_size": 24,
                "shared_expert_intermediate_size": 48,
            },
            "vision_config": QWEN3_5_VISION,
            **UNTIED,
            **QWEN_TOKENS,
        },
        {**QWEN3_5_HUB, "vision_config": {"model_type": "qwen3_5_moe"}},
        AUTO,
        sized=False,
        fused=True,
    ),
)

GEMMA4_ROPE = {
    "rope_parameters": {
        "full_attention": {"partial_rotary_factor": 0.25, "rope_theta": 5000.0, "rope_type": "proportional"},
        "sliding_attention": {"rope_theta": 700.0, "rope_type": "default"},
    }
}

GEMMA4 = (
    Tiny(
        "gemma4",
        {
            "text_config": {
                **SIZES,
                "head_dim": 16,
                "global_head_dim": 32,
                "num_hidden_layers": 4,
                "layer_types": ["sliding_attention", "full_attention"] * 2,
                "num_kv_shared_layers": 2,
                "vocab_size_per_layer_input": 272,
                "hidden_size_per_layer_input": 16,
                "enable_moe_block": True,
                "num_experts": 4,
                "top_k_experts": 2,
                "moe_intermediate_size": 24,
                "use_double_wide_mlp": False,
                "tie_word_embeddings": True,
                "pad_token_id": 262,
                **GEMMA4_ROPE,
            },
            "vision_config": {
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "head_dim": 16,
                "patch_size": 4,
                "position_embedding_size": 16,
            },
            "audio_config": {
                "hidden_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "subsampling_conv_channels": [128, 4],
                "output_proj_dims": 24,
            },
            "image_token_id": 266,
        },
        {"vocab_size": 272, "text_config": {"global_head_dim": 32, **GEMMA4_ROPE}},
        AUTO,
        sized=False,
    ),
)

OTHERS = (
    Tiny(
        "qwen3_vl",
        {
            "text_config": {**SIZES, **QWEN3_ROPE, "head_dim": 16},
            "vision_config": QWEN3_VISION,
            "tie_word_embeddings": False,
            **QWEN_TOKENS,
        },
        {**QWEN3_HUB, "vision_config": {"model_type": "qwen3_vl"}},
        AUTO,
        sized=False,
    ),
    Tiny(
        "qwen3_vl_moe",
        {
            "text_config": {
                **SIZES,
                **QWEN3_ROPE,
                "head_dim": 16,
                "num_experts": 4,
                "num_experts_per_tok": 2,
                "moe_intermediate_size": 24,
            },
            "vision_config": QWEN3_VISION,
            "tie_word_embeddings": False,
            **QWEN_TOKENS,
        },
        merged(
            {
                "text_config": {"num_experts": 4, "norm_topk_prob": True},
                "vision_config": {"model_type": "qwen3_vl_moe"},
            },
            QWEN3_HUB,
        ),
        AUTO,
        sized=False,
        swapped=(".gate_up_proj", ".down_proj"),
    ),
    Tiny(
        "llava",
        {"text_config": LLAMA, "vision_config": CLIP, "image_token_index": 266},
        TEXT_HUB,
        AUTO,
        sized=False,
        names=TOWER,
    ),
    Tiny(
        "llava_next",
        {"text_config": LLAMA, "vision_config": CLIP, "image_token_index": 266},
        TEXT_HUB,
        AUTO,
        sized=False,
        names=TOWER,
    ),
    Tiny(
        "paligemma",
        {
            "text_config": {**TEXT, "model_type": "gemma", "head_dim": 16},
            "vision_config": {**SIGLIP, "projection_dim": 64, "num_image_tokens": 4},
            "projection_dim": 64,
            "image_token_index": 266,
        },
        TEXT_HUB,
        AUTO,
        sized=False,
        names=TOWER,
    ),
    Tiny(
        "gemma3",
        {
            "text_config": {
                **SIZES,
                **LOCAL,
                "head_dim": 16,
                "num_hidden_layers": 4,
                "sliding_window_pattern": 2,
            },
            "vision_config": {**SIGLIP, "image_size": 448},
            "image_token_index": 266,
        },
        {
            "vocab_size": 272,
            "text_config": {**THETA, "rope_local_base_freq": 700.0, "sliding_window_pattern": 2},
        },
        AUTO,
        sized=False,
        names=TOWER,
    ),
    Tiny(
        "idefics3",
        {
            "text_config": LLAMA,
            "vision_config": {**SIGLIP, "model_type": "idefics3_vision"},
            "image_token_id": 266,
        },
        TEXT_HUB,
        AUTO,
        sized=False,
    ),
    Tiny(
        "smolvlm",
        {
            "text_config": LLAMA,
            "vision_config": {**SIGLIP, "model_type": "smolvlm_vision"},
            "image_token_id": 266,
        },
        TEXT_HUB,
        AUTO,
        sized=False,
    ),
    Tiny(
        "idefics2",
        {
            "text_config": {**TEXT, "model_type": "mistral", "head_dim": 16, "sliding_window": None},
            "vision_config": {**SIGLIP, "model_type": "idefics2_vision"},
            "perceiver_config": {
                "hidden_size": 64,
                "resampler_n_latents": 4,
                "resampler_depth": 2,
                "resampler_n_heads": 4,
                "resampler_head_dim": 16,
                "num_key_value_heads": 2,
            },
            "image_token_id": 266,
        },
        TEXT_HUB,
        AUTO,
        sized=False,
    ),
    Tiny(
        "mistral3",
        {
            "text_config": {**TEXT, "model_type": "mistral", "head_dim": 16, "sliding_window": None},
            "vision_config": {
                "model_type": "pixtral",
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "head_dim": 16,
                "image_size": 56,
                "patch_size": 14,
            },
            "image_token_index": 266,
            "tie_word_embeddings": False,
        },
        TEXT_HUB,
        AUTO,
        sized=False,
    ),
    Tiny(
        "mistral3",
        {
            "text_config": {**MISTRAL4, "model_type": "mistral4"},
            "vision_config": {
                "model_type": "pixtral",
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "head_dim": 16,
                "image_size": 56,
                "patch_size": 14,
            },
            "image_token_index": 266,
            "tie_word_embeddings": False,
        },
        {"text_config": {"rope_parameters": MISTRAL4_ROPE}},
        AUTO,
        sized=False,
        variant="mistral4",
    ),
    Tiny(
        "internvl",
        {
            "text_config": {**TEXT, "model_type": "qwen3", "head_dim": 16},
            "vision_config": {
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": [28, 28],
                "patch_size": [14, 14],
                "use_qk_norm": True,
            },
            "image_token_id": 266,
            "tie_word_embeddings": False,
        },
        {"text_config": {**THETA, **UNTIED}},
        AUTO,
        sized=False,
    ),
    Tiny(
        "mllama",
        {
            "text_config": {
                **LLAMA,
                "model_type": "mllama_text_model",
                "num_hidden_layers": 3,
                "cross_attention_layers": [1],
                "bos_token_id": 262,
                "pad_token_id": 262,
            },
            "vision_config": {
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_global_layers": 1,
                "attention_heads": 2,
                "image_size": 28,
                "patch_size": 14,
                "intermediate_layers_indices": [0, 1],
                "vision_output_dim": 96,
            },
            "image_token_index": 266,
        },
        TEXT_HUB,
        AUTO,
        sized=False,
    ),
    Tiny(
        "llava_onevision",
        {
            "text_config": {**TEXT, "model_type": "qwen2"},
            "vision_config": SIGLIP,
            "image_token_index": 266,
            "video_token_index": 267,
            "tie_word_embeddings": False,
        },
        TEXT_HUB,
        AUTO,
        sized=False,
    ),
    Tiny(
        "aya_vision",
        {
            "text_config": {
                **TEXT,
                "model_type": "cohere2",
                "head_dim": 16,
                "num_hidden_layers": 4,
                "sliding_window_pattern": 2,
            },
            "vision_config": SIGLIP,
            "image_token_index": 266,
            "alignment_intermediate_size": 128,
        },
        {"text_config": {**THETA, "sliding_window_pattern": 2}},
        AUTO,
        sized=False,
        names=TOWER,
    ),
)

FIXTURE = Tiny(
    "qwen2_5_vl",
    hub=hoisted(rope_theta=1000000.0, eos_token_id=261, vision_config={"model_type": "qwen2_5_vl"}),
)
"""The model in `fixtures/`."""

MODELS = (*QWEN, *QWEN3_5, *GEMMA4, *OTHERS)
