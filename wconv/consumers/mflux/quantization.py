"""What mflux quantizes, and how: it asks the same when it saves and when it loads.

Facts: mflux 0.24, the families' `weights/*_weight_definition.py`.
`tests/oracle/test_quantization_tables.py` checks the rows against them.
"""

from __future__ import annotations

from wconv.consumers.quantization.tables import Case, FixedForm, QuantizationTable, Row, dense

CASES = (
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
    Case(("ming_image",), (dense(r"^(heads|mlp)/"),)),
    Case(
        ("qwen", "qwen_image"),
        (dense(r"^text_encoder/"), Row(r"\.img_mod_linear", {"bits": 8}, at_bits=(4,))),
    ),
    Case(("qwen21",), (dense(r"^text_encoder/"),)),
    Case(
        ("qwen_image21", "qwen21_edit", "qwen21_controlnet"),
        (dense(r"^vae/"), dense("modulation|time_text_embed|norm_out")),
    ),
)
"""Paths are `<component>/<path>` where the component is known."""

TABLE = QuantizationTable(
    CASES,
    plain_gates=frozenset(("ming_image",)),
    plain_modules={"ming_image": r"(^|\.)image_gate$"},
    fixed=FixedForm("affine", (3, 4, 5, 6, 8), 64, {"boogu": 32}),
)
