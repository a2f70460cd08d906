"""Schemes that are not decoded: each is named by its own name, with what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.quantized.test_recognition import opened
from wconv.errors import FormatError
from wconv.quantized.recognition import find_weights
from wconv.quantized.refused import ADVICE
from wconv.tensors.lazy import from_array


def refusal(names: dict[str, Any], **settings: Any) -> str:
    tensors = {name: from_array(one) for name, one in names.items()}
    with pytest.raises(FormatError) as caught:
        find_weights(tensors, {"quantization_config": settings} if settings else {})
    text = str(caught.value)
    assert "\n" not in text
    return text


BYTES = np.ones((4, 8), np.uint8)

SIGNS = {
    "hqq": ("q.W_q", "an HQQ checkpoint"),
    "sinq": ("q.W_q", "a SINQ checkpoint"),
    "vptq": ("q.centroids.weight", "a VPTQ checkpoint"),
    "metal": ("q.qbiases", "a checkpoint quantized for Metal by transformers"),
    "paroquant": ("q.theta", "a ParoQuant checkpoint"),
    "qqq": ("q.s_channel", "a QQQ checkpoint"),
    "marlin": ("q.workspace", "a checkpoint in Marlin's order"),
    "aqlm": ("q.codebooks", "an AQLM checkpoint"),
    "higgs": ("q.tables2", "a HIGGS checkpoint"),
    "sparse-bitmask": ("q.bitmask", "a sparse compressed-tensors checkpoint"),
}


@pytest.mark.parametrize("method", SIGNS)
def test_each_is_named(method: str) -> None:
    name, title = SIGNS[method]
    key = "format" if "sparse" in method else "quant_method"
    text = refusal({name: BYTES}, **{key: method})
    assert text.startswith(f"{name} shows {title}, ")
    assert text.endswith(ADVICE)


def test_quarks_packed_integers() -> None:
    parts = {"q.weight": np.ones((4, 8), np.int32), "q.weight_scale": np.ones((4, 1), np.float32)}
    assert "q.weight is int32 with scales, as Quark packs integers" in refusal(parts, quant_method="quark")


@pytest.mark.parametrize("method", ["gemma", "nvfp4", "unheard-of"])
def test_a_method_that_is_not_known_is_told_instead_of_damage(method: str) -> None:
    parts = {"q.weight": BYTES, "q.weight_global_scale": np.ones(1, np.float32)}
    text = refusal(parts, quant_method=method)
    assert f"in a form that is not decoded (the config says quant_method {method})" in text
    assert "download" not in text
    rows = {"q.weight": BYTES, "q.weight_scale": np.ones((4, 1), np.float32)}
    assert f"(the config says quant_method {method})" in refusal(rows, quant_method=method)


@pytest.mark.parametrize(
    ("case", "key", "value"),
    [
        ("ct-int4", "transform_config", {"config_groups": {"u": {"type": "hadamard"}}}),
        ("autoround-4", "rotation_config", {"hadamard_type": "hadamard"}),
        ("autoround-4", "spinquant_config", {"r1": True}),
    ],
)
def test_transformed_weights_are_refused(case: str, key: str, value: Any) -> None:
    tensors, config, metadata = opened(case)
    config["quantization_config"][key] = value
    with pytest.raises(FormatError, match=f"the config's {key} says that the weights are transformed"):
        find_weights(tensors, config, metadata)
    config["quantization_config"][key] = {"config_groups": {}} if key == "transform_config" else None
    assert find_weights(tensors, config, metadata) is not None


def test_the_tensors_decide_against_a_config_that_names_a_refused_scheme() -> None:
    tensors, config, metadata = opened("gptq-4")
    config["quantization_config"]["quant_method"] = "hqq"
    found = find_weights(tensors, config, metadata)
    assert found is not None
    assert found.notes == ("the config says quant_method hqq, and the tensors are gptq: so read",)


def test_scales_for_activations_are_told_and_dropped() -> None:
    tensors, config, metadata = opened("ct-fp8")
    stem = "model.layers.0.self_attn."
    ends = ("q_proj.input_scale", "q_proj.output_scale", "k_scale", "v_scale")
    more = {f"{stem}{end}": from_array(np.ones(1, np.float32)) for end in ends}
    found = find_weights({**tensors, **more}, config, metadata)
    assert found is not None
    assert more.keys() <= found.decode({**tensors, **more}).dropped.keys()
