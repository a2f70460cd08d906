"""What mlx-vlm's converter quantizes, and how.

Facts: mlx-vlm 0.7.10, `convert.py`, `utils.py: get_class_predicate` and the models' `quant_predicate`.
`tests/oracle/test_quantization_tables.py` checks the rows against them. Only clef's row is not: its predicate
asks that of the class above it, which takes a whole model.
"""

from __future__ import annotations

from wconv.consumers.mlx.quantization import SHARED
from wconv.consumers.quantization.recipes import MIXED
from wconv.consumers.quantization.tables import (
    EIGHT,
    Case,
    MixedRecipes,
    QuantizationTable,
    Row,
    dense,
    eight,
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

CASES = (
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
    Case(("mistral3",), (dense("lm_head"), eight(r"mlp\.gate$"))),
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

PLAIN_GATES = """
deepseek deepseek_v2 deepseek_v3 deepseek_v32 deepseek_v4 deepseek_v41 deepseek_vl_v2 deepseekocr
deepseekocr_2 dots1 exaone_moe glm4_moe glm4_moe_lite glm4v_moe glm5_next glm_moe_dsa hy_v4 kimi_k25
kimi_vl kolibri1 llada2_moe mimo_v2 mimo_v2_flash mistral_large3 muse_spark nemotron_h
nemotron_h_nano_omni nemotron_voicechat solar_open unlimited_ocr xing4_0 youtu_vl
"""
"""Models whose router `gate` is a bare matrix, which cannot be quantized."""

SKIPPED = (
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
"""Parts of paths that the converter leaves dense."""

TABLE = QuantizationTable(
    CASES,
    modules={
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
    plain_gates=frozenset(PLAIN_GATES.split()),
    plain_modules={"iquestloopcoder": r"gate_projections\.\d+$", "deepseek_v41": r"(^|\.)head$"},
    skipped=SKIPPED,
    skipped_why="mlx-vlm keeps the parts for images and sound dense",
    asks_group_last=True,
    mixed=MixedRecipes(
        tuple(MIXED),
        sensitive=r"v_proj|down_proj|feed_forward\.w2",
        always="lm_head|embed_tokens",
        down=r"down_proj|feed_forward\.w2",
        group_size=64,
        second_dimension=64,
        encoders_first=("gemma4", "mimo_v2"),
    ),
)
