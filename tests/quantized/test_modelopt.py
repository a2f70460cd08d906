"""ModelOpt's forms beside those of its fixtures: experts in stacks, scales of a cache, factors of any scheme.

Covers `quantized/columns.py`.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.quantized.test_recognition import opened, same
from wconv.errors import FormatError
from wconv.quantized.recognition import find_weights
from wconv.tensors.lazy import from_array

STEM = "model.layers.0.self_attn."


def test_each_expert_of_a_stack_has_its_own_second_scale() -> None:
    random = np.random.default_rng(0)
    codes = random.integers(0, 256, (3, 4, 16), dtype=np.uint8)
    scales = random.random((3, 4, 2), np.float32).astype(ml_dtypes.float8_e4m3fn)
    second = np.array([1, 0.25, 3], np.float32)
    name = "experts.down_proj"
    parts = {name: codes, f"{name}_scale": scales, f"{name}_scale_2": second}
    found = find_weights({key: from_array(one) for key, one in parts.items()}, {})
    assert found is not None
    whole = found.weights[name].dense.numpy()
    for at in range(3):
        one = {name: codes[at], f"{name}_scale": scales[at], f"{name}_scale_2": second[at]}
        alone = find_weights({key: from_array(np.asarray(part)) for key, part in one.items()}, {})
        assert alone is not None
        same(name, whole[at], alone.weights[name].dense.numpy())


@pytest.mark.parametrize("case", ["modelopt-fp8", "modelopt-int8", "ct-int4", "gptq-4", "bnb-int8"])
def test_factors_count_in_every_scheme(case: str) -> None:
    """What goes into a layer is multiplied with them: the columns of the weight are."""
    tensors, config, metadata = opened(case)
    plain = find_weights(tensors, config, metadata)
    assert plain is not None
    name = next(name for name in plain.weights if "q_proj" in name)
    dense = plain.weights[name].dense.numpy()
    factors = np.linspace(0.5, 2, dense.shape[1], dtype=np.float32)
    label = f"{name.removesuffix('weight')}pre_quant_scale"
    found = find_weights({**tensors, label: from_array(factors)}, config, metadata)
    assert found is not None
    made = found.weights[name]
    assert label in made.parts
    assert made.packed is None
    same(name, made.dense.numpy(), dense.astype(np.float32) * factors)
    with pytest.raises(FormatError, match="does not fit"):
        find_weights({**tensors, label: from_array(factors[1:])}, config, metadata)


def test_scales_of_a_cache_are_told_and_dropped() -> None:
    tensors, config, metadata = opened("modelopt-fp8")
    more = {
        f"{STEM}{end}": from_array(np.array(0.5, np.float32)) for end in ("k_proj.k_scale", "v_proj.v_bias")
    }
    found = find_weights({**tensors, **more}, config, metadata)
    assert found is not None
    made = found.decode(tensors)
    assert more.keys() <= made.dropped.keys()
    assert not more.keys() & made.tensors.keys()


def test_an_algorithm_that_the_tensors_contradict_is_told() -> None:
    tensors, config, metadata = opened("modelopt-nvfp4")
    config["quantization_config"]["quant_algo"] = "FP8"
    found = find_weights(tensors, config, metadata)
    assert found is not None
    assert found.notes == ("the config says quant_algo FP8, and the tensors are float4: so read",)


def test_several_algorithms_in_one_model() -> None:
    fp8, config, _ = opened("modelopt-fp8")
    nvfp4, _, _ = opened("modelopt-nvfp4")
    tensors = {**fp8, **{name.replace("layers.0", "layers.1"): one for name, one in nvfp4.items()}}
    config["quantization_config"]["quant_algo"] = "MIXED_PRECISION"
    found = find_weights(tensors, config)
    assert found is not None
    assert not found.notes
    assert len(found.weights) == 4


def test_a_part_of_low_rank_is_refused() -> None:
    tensors, config, metadata = opened("modelopt-nvfp4")
    more = {f"{STEM}q_proj.svdquant_lora_a": from_array(np.ones((2, 64), np.float32))}
    with pytest.raises(FormatError, match="shows ModelOpt's SVDQuant, with a part of low rank"):
        find_weights({**tensors, **more}, config, metadata)
