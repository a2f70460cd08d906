"""What consumers do to dtypes of models that have no table here: what their own conversion leaves uncast, and
what they compute with when they load, so that a cast beforehand changes the result.

A consumer's conversion casts every floating parameter that its model's `cast_predicate` does not exclude,
after its `sanitize`. Names here are those of published checkpoints and those that sanitize makes of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from wconv.consumers.known_model_types import KNOWN
from wconv.layouts.apply import SCALES, Applied, fitting

Patterns = tuple[str, ...]

CORRECTION: Patterns = ("**e_score_correction_bias**",)
EXPERT: Patterns = ("**expert_bias**",)
ROUTER: Patterns = ("**router_bias**",)
DECAY: Patterns = ("**A_log",)
RECURRENT: Patterns = (*CORRECTION, "**A_log", "**dt_bias")
HYBRID: Patterns = (*CORRECTION, "**A_log**")
HYPER: Patterns = ("**.(attn|ffn)_hc.**", "**.hc_(attn|ffn)_(fn|base|scale)")
"""Hyper-connections; the second is what published checkpoints call them."""

GATES: Patterns = ("**_(alpha|beta)", "**_residual_gate.gate")
"""The second is what sanitize computes the first from."""

KEPT: Mapping[str, Mapping[str, Patterns]] = {
    "mlx-lm": {
        **dict.fromkeys(("afmoe", "bailing_hybrid", "bailing_moe", "bailing_moe_linear"), EXPERT),
        **dict.fromkeys(("klear", "lfm2_moe"), EXPERT),
        **dict.fromkeys(("deepseek_v3", "deepseek_v32", "glm_moe_dsa", "kimi_k25", "kimi_vl"), CORRECTION),
        **dict.fromkeys(("glm4_moe", "glm4_moe_lite", "solar_open", "exaone_moe"), CORRECTION),
        **dict.fromkeys(("laguna", "longcat_flash", "longcat_flash_ngram", "mimo_v2_flash"), CORRECTION),
        **dict.fromkeys(("minimax", "minimax_m2", "minimax_m3_vl", "kimi_k2", "joyai_llm_flash"), CORRECTION),
        **dict.fromkeys(
            ("deepseek_v41", "deepseek_v41_text"),
            (*CORRECTION, *HYPER, "**.gate.bias", "**sinks**", "**.attn_sink**", "**compressor.**"),
        ),
        **dict.fromkeys(("kimi_k3", "kimi_linear"), RECURRENT),
        **dict.fromkeys(("qwen3_5", "qwen3_5_moe", "prism_hadamard_qwen35"), DECAY),
        "muse_spark": GATES,
        "nemotron_h": HYBRID,
        "step3p5": ROUTER,
    },
    "mlx-vlm": {
        **dict.fromkeys(("bailing_moe_linear", "klear", "lfm2_moe"), EXPERT),
        **dict.fromkeys(("deepseek_v3", "deepseek_v32", "glm_moe_dsa", "xing4_0", "kimi_k2"), CORRECTION),
        **dict.fromkeys(("glm4_moe", "glm4_moe_lite", "solar_open", "laguna", "mimo_v2"), CORRECTION),
        **dict.fromkeys(("longcat_flash", "longcat_flash_ngram", "longcat_flash_sparse"), CORRECTION),
        **dict.fromkeys(("minimax", "minimax_m2", "joyai_llm_flash"), CORRECTION),
        **dict.fromkeys(("minimax_m3", "minimax_m3_vl"), (*CORRECTION, "**block_sparse_moe.gate.weight")),
        **dict.fromkeys(("qwen3_5", "qwen3_5_moe", "qwen3_5_text", "qwen3_5_moe_text"), DECAY),
        **dict.fromkeys(("clef", "decider2", "indic_ocr", "prism_hadamard_qwen35", "qwen4_exp"), DECAY),
        "minicpmv4_7": DECAY,
        "deepseek_v4": (
            *CORRECTION,
            *HYPER,
            "**.gate.bias",
            "**attn_sink**",
            "**bias_vl**",
            "**.hc_head.**",
            "hc_head_**",
        ),
        "glm5_next": (
            "**(A_log|dt_bias|e_score_correction_bias)",
            *HYPER,
            "**index_kpool_compress**",
        ),
        "hy_v4": (*CORRECTION, "**learnable_sink_param**", "**.(hc_attn_layer|hc_mlp_layer|hc_head).**"),
        "kimi_linear": RECURRENT,
        **dict.fromkeys(("muse_spark", "muse_spark_open"), GATES),
        **dict.fromkeys(("nemotron_h", "nemotron_h_puzzle"), HYBRID),
        "nemotron_voicechat": ("**A_log**", "**(special_flags|is_continuation|pad_tensor)"),
        "openai_privacy_filter": ("**.sinks",),
        "step3p5": ROUTER,
    },
}
"""Names that each model's own conversion does not cast; of models that are not listed it casts all."""

