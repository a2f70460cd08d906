"""Where the consumers' converters depart from "every matrix whose rows the group divides", as tables.

`tests/oracle/test_quantization_tables.py` checks the rows against the installed consumers' predicates.
Only clef's row is not: its predicate asks that of the class above it, which takes a whole model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Answer = Mapping[str, Any] | bool
"""Parameters as the consumer writes them into config.json, True for the recipe's own, False for dense."""

EIGHT: Mapping[str, Any] = {"group_size": 64, "bits": 8}
"""What the consumers give to routers and other sensitive layers, whatever the mode."""


@dataclass(frozen=True, slots=True)
class Row:
    """Layers that are treated in a way of their own.

    Attributes:
        pattern: a regular expression, searched for in the layer's path; LAST in it is the last layer's.
        answer: how they are stored.
        beside: the row holds only where the layer's parent has a child of this name, too.
        multiple: the row holds only where a dimension is not a multiple of this.
        at_bits: the row holds only when the model is quantized to these bits.
    """

    pattern: str
    answer: Answer
    beside: str | None = None
    multiple: int | None = None
    at_bits: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """The exceptions of some models; the first that fits a layer holds."""

    models: Sequence[str]
    exceptions: Sequence[Row]


def eight(pattern: str) -> Row:
    return Row(pattern, EIGHT)


def dense(pattern: str, *, beside: str | None = None, multiple: int | None = None) -> Row:
    return Row(pattern, False, beside, multiple)


SHARED = (
    Case(("kimi_linear", "mellum", "qwen3_moe"), (eight(r"mlp\.gate$"),)),
    Case(("bailing_moe_linear",), (eight(r"mlp\.gate\.gate_proj$"),)),
    Case(("gpt_oss", "jamba"), (eight(r"router$"),)),
    Case(("gemma4_text",), (eight(r"router\.proj$"),)),
    Case(("granitemoehybrid",), (eight(r"router\.layer$"),)),
    Case(("laguna",), (eight(r"mlp\.gate\.proj$"),)),
    Case(("lfm2_moe",), (eight(r"feed_forward\.gate$"),)),
    Case(("longcat_flash", "longcat_flash_ngram"), (eight(r"classifier$"),)),
    Case(("minimax",), (eight(r"block_sparse_moe\.gate$"),)),
    Case(
        ("prism_hadamard_qwen35", "qwen3_5", "qwen3_5_moe", "qwen3_next"),
        (eight(r"mlp\.gate$|shared_expert_gate$"),),
    ),
    Case(("rwkv7",), (Row(r"lora\.2|embeddings", {"bits": 8}),)),
    Case(("step3p5",), (eight(r"mlp\.gate\.gate"),)),
)
"""The same in mlx-lm and mlx-vlm."""

MLA = r"attention\.(q_a_proj|q_b_proj|kv_a_proj_with_mqa|embed_q|unembed_out|b_proj)$"

MLX_LM = (
    *SHARED,
    Case(("afmoe",), (eight(r"router\.gate"),)),
    Case(("kimi_k3",), (eight(r"mlp\.gate$"), dense(r"res_proj$"))),
    Case(("Klear", "qwen3_vl_moe"), (eight(r"mlp\.gate$"),)),
    Case(
        ("bailing_hybrid",),
        (eight(r"mlp\.gate\.gate_proj$"), dense(r"attention\.(embed_q|unembed_out)$")),
    ),
    Case(("bailing_moe",), (eight(r"mlp\.gate\.gate_proj$"),)),
    Case(
        ("bailing_moe_v3",),
        (
            dense(r"^(model\.word_embeddings|lm_head)$"),
            dense(MLA),
            dense(r"attention\.(q_proj|g_proj)$", beside="kv_a_proj_with_mqa"),
        ),
    ),
    Case(("gemma4",), (eight(r"router\.proj$"),)),
    Case(("granite",), (eight(r"self_attn\.o_proj$|mlp\.down_proj$|^lm_head$"),)),
    Case(
        ("granitemoe",),
        (eight(r"block_sparse_moe\.router\.layer$|self_attn\.o_proj$|mlp\.down_proj$|^lm_head$"),),
    ),
    Case(("minimax_m3_vl",), (eight(r"block_sparse_moe\.gate$"),)),
    Case(
        ("muse_spark",),
        (
            dense(r"^model\.language_model\.layers\.(0|LAST)\."),
            dense(r"^(?!model\.language_model\.layers\.\d+\.mlp\.experts\.(gate|up|down)_proj$)"),
        ),
    ),
    Case(("spark2_5",), (dense(r"self_attn\.g_proj$"),)),
)

SAM_EMBEDDINGS = (
    "query_embed|reference_points|presence_token|label_embed|cls_embed|point_embed|not_a_point|no_mask_embed"
    "|no_memory|no_object|iou_token|mask_tokens|obj_score_token|shared_embedding|shared_image_embedding"
    "|occlusion_spatial|memory_temporal|position_embedding"
)
SAM_CONVOLUTIONS = (
    "conv|depthwise|mask_downsample|pixel_decoder|instance_projection|semantic_projection|fpn_layers"
    "|patch_embeddings"
)

