"""The vision-language models that are compared with mlx-vlm, table by table."""

from __future__ import annotations

import functools
from typing import Any

from tests.oracle.mlx_lm.language_moe import MLA
from tests.oracle.tiny import GONE, SIZES, Tiny, merged

AUTO = "AutoModelForImageTextToText"
vision = functools.partial(Tiny, auto=AUTO, sized=False)

THETA = {"rope_theta": 5000.0}
UNTIED = {"tie_word_embeddings": False}
DEFAULT = {"rope_type": "default", **THETA}
ROPE = {"rope_parameters": DEFAULT}
MROPE = {"mrope_section": [2, 3, 3]}
TEXT = {**SIZES, **ROPE}
HEAD = {"head_dim": 16}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
QWEN_TEXT: dict[str, Any] = {**SIZES, "rope_parameters": {**DEFAULT, **MROPE}}
QWEN_TOKENS = {
    "image_token_id": 266,
    "video_token_id": 267,
    "vision_start_token_id": 264,
    "vision_end_token_id": 265,
}
IMAGE_ID, IMAGE_INDEX = {"image_token_id": 266}, {"image_token_index": 266}


def hoisted(model_type: str, **more: object) -> dict[str, object]:
    """The root of a config as it was before the language model's part had its own."""
    text = {key: value for key, value in SIZES.items() if value is not None}
    rope = {**THETA, "rope_scaling": {"type": "mrope", **MROPE}}
    parts = {"text_config": GONE, "vision_config": {"model_type": model_type}}
    return {**text, **rope, "rms_norm_eps": 1e-5, **parts, **more}


TOWER = {"hidden_size": 32, "intermediate_size": 48}
DEEP = {**TOWER, "depth": 2, "num_heads": 2}
LAYERED = {**TOWER, "num_hidden_layers": 2, "num_attention_heads": 2}

QWEN = (
    vision(
        "qwen2_5_vl",
        {
            "text_config": QWEN_TEXT,
            "vision_config": {
                **DEEP,
                "out_hidden_size": 64,
                "window_size": 112,
                "fullatt_block_indexes": [1],
            },
            **UNTIED,
            **QWEN_TOKENS,
        },
        hoisted("qwen2_5_vl"),
    ),
    vision(
        "qwen2_vl",
        {
            "text_config": QWEN_TEXT,
            "vision_config": {"depth": 2, "embed_dim": 32, "num_heads": 2, "hidden_size": 64, "mlp_ratio": 2},
            "tie_word_embeddings": True,
            **QWEN_TOKENS,
        },
        hoisted("qwen2_vl"),
    ),
)

SIGLIP = {
    **LAYERED,
    "model_type": "siglip_vision_model",
    "image_size": 28,
    "patch_size": 14,
    "vision_use_head": False,
}
CLIP = {**SIGLIP, "model_type": "clip_vision_model", "projection_dim": 16}
PIXTRAL = {**LAYERED, **HEAD, "model_type": "pixtral", "image_size": 56, "patch_size": 14}
LLAMA = {**TEXT, **HEAD, "model_type": "llama"}
MISTRAL = {**TEXT, **HEAD, "model_type": "mistral", "sliding_window": None}
WRAPPED = [("vision_tower.vision_model.", "vision_tower.")]
"""Published checkpoints have one more module around the vision encoder."""

TEXT_HUB = {"text_config": THETA}
LOCAL = {
    "rope_parameters": {
        "full_attention": DEFAULT,
        "sliding_attention": {"rope_type": "default", "rope_theta": 700.0},
    }
}
FOUR_LAYERS = {**HEAD, "num_hidden_layers": 4, "sliding_window_pattern": 2}

