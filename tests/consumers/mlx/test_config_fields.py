"""config.json gains what the consumers read and loses nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wconv.consumers.config_dtypes import with_dtype
from wconv.consumers.mlx.config_fields import normalise

NAMES = (
    "model_type",
    "text_config",
    "vision_config",
    "rope_parameters",
    "full_attention",
    "sliding_attention",
    "rope_theta",
    "rope_type",
    "layer_types",
    "tie_word_embeddings",
    "per_layer_config",
    "head_dim",
    "dtype",
    "expand",
    "hidden_size",
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(
        ["qwen2_5_vl", "gemma3", "gemma4_text", "mamba2", "cohere2", "full_attention", "default"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    max_leaves=20,
)

FIXTURE = Path(__file__).parents[3] / "fixtures" / "qwen2_5_vl"


def contains(whole: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return all(key in whole and contains(whole[key], value) for key, value in part.items())
    return bool(whole == part)


def test_the_old_rope_fields_are_added_beside_the_new() -> None:
    config = {"model_type": "llama", "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}}
    new, added = normalise(config)
    assert new == {**config, "rope_theta": 5000.0}
    assert added == ("rope_theta",)


def test_rope_scaling_is_added_only_where_it_changes_something() -> None:
    rope = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 5000.0, "partial_rotary_factor": 0.5}
    new, _ = normalise({"model_type": "gpt_oss", "rope_parameters": rope})
    assert new["rope_scaling"] == {
        "rope_type": "yarn",
        "type": "yarn",
        "factor": 4.0,
        "partial_rotary_factor": 0.5,  # gpt_oss reads no such field, and transformers would lose it
    }
    assert "partial_rotary_factor" not in new
    assert new["rope_parameters"] == rope


def test_each_kind_of_layer_gets_its_own_base() -> None:
    kinds = {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}
    layers = [*["sliding_attention"] * 5, "full_attention"] * 2
    new, added = normalise({"model_type": "gemma3_text", "rope_parameters": kinds, "layer_types": layers})
    assert (new["rope_theta"], new["rope_local_base_freq"]) == (1e6, 1e4)
    assert new["sliding_window_pattern"] == 6
    assert set(added) == {"rope_theta", "rope_local_base_freq", "sliding_window_pattern"}


def test_an_irregular_pattern_is_not_made_up() -> None:
    layers = ["sliding_attention", "full_attention", "full_attention"]
    assert "sliding_window_pattern" not in normalise({"model_type": "cohere2", "layer_types": layers})[0]


def test_fields_that_are_there_stay_as_they_are() -> None:
    config = {
        "model_type": "gpt_neox",
        "rotary_emb_base": 1,
        "rope_theta": 2.0,
        "torch_dtype": "float32",
        "dtype": "bfloat16",
        "rope_parameters": {"rope_theta": 3.0},
    }
    assert normalise(config) == (config, ())


def test_the_input_is_not_changed() -> None:
    config = json.loads((FIXTURE / "config.json").read_text())
    before = json.dumps(config)
    normalise(config)
    with_dtype(config, "float16")
    assert json.dumps(config) == before


def test_qwen2_5_vl_gets_its_language_models_fields_at_the_root() -> None:
    config = json.loads((FIXTURE / "config.json").read_text())
    new, added = normalise(config)
    config["vision_config"]["model_type"] = "qwen2_5_vl"
    assert contains(new, config)
    assert new["hidden_size"] == config["text_config"]["hidden_size"]
    assert new["rope_scaling"]["mrope_section"] == [2, 3, 3]
    assert new["model_type"] == "qwen2_5_vl"
    assert new["text_config"]["tie_word_embeddings"] is False
    assert "vision_config.model_type" in added
    assert "hidden_size" in added
    assert normalise(new) == (new, ())


def test_the_dtype_is_said_in_every_part_that_says_one() -> None:
    config = {
        "dtype": "bfloat16",
        "text_config": {"dtype": "bfloat16"},
        "vision_config": {"torch_dtype": "float32", "hidden_size": 3},
        "quantization_config": {"dtype": "int4"},
    }
    assert with_dtype(config, "float16") == {
        "dtype": "float16",
        "torch_dtype": "float16",
        "text_config": {"dtype": "float16"},
        "vision_config": {"torch_dtype": "float16", "hidden_size": 3},
        "quantization_config": {"dtype": "int4"},
    }


@pytest.mark.parametrize("rope", [None, [], "default", {"rope_theta": None}, {"full_attention": 3}])
def test_a_rope_of_another_form_is_left_alone(rope: Any) -> None:
    config = {"model_type": "llama", "rope_parameters": rope}
    new, _ = normalise(config)
    assert new["rope_parameters"] == rope
    assert "rope_theta" not in new


@given(st.dictionaries(st.sampled_from(NAMES), VALUES))
def test_a_config_of_any_form_is_taken_and_nothing_is_lost(config: dict[str, Any]) -> None:
    new, added = normalise(config)
    assert new.keys() >= config.keys()
    assert all(config.get(name) is None for name in added if "." not in name)
    parts = ("text_config", "vision_config")
    assert all(
        new[name] == value for name, value in config.items() if value is not None and name not in parts
    )
    assert normalise(new)[0] == new
    with_dtype(new, "float16")
