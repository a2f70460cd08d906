"""What the consumers' models are built of: which modules have a quantized form, and whose module is whose."""

from __future__ import annotations

STACKS = frozenset(
    (
        "gate_proj",
        "up_proj",
        "down_proj",
        "gate_up_proj",
        "fc1",
        "fc2",
        "linear_fc1",
        "linear_fc2",
        "lora_fc1",
        "lora_fc2",
        "embed_q",
        "unembed_out",
        "o_a_proj",
        "wo_a",
    )
)
"""Modules whose weight of three dimensions is a stack of matrices; other such weights are convolutions'."""

PLAIN_GATES = {
    "mlx-lm": frozenset(
        (
            "bailing_moe_v3",
            "deepseek",
            "deepseek_v2",
            "deepseek_v3",
            "deepseek_v32",
            "deepseek_v41",
            "dots1",
            "exaone_moe",
            "glm4_moe",
            "glm4_moe_lite",
            "glm_moe_dsa",
            "kimi_k25",
            "kimi_vl",
            "mimo_v2_flash",
            "muse_spark",
            "nemotron_h",
            "solar_open",
        )
    ),
    "mlx-vlm": frozenset(
        (
            "deepseek",
            "deepseek_v2",
            "deepseek_v3",
            "deepseek_v32",
            "deepseek_v4",
            "deepseek_v41",
            "deepseek_vl_v2",
            "deepseekocr",
            "deepseekocr_2",
            "dots1",
            "exaone_moe",
            "glm4_moe",
            "glm4_moe_lite",
            "glm4v_moe",
            "glm5_next",
            "glm_moe_dsa",
            "hy_v4",
            "kimi_k25",
            "kimi_vl",
            "kolibri1",
            "llada2_moe",
            "mimo_v2",
            "mimo_v2_flash",
            "mistral_large3",
            "muse_spark",
            "nemotron_h",
            "nemotron_h_nano_omni",
            "nemotron_voicechat",
            "solar_open",
            "unlimited_ocr",
            "xing4_0",
            "youtu_vl",
        )
    ),
    "mflux": frozenset(("ming_image",)),
}
"""Models whose router `gate` is a bare matrix to the consumer, which it cannot quantize."""

PLAIN_MODULES = {
    ("mlx-lm", "iquestloopcoder"): r"gate_projections\.\d+$",
    ("mlx-vlm", "iquestloopcoder"): r"gate_projections\.\d+$",
    ("mlx-vlm", "deepseek_v41"): r"(^|\.)head$",
}
"""More modules that cannot be quantized."""

SKIPPED_BY_MLX_VLM = (
    "vision",
    "aligner",
    "vision_model",
    "vision_tower",
    "vl_connector",
    "sam_model",
    "audio_model",
    "audio_tower",
    "code_predictor",
    "img_projector",
    "multi_modal_projector",
    "patch_merge_mlp",
)
"""Parts of paths that mlx-vlm's converter leaves dense."""

MODULES = {
    "mlx-lm": {
        "mistral": "llama",
        "llava": "mistral3",
        "phi-msft": "phixtral",
        "falcon_mamba": "mamba",
        "joyai_llm_flash": "deepseek_v3",
        "kimi_k2": "deepseek_v3",
        "qwen2_5_vl": "qwen2_vl",
        "minimax_m2": "minimax",
        "iquestcoder": "llama",
        "xverse": "llama",
        "gemma4_unified": "gemma4",
        "deepseek_v41_text": "deepseek_v41",
    },
    "mlx-vlm": {
        "muse_spark_open": "muse_spark",
        "nemotron_h_puzzle": "nemotron_h",
        "sam3_video": "sam3",
        "sam3.1_video": "sam3_1",
        "rf-detr": "rfdetr",
        "nemotronh_nano_omni_reasoning_v3": "nemotron_h_nano_omni",
        "nemotron_h_omni": "nemotron_h_nano_omni",
        "cohere2moe": "cohere2_moe",
        "unlimited-ocr": "unlimited_ocr",
        "joyai_llm_flash": "deepseek_v3",
        "kimi_k2": "deepseek_v3",
        "minimax_m2": "minimax",
    },
    "mflux": {},
}
"""The consumer's module for a model type, where its name is another and it has a row above."""

VISION_FIRST = ("gemma4", "mimo_v2")
"""Models whose vision part mlx-vlm's mixed recipes look at when they search for the layer's number."""