QWEN3_VISION = {
    **DEEP,
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


def qwen3(
    model_type: str, text: dict[str, Any], tower: dict[str, Any], hub: dict[str, Any], **more: Any
) -> Tiny:
    """A model of Qwen3's kinds."""
    config = {"text_config": text, "vision_config": tower, **UNTIED, **QWEN_TOKENS}
    return vision(model_type, config, merged({"vision_config": {"model_type": model_type}}, hub), **more)


MISTRAL4_ROPE: dict[str, object] = {
    "rope_type": "yarn",
    "type": "yarn",
    **THETA,
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
    **HEAD,
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
    qwen3("qwen3_5", QWEN3_5_TEXT, QWEN3_5_VISION, QWEN3_5_HUB),
    qwen3(
        "qwen3_5_moe",
        {**QWEN3_5_TEXT, **EXPERTS, "shared_expert_intermediate_size": 48},
        QWEN3_5_VISION,
        QWEN3_5_HUB,
        fused=True,
    ),
)

GEMMA4_ROPE = {
    "rope_parameters": {
        "full_attention": {"partial_rotary_factor": 0.25, **THETA, "rope_type": "proportional"},
        "sliding_attention": {"rope_theta": 700.0, "rope_type": "default"},
    }
}

GEMMA4 = (
    vision(
        "gemma4",
        {
            "text_config": {
                **SIZES,
                **HEAD,
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
                **LAYERED,
                **HEAD,
                "num_key_value_heads": 2,
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
            **IMAGE_ID,
        },
        {"vocab_size": 272, "text_config": {"global_head_dim": 32, **GEMMA4_ROPE}},
    ),
)

OTHERS = (
    qwen3("qwen3_vl", {**SIZES, **QWEN3_ROPE, **HEAD}, QWEN3_VISION, QWEN3_HUB),
    qwen3(
        "qwen3_vl_moe",
        {**SIZES, **QWEN3_ROPE, **HEAD, **EXPERTS},
        QWEN3_VISION,
        merged({"text_config": {"num_experts": 4, "norm_topk_prob": True}}, QWEN3_HUB),
        swapped=(".gate_up_proj", ".down_proj"),
    ),
    *(
        vision(
            model_type,
            {"text_config": LLAMA, "vision_config": CLIP, **IMAGE_INDEX},
            TEXT_HUB,
            names=WRAPPED,
        )
        for model_type in ("llava", "llava_next")
    ),
    vision(
        "paligemma",
        {
            "text_config": {**TEXT, **HEAD, "model_type": "gemma"},
            "vision_config": {**SIGLIP, "projection_dim": 64, "num_image_tokens": 4},
            "projection_dim": 64,
            **IMAGE_INDEX,
        },
        TEXT_HUB,
        names=WRAPPED,
    ),
    vision(
        "gemma3",
        {
            "text_config": {**SIZES, **LOCAL, **FOUR_LAYERS},
            "vision_config": {**SIGLIP, "image_size": 448},
            **IMAGE_INDEX,
        },
        {
            "vocab_size": 272,
            "text_config": {**THETA, "rope_local_base_freq": 700.0, "sliding_window_pattern": 2},
        },
        names=WRAPPED,
    ),
    *(
        vision(
            model_type,
            {
                "text_config": LLAMA,
                "vision_config": {**SIGLIP, "model_type": f"{model_type}_vision"},
                **IMAGE_ID,
            },
            TEXT_HUB,
        )
        for model_type in ("idefics3", "smolvlm")
    ),
    vision(
        "idefics2",
        {
            "text_config": MISTRAL,
            "vision_config": {**SIGLIP, "model_type": "idefics2_vision"},
            "perceiver_config": {
                "hidden_size": 64,
                "resampler_n_latents": 4,
                "resampler_depth": 2,
                "resampler_n_heads": 4,
                "resampler_head_dim": 16,
                "num_key_value_heads": 2,
            },
            **IMAGE_ID,
        },
        TEXT_HUB,
    ),
    vision(
        "mistral3",
        {"text_config": MISTRAL, "vision_config": PIXTRAL, **IMAGE_INDEX, **UNTIED},
        TEXT_HUB,
    ),
    vision(
        "mistral3",
        {
            "text_config": {**MISTRAL4, "model_type": "mistral4"},
            "vision_config": PIXTRAL,
            **IMAGE_INDEX,
            **UNTIED,
        },
        {"text_config": {"rope_parameters": MISTRAL4_ROPE}},
        variant="mistral4",
    ),
    vision(
        "internvl",
        {
            "text_config": {**TEXT, **HEAD, "model_type": "qwen3"},
            "vision_config": {**LAYERED, "image_size": [28, 28], "patch_size": [14, 14], "use_qk_norm": True},
            **IMAGE_ID,
            **UNTIED,
        },
        {"text_config": {**THETA, **UNTIED}},
    ),
    vision(
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
                **TOWER,
                "num_hidden_layers": 2,
                "num_global_layers": 1,
                "attention_heads": 2,
                "image_size": 28,
                "patch_size": 14,
                "intermediate_layers_indices": [0, 1],
                "vision_output_dim": 96,
            },
            **IMAGE_INDEX,
        },
        TEXT_HUB,
    ),
    vision(
        "llava_onevision",
        {
            "text_config": {**TEXT, "model_type": "qwen2"},
            "vision_config": SIGLIP,
            **IMAGE_INDEX,
            "video_token_index": 267,
            **UNTIED,
        },
        TEXT_HUB,
    ),
    vision(
        "aya_vision",
        {
            "text_config": {**TEXT, **FOUR_LAYERS, "model_type": "cohere2"},
            "vision_config": SIGLIP,
            **IMAGE_INDEX,
            "alignment_intermediate_size": 128,
        },
        {"text_config": {**THETA, "sliding_window_pattern": 2}},
        names=WRAPPED,
    ),
)

FIXTURE = Tiny("qwen2_5_vl", hub=hoisted("qwen2_5_vl", rope_theta=1000000.0, eos_token_id=261))
"""The model in `fixtures/`."""

MODELS = (*QWEN, *QWEN3_5, *GEMMA4, *OTHERS)
