"""The exceptions that the converters of mlx-lm and mlx-vlm share."""

from __future__ import annotations

from wconv.consumers.quantization.tables import Case, Row, eight

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
