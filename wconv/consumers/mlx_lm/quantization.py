"""What mlx-lm's converter quantizes, and how.

Facts: mlx-lm 0.32.2, `convert.py`, `utils.py: quantize_model` and the models' `quant_predicate`.
`tests/oracle/test_quantization_tables.py` checks the rows against them.
"""

from __future__ import annotations

from wconv.consumers.mlx.quantization import SHARED
from wconv.consumers.quantization.tables import Case, MixedRecipes, QuantizationTable, dense, eight

MLA = r"attention\.(q_a_proj|q_b_proj|kv_a_proj_with_mqa|embed_q|unembed_out|b_proj)$"

CASES = (
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

PLAIN_GATES = """
bailing_moe_v3 deepseek deepseek_v2 deepseek_v3 deepseek_v32 deepseek_v41 dots1 exaone_moe glm4_moe
glm4_moe_lite glm_moe_dsa kimi_k25 kimi_vl mimo_v2_flash muse_spark nemotron_h solar_open
"""
"""Models whose router `gate` is a bare matrix, which cannot be quantized."""

TABLE = QuantizationTable(
    CASES,
    modules={
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
    by_architecture={"BailingMoeV3ForCausalLM": "bailing_moe_v3"},
    plain_gates=frozenset(PLAIN_GATES.split()),
    plain_modules={"iquestloopcoder": r"gate_projections\.\d+$"},
    mixed=MixedRecipes(
        ("mixed_2_6", "mixed_3_4", "mixed_3_6", "mixed_4_6"),
        sensitive="v_proj|v_a_proj|v_b_proj|down_proj",
        always="lm_head",
        down="down_proj",
        says_mode=True,
    ),
)
