"""What a program needs and transformers 5 leaves out is made; older spellings are written where read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from tests.making import random, write_directory
from wconv.consumers.mlx.config_fields import normalise

SIZES = {"hidden_size": 64, "num_attention_heads": 4}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"model_type": "qwen3_moe", **SIZES}, {"head_dim": 16}),
        ({"model_type": "exaone4", **SIZES}, {"head_dim": 16, "rope_scaling": None}),
        ({"model_type": "mellum", "head_dim": 8, "num_local_experts": 6}, {"num_experts": 6}),
        (
            {"model_type": "exaone_moe", "head_dim": 8, "mlp_layer_types": ["dense", "sparse"]},
            {"is_moe_layer": [False, True]},
        ),
        ({"model_type": "apertus"}, {"mlp_bias": False, "post_norm": False, "qk_norm": True}),
        (
            {
                "model_type": "solar_open",
                "head_dim": 8,
                "moe_intermediate_size": 40,
                "mlp_layer_types": ["dense", "dense", "sparse"],
            },
            {"intermediate_size": 40, "first_k_dense_replace": 2, "partial_rotary_factor": 1.0},
        ),
        ({"model_type": "lfm2", "hidden_size": 64}, {"block_dim": 64}),
        (
            {"model_type": "minimax_m2", "head_dim": 16, "rope_parameters": {"partial_rotary_factor": 0.5}},
            {"partial_rotary_factor": 0.5, "rotary_dim": 8, "shared_intermediate_size": 0},
        ),
    ],
    ids=lambda one: one.get("model_type", "") if isinstance(one, dict) else "",
)
def test_what_a_program_needs_is_made(config: dict[str, Any], expected: dict[str, Any]) -> None:
    new, _ = normalise(config)
    gained = {name: value for name, value in new.items() if name not in config}
    if config["model_type"] == "minimax_m2":
        gained.setdefault("partial_rotary_factor", 0.5)  # which it need not read
    assert gained == expected
    assert normalise(new)[0] == new


def test_it_is_made_in_the_language_models_part_too() -> None:
    new, added = normalise({"model_type": "internvl", "text_config": {"model_type": "qwen3", **SIZES}})
    assert new["text_config"]["head_dim"] == 16
    assert "text_config.head_dim" in added


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "qwen3_moe", "hidden_size": 65, "num_attention_heads": 4},
        {"model_type": "qwen3_moe", "hidden_size": 64, "num_attention_heads": 0},
        {"model_type": "qwen3_moe", "hidden_size": "64", "num_attention_heads": 4},
        {"model_type": "llama", **SIZES},
        {"model_type": "nobody_knows", **SIZES},
        {"model_type": 3, **SIZES},
    ],
)
def test_nothing_is_made_up(config: dict[str, Any]) -> None:
    assert normalise(config)[0] == config


def test_a_number_that_is_there_stays_and_null_does_not() -> None:
    assert normalise({"model_type": "qwen3_moe", **SIZES, "head_dim": 32})[0]["head_dim"] == 32
    assert normalise({"model_type": "qwen3_moe", **SIZES, "head_dim": None})[0]["head_dim"] == 16


@pytest.mark.parametrize(
    ("model_type", "field", "newer", "older"),
    [
        ("exaone4", "sliding_window_pattern", 4, "LLLG"),
        ("exaone4", "sliding_window_pattern", "LLG", "LLG"),
        (
            "granitemoehybrid",
            "layer_types",
            ["linear_attention", "full_attention"],
            ["mamba", "attention"],
        ),
        ("granitemoehybrid", "layer_types", ["mamba", "attention"], ["mamba", "attention"]),
        ("granitemoehybrid", "layer_types", None, None),
        ("granitemoehybrid", "position_embedding_type", None, "nope"),
        ("granitemoehybrid", "position_embedding_type", "rope", "rope"),
        ("llama", "layer_types", ["linear_attention"], ["linear_attention"]),
        ("mamba2", "time_step_limit", [0.0, {"__float__": "Infinity"}], [0.0, float("inf")]),
        ("mamba2", "time_step_limit", [0.0, 1.0], [0.0, 1.0]),
        ("mamba2", "time_step_limit", "none", "none"),
    ],
)
def test_the_older_spelling_is_written(model_type: str, field: str, newer: Any, older: Any) -> None:
    new, added = normalise({"model_type": model_type, field: newer})
    assert new[field] == older
    assert (field in added) is (newer != older)


def test_the_file_says_so(tmp_path: Path) -> None:
    config = {"model_type": "mamba2", "time_step_limit": [0.0, {"__float__": "Infinity"}]}
    tensors = {"backbone.norm_f.weight": random((4,), np.float32)}
    wconv.convert(write_directory(tmp_path / "model", [tensors], config), tmp_path / "out")
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written["time_step_limit"] == [0.0, float("inf")]
