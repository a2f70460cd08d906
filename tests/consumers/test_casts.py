"""Models without a table are cast as their consumer casts them.

Covers `consumers/cast_rules.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from tests.making import random, write_directory, write_file
from wconv.consumers import registry
from wconv.conversion.report import Report
from wconv.layouts import patterns

VISION = {"vision_config": {"hidden_size": 8}}


def convert(tmp_path: Path, model_type: str, names: list[str], **arguments: Any) -> Report:
    more = arguments.pop("config", {})
    tensors = {name: random((4, 4), np.float32) for name in ("model.norm.weight", *names)}
    model = write_directory(tmp_path / "model", [tensors], {"model_type": model_type, **more})
    return wconv.convert(model, tmp_path / "out", **{"dtype": "float16", **arguments})


L = "model.layers.0."


@pytest.mark.parametrize(
    ("model_type", "layout", "config", "kept", "cast"),
    [
        ("nemotron_h", "auto", {}, ["mixer.A_log", "mixer.gate.e_score_correction_bias"], ["mixer.dt_bias"]),
        ("jamba", "auto", {}, [], ["mamba.A_log", "mamba.dt_bias"]),
        ("granitemoehybrid", "auto", {}, [], ["mamba.A_log", "mamba.dt_bias"]),
        ("olmo_hybrid", "auto", {}, [], ["linear_attn.A_log", "linear_attn.dt_bias"]),
        ("plamo2", "auto", {}, [], ["mixer.A_log", "mixer.dt_bias"]),
        ("dots1", "auto", {}, [], ["mlp.gate.e_score_correction_bias"]),
        ("bailing_moe_v3", "auto", {}, [], ["mlp.gate.expert_bias"]),
        ("afmoe", "auto", {}, ["mlp.expert_bias"], ["mlp.A_log"]),
        ("minimax_m3_vl", "auto", VISION, ["block_sparse_moe.gate.weight"], ["block_sparse_moe.up.weight"]),
        ("openai_privacy_filter", "auto", {}, ["self_attn.sinks"], ["self_attn.sinks_proj.weight"]),
        ("glm5_next", "auto", {}, ["hc_attn_fn", "self_attn.indexer.index_kpool_compress_ape"], ["mlp.x"]),
        ("deepseek_v41", "auto", {}, ["hc_ffn_base", "attn.attn_sink", "ffn.gate.bias"], ["ffn.w1.weight"]),
        ("Klear", "auto", {}, ["mlp.expert_bias"], ["mlp.A_log"]),
        ("nobody_knows", "auto", {}, ["A_log", "dt_bias", "x.expert_bias"], ["mlp.x.weight"]),
        ("nemotron_h", "hf", {}, ["mixer.A_log", "mixer.dt_bias"], ["mixer.D"]),
    ],
)
def test_what_the_consumer_casts_is_cast(
    model_type: str, layout: str, config: dict[str, Any], kept: list[str], cast: list[str], tmp_path: Path
) -> None:
    report = convert(
        tmp_path, model_type, [L + name for name in (*kept, *cast)], layout=layout, config=config
    )
    assert set(report.kept) == {L + name for name in kept}
    arrays = wconv.load(tmp_path / "out")
    assert {name for name, array in arrays.items() if array.dtype == np.float32} == set(report.kept)


def test_the_summary_says_whose_way_it_is(tmp_path: Path) -> None:
    report = convert(tmp_path, "nemotron_h", [L + "mixer.A_log"])
    assert any("kept (float32, mlx-lm keeps its dtype): model.layers.0" in line for line in report.lines())
    unknown = convert(tmp_path / "u", "nobody_knows", ["A_log"])
    said = "kept (float32, some consumers keep its dtype, and which one loads this is not known): A_log"
    assert any(said in line for line in unknown.lines())


@pytest.mark.parametrize(
    ("model_type", "name", "consumer"),
    [
        ("qwen3_5_text", L + "input_layernorm.weight", "mlx-vlm"),
        ("qwen3_5_moe_text", L + "self_attn.q_norm.weight", "mlx-vlm"),
        ("minicpmv4_6", "model.language_model.norm.weight", "mlx-vlm"),
        ("minicpmv4_7", "model.language_model.layers.1.post_attention_layernorm.weight", "mlx-vlm"),
        ("baichuan_m1", "lm_head.weight", "mlx-lm"),
        ("bailing_moe", "lm_head.weight", "mlx-lm"),
        ("muse_spark", "model.language_model.layers.3.mlp.pre_expert_norm.weight", "mlx-lm"),
        ("step3p5", L + "input_layernorm.weight", "mlx-lm"),
    ],
)
def test_a_cast_before_the_consumer_computes_is_told(
    model_type: str, name: str, consumer: str, tmp_path: Path
) -> None:
    report = convert(tmp_path, model_type, [name, "model.other.weight"])
    notes = [note for note in report.notes if "the result may differ" in note]
    assert len(notes) == 1
    assert f"{consumer} computes with" in notes[0]
    assert "in float16" in notes[0]
    assert not [one for one in wconv.convert(tmp_path / "model", tmp_path / "as_is").notes if "differ" in one]


def test_it_is_told_of_a_merged_weight_too(tmp_path: Path) -> None:
    pair = {"lora_A": random((2, 4), np.float32), "lora_B": random((4, 2), np.float32)}
    lora = write_file(tmp_path / "l.safetensors", {f"lm_head.{key}.weight": one for key, one in pair.items()})
    report = convert(tmp_path, "baichuan_m1", ["lm_head.weight"], merge_lora=[str(lora)])
    assert any("mlx-lm computes with lm_head.weight" in note for note in report.notes)


def test_no_note_where_nothing_is_computed_with(tmp_path: Path) -> None:
    assert not [note for note in convert(tmp_path, "jamba", ["lm_head.weight"]).notes if "differ" in note]


def test_a_merged_adapter_is_rounded_to_the_dtype_that_is_kept(tmp_path: Path) -> None:
    """Which tensors are kept is asked for in one place, for adapters too."""
    name = L + "block_sparse_moe.gate"
    tensors = {f"{name}.weight": random((4, 4), np.float32), "model.norm.weight": random((4,), np.float32)}
    model = write_directory(tmp_path / "model", [tensors], {"model_type": "minimax_m3_vl", **VISION})
    pair = {"lora_A": random((2, 4), np.float32), "lora_B": random((4, 2), np.float32)}
    lora = write_file(tmp_path / "l.safetensors", {f"{name}.{key}.weight": one for key, one in pair.items()})
    wconv.convert(model, tmp_path / "out", dtype="float16", merge_lora=[str(lora)])
    got = wconv.load(tmp_path / "out")[f"{name}.weight"]
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, tensors[f"{name}.weight"] + pair["lora_B"] @ pair["lora_A"], rtol=1e-5)


def test_the_tables_are_well_formed() -> None:
    rules = [one.cast_rules() for one in registry.CONSUMERS if one.cast_rules is not None]
    assert len(rules) == 2
    for one in rules:
        assert all(name == name.lower() for name in one.model_types)
        for by_type in (one.kept, one.computed):
            assert by_type.keys() <= one.model_types
            for text in (text for texts in by_type.values() for text in texts):
                assert str(patterns.compile_pattern(text)) == text


def test_the_plan_says_it_for_programs_too(tmp_path: Path) -> None:
    report = convert(tmp_path, "nemotron_h", [L + "mixer.A_log"])
    assert json.dumps(report.to_dict()["kept"]) == json.dumps(
        {L + "mixer.A_log": "float32, mlx-lm keeps its dtype"}
    )