QWEN_NORMS: Patterns = (
    "**.(input_layernorm|post_attention_layernorm|q_norm|k_norm).weight",
    "**(model|model.language_model).norm.weight",
)
HEAD: Patterns = ("lm_head.weight",)
FALCON: Patterns = (
    "**(embed_tokens|lm_head|q_proj|k_proj|key_proj|o_proj|out_proj|gate_proj|down_proj|in_proj).weight",
)
MUSE: Patterns = (
    "**.(input|pre_feedforward|post_feedforward)_layernorm.weight",
    "**.mlp.(pre_expert_norm|experts.post_expert_norm).weight",
)

COMPUTED: Mapping[str, Mapping[str, Patterns]] = {
    "mlx-lm": {
        "baichuan_m1": HEAD,
        "bailing_moe": HEAD,
        "bailing_moe_linear": HEAD,
        "falcon_h1": FALCON,
        "muse_spark": MUSE,
        "prism_hadamard_qwen35": QWEN_NORMS,
        "step3p5": ("**norm**.weight",),
    },
    "mlx-vlm": {
        "baichuan_m1": HEAD,
        "bailing_moe": HEAD,
        "bailing_moe_linear": HEAD,
        "falcon_h1": FALCON,
        "granite4_vision": ("**.lora_(A|B).weight",),
        **dict.fromkeys(("minicpmv4_6", "minicpmv4_7"), QWEN_NORMS),
        **dict.fromkeys(("muse_spark", "muse_spark_open"), MUSE),
        "phi4mm": ("**.lora_(A|B).vision.weight",),
        **dict.fromkeys(("clef", "decider2", "indic_ocr", "prism_hadamard_qwen35"), QWEN_NORMS),
        **dict.fromkeys(("qwen3_5_text", "qwen3_5_moe_text"), QWEN_NORMS),
        **dict.fromkeys(("step3p5", "step3p7"), ("**norm**.weight",)),
    },
}
"""Names with which sanitize computes in their own dtype; models that have tables are left out."""

SEEING = ("vision_config", "audio_config", "vit_config", "visual")
"""Fields of config.json of models that are more than a language model."""


def of_consumer(applied: Applied, layout: object, config: Mapping[str, Any] | None) -> Applied:
    """A model without a table whose dtypes are kept as the consumer that will load it keeps them.

    Args:
        layout: a consumer's name; "auto" for the one that loads the model, mlx-vlm where both do and it is
            more than a language model.
    """
    config = config or {}
    model_type = str(config.get("model_type", "")).lower()
    consumer = _consumer(layout, model_type, config)
    if not consumer:
        return applied
    return replace(
        applied,
        keep_dtype=fitting((*KEPT[consumer].get(model_type, ()), SCALES), applied.tensors),
        keep_why=f"{consumer} keeps its dtype",
        computed=dict.fromkeys(
            sorted(fitting(COMPUTED[consumer].get(model_type, ()), applied.tensors)), consumer
        ),
    )


def note(cast: Mapping[str, str], dtype: str) -> str:
    """What the user should know of tensors that are cast before their consumer computes with them.

    Args:
        cast: their names, and the consumer's.
    """
    name, consumer = next(iter(cast.items()))
    more = f" and {len(cast) - 1} more" if len(cast) > 1 else ""
    return (
        f"{consumer} computes with {name}{more} when it loads the model: in {dtype} the result may differ"
        " from that of its own conversion, which computes first and casts then"
    )


def _consumer(layout: object, model_type: str, config: Mapping[str, Any]) -> str:
    order = ["mlx-lm", "mlx-vlm"]
    if any(isinstance(config.get(name), Mapping) for name in SEEING):
        order.reverse()
    return next((one for one in order if layout in ("auto", one) and model_type in KNOWN[one]), "")
