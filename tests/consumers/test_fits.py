"""config.json gains a field only for the model types of which a program is known to read it."""

from __future__ import annotations

from typing import Any

import pytest

from wconv.consumers.mlx.config_fields import normalise

ROPE = {"rope_type": "default", "rope_theta": 5000.0, "partial_rotary_factor": 0.5}


def test_a_part_that_takes_no_other_field_gains_none() -> None:
    text = {"rope_parameters": ROPE, "dtype": "bfloat16", "hidden_size": 8}
    new, added = normalise({"model_type": "glm_ocr", "text_config": text})
    assert new["text_config"] == text
    assert not any(name.startswith("text_config.") for name in added)


def test_of_a_part_that_knows_some_fields_the_others_stay_out() -> None:
    text = {"rope_parameters": {**ROPE, "rope_type": "yarn", "factor": 2.0}, "dtype": "bfloat16"}
    new, _ = normalise({"model_type": "phi4_siglip", "text_config": text})
    assert new["text_config"]["rope_theta"] == 5000.0
    assert "torch_dtype" not in new["text_config"]


@pytest.mark.parametrize("model_type", ["nobody_knows", "bert", None, 3])
def test_a_model_that_no_consumer_has_gains_no_rope(model_type: Any) -> None:
    config = {"model_type": model_type, "rope_parameters": ROPE}
    assert normalise(config) == (config, ())


@pytest.mark.parametrize("model_type", ["llama", "Llama", "mistral", "granite", "olmo2"])
def test_one_that_reads_them_gains_them(model_type: str) -> None:
    assert normalise({"model_type": model_type, "rope_parameters": ROPE})[0]["rope_theta"] == 5000.0


@pytest.mark.parametrize("root", [True, False])
def test_the_root_does_not_overrule_the_language_model(root: bool) -> None:
    config = {
        "model_type": "cohere_compass",
        "tie_word_embeddings": root,
        "text_config": {"tie_word_embeddings": not root},
    }
    assert normalise(config) == (config, ())


def test_the_root_speaks_where_the_language_model_does_not() -> None:
    new, _ = normalise({"model_type": "cohere_compass", "tie_word_embeddings": True, "text_config": {}})
    assert new["text_config"]["tie_word_embeddings"] is True
    both = {
        "model_type": "qwen3_vl",
        "tie_word_embeddings": True,
        "text_config": {"tie_word_embeddings": False},
    }
    assert normalise(both)[0]["text_config"]["tie_word_embeddings"] is True
