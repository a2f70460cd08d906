"""The vision-language models that are compared with mlx-vlm, table by table."""

from __future__ import annotations

from tests.oracle.tiny import GONE, SIZES, Tiny

AUTO = "AutoModelForImageTextToText"
THETA = {"rope_theta": 5000.0}
ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}}
MROPE = {"mrope_section": [2, 3, 3]}
TEXT = {**SIZES, **ROPE}
QWEN_TEXT = {**SIZES, "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0, **MROPE}}
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

FIXTURE = Tiny(
    "qwen2_5_vl",
    hub=hoisted(rope_theta=1000000.0, eos_token_id=261, vision_config={"model_type": "qwen2_5_vl"}),
)
"""The model in `fixtures/`."""

MODELS = (*QWEN,)