MLX_VLM = (
    *SHARED,
    Case(("klear", "flint", "qwen3_omni_moe"), (eight(r"mlp\.gate$"),)),
    Case(("clef",), (dense(r"^head\."), eight(r"mlp\.gate$|shared_expert_gate$"))),
    Case(("cohere2_moe",), (dense(r"\.self_attn\."), dense(r"^(?!.*gate_proj).*\.mlp\.gate"))),
    Case(("d1_omni",), (dense(r"^head\.(type_emb|scorer)"),)),
    Case(
        ("decider2", "indic_ocr", "qwen3_5_moe_text", "qwen3_5_text"),
        (eight(r"mlp\.gate$|shared_expert_gate$"),),
    ),
    Case(
        ("deepseek_v4",),
        (
            Row(r"\.attn\.(w|indexer\.wq)", {"group_size": 32, "bits": 8, "mode": "mxfp8"}),
            Row(r"\.ffn\.shared_experts\.", {"group_size": 32, "bits": 8, "mode": "mxfp8"}),
            Row(r"\.ffn\.switch_mlp\..*_proj$", {"group_size": 32, "bits": 4, "mode": "mxfp4"}),
        ),
    ),
    Case(
        ("diffusion_gemma",),
        (eight(r"(embed_tokens|mlp\.gate_proj|mlp\.up_proj|mlp\.down_proj)$|\.self_attn\.|router"),),
    ),
    Case(("gemma4", "gemma4_unified"), (eight("router"),)),
    Case(("glm5_next",), (dense("attn_hc|ffn_hc|index_kpool_compress"),)),
    Case(("granitemoe",), (eight(r"block_sparse_moe\.router\.layer$"),)),
    Case(("kolibri1",), (dense(r"model\.embed_tokens$|lm_head$|mlp\.gate$"),)),
    Case(("longcat_flash_sparse",), (eight(r"classifier$"),)),
    Case(
        ("mimo_v2",),
        (
            Row("switch_mlp", {"group_size": 32, "bits": 4, "mode": "mxfp4"}),
            Row("", {"group_size": 64, "bits": 8, "mode": "affine"}),
        ),
    ),
    Case(
        ("minicpmv4_6", "minicpmv4_7"),
        (
            dense(r"^(vit_merger|merger)"),
            dense("linear_attn|embed_tokens|lm_head"),
            eight(r"mlp\.gate$|shared_expert_gate$"),
        ),
    ),
    Case(
        ("minimax_m3", "minimax_m3_vl"),
        (Row(r"block_sparse_moe\.gate$", {**EIGHT, "mode": "affine"}),),
    ),
    Case(("mistral3", "mistral_large3"), (dense("lm_head"), eight(r"mlp\.gate$"))),
    Case(
        ("muse_spark",),
        (
            dense(r"^language_model\.model\.layers\.(0|LAST)\."),
            dense(r"^(?!language_model\.model\.layers\.\d+\.mlp\.experts\.(gate|up|down)_proj$)"),
        ),
    ),
    Case(("openai_privacy_filter",), (eight(r"\.mlp\.router$"),)),
    Case(("phi4mm",), (dense("audio_encoder|audio_projection|mm_projector|vision_tower"),)),
    Case(
        ("qwen4_exp",),
        (
            Row(r"\.ple\.ple_embedding\.ngram_embedding\.shards\.", {"fallback_group_size": 32}),
            Row(r"mlp\.gate$|shared_expert_gate$", {**EIGHT, "mode": "affine"}),
        ),
    ),
    Case(
        ("rfdetr",),
        (dense(r"backbone\.|conv|query_feat|refpoint_embed|position_embeddings"), dense("", multiple=64)),
    ),
    Case(
        ("rt_detr_v2",), (dense(r"backbone\.|conv|query_embed|denoising_class_embed"), dense("", multiple=64))
    ),
    Case(("sam3",), (dense(f"{SAM_CONVOLUTIONS}|{SAM_EMBEDDINGS}"), dense("", multiple=64))),
    Case(
        ("sam3_1",),
        (
            dense(
                f"{SAM_CONVOLUTIONS}|{SAM_EMBEDDINGS}|output_valid_embed|output_invalid_embed"
                "|no_obj_embed_spatial|image_pe_layer|interactivity_no_mem"
            ),
            dense("", multiple=64),
        ),
    ),
    Case(("step3p7",), (eight(r"mlp\.gate\.gate"),)),
)

MFLUX = (
    Case(
        ("anima",),
        (dense("llm_adapter|t_embedder|adaln_modulation"), dense(r"^text_encoder/")),
    ),
    Case(("fibo_vlm",), (dense("lm_head"),)),
    Case(
        ("iris",),
        (
            dense(r"^([^/]*/)?(pixel_embedder|final_layer)|layer_pool"),
            dense(r"^([^/]*/)?pixel_blocks.*\.mlp\."),
            Row(r"^([^/]*/)?pixel_blocks.*\.adaln$", False, at_bits=(3, 4)),
        ),
    ),
    Case(("krea2",), (dense(r"^text_encoder/"),)),
    Case(("ming_image",), (dense(r"^heads/"),)),
    Case(("qwen",), (dense(r"^text_encoder/"), Row(r"\.img_mod_linear", {"bits": 8}, at_bits=(4,)))),
    Case(("qwen21",), (dense(r"^text_encoder/"),)),
    Case(("qwen_image21",), (dense(r"^vae/"), dense("modulation|time_text_embed|norm_out"))),
)
"""Paths are `<component>/<path>` where the component is known."""

CASES = {"mlx-lm": MLX_LM, "mlx-vlm": MLX_VLM, "mflux": MFLUX}

SMALLER_GROUPS = {"boogu": 32}
"""Group sizes of mflux's families that are not 64."""


def exceptions(consumer: str, module: str) -> Sequence[Row]:
    """The exceptions of a consumer's module."""
    return [row for case in CASES[consumer] if module in case.models for row in case.exceptions]
