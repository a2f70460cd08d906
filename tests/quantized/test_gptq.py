"""GPTQ's forms that the config tells: versions of zeros, orders of codes that are not decoded."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from tests.quantized.test_recognition import opened, same
from wconv.errors import FormatError
from wconv.quantized.recognition import find_weights

NAME = "model.layers.0.self_attn.q_proj.weight"


def dense(case: str, **settings: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    """A weight under other settings, and the notes."""
    tensors, config, _ = opened(case)
    config = copy.deepcopy(config)
    config["quantization_config"] |= settings
    found = find_weights(tensors, config)
    assert found is not None
    return found.decode(tensors).tensors[NAME].numpy(), found.notes


@pytest.mark.parametrize("packing", ["auto_round", "auto_round:gptqmodel", "auto_round:exllamav2"])
def test_autorounds_own_packing_has_zeros_as_they_are(packing: str) -> None:
    whole, _ = dense("autoround-4")
    same(NAME, dense("autoround-4", packing_format=packing)[0], whole)
    other, _ = dense("autoround-4", packing_format="auto_round:auto_gptq")
    assert not np.array_equal(whole, other)


@pytest.mark.parametrize("packing", ["auto_round:auto_gptq", "auto_round:gptq", "auto"])
def test_autorounds_auto_gptq_has_them_less_one(packing: str) -> None:
    same(NAME, dense("autoround-4-gptq", packing_format=packing)[0], dense("autoround-4-gptq")[0])


def test_symmetric_zeros_tell_themselves() -> None:
    found, notes = dense("autoround-5-symmetric", packing_format="auto_round")
    same(NAME, found, dense("autoround-5-symmetric")[0])
    assert any("checkpoint_format" in note for note in notes)


@pytest.mark.parametrize("case", ["autoround-4", "autoround-awq-4", "autoround-6"])
def test_a_config_of_autoround_contradicts_neither_packing(case: str) -> None:
    assert dense(case)[1] == ()


@pytest.mark.parametrize("form", ["gptq_p", "marlin", "bitblas"])
def test_another_order_of_codes_is_refused_by_name(form: str) -> None:
    with pytest.raises(FormatError, match=r"the config says that codes lie in .*does not decode"):
        dense("gptq-4", checkpoint_format=form)


def test_gptqmodels_5_bits_lie_in_planes() -> None:
    with pytest.raises(FormatError, match=r"proj\.qweight has codes of 5 bits, which lie in the planes"):
        dense("autoround-5-symmetric", quant_method="gptq", checkpoint_format="gptq")


def test_what_a_model_leaves_out_stays_plain() -> None:
    tensors, config, _ = opened("gptq-dynamic")
    found = find_weights(tensors, config)
    assert found is not None
    assert "model.layers.0.mlp.down_proj.weight" not in found.weights
    assert found.decode(tensors).tensors["model.layers.0.mlp.down_proj.weight"].dtype.name == "float16"
