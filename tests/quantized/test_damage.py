"""Damaged weights in schemes: one line that names the tensor, and nothing decoded."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from tests.quantized.test_recognition import CASES, opened
from wconv.errors import WconvError
from wconv.quantized.recognition import find_weights
from wconv.quantized.refused import REFUSED
from wconv.tensors import dtypes
from wconv.tensors.lazy import LazyTensor, from_array

Q = "q_proj."
OPTIONAL = (".g_idx", ".weight_format", ".comfy_quant", ".pre_quant_scale")
"""Parts without which a weight is whole."""


def arrays(case: str) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, Any]]:
    tensors, config, metadata = opened(case)
    return {name: tensor.numpy() for name, tensor in tensors.items()}, config, metadata


def decode(made: dict[str, np.ndarray], config: dict[str, Any], metadata: dict[str, Any]) -> Any:
    scheme = find_weights({name: from_array(one) for name, one in made.items()}, config, metadata)
    assert scheme is not None
    dense = scheme.decode({name: from_array(one) for name, one in made.items()})
    return {name: tensor.numpy() for name, tensor in dense.tensors.items()}


LOOSE = ("fp8-", "ct-fp8", "comfy", "bitnet", "deepseek", "modelopt-fp8", "ct-int8-tensor")
"""Whose weights may have any number of rows under the same scales."""


def refused(made: dict[str, np.ndarray], config: dict[str, Any], metadata: dict[str, Any], name: str) -> str:
    with pytest.raises(WconvError) as caught:
        decode(made, config, metadata)
    text = str(caught.value)
    assert "\n" not in text
    assert name.rpartition(".")[0] in text or name in text
    return text


def parts_of(case: str) -> list[str]:
    scheme = find_weights(*opened(case))
    assert scheme is not None
    return [part for one in scheme.weights.values() for part in one.parts if Q in part or "down" in part]


BOTH = [(case, part) for case in CASES for part in parts_of(case)]


@pytest.mark.parametrize(("case", "part"), BOTH)
def test_a_missing_part(case: str, part: str) -> None:
    made, config, metadata = arrays(case)
    if part.endswith(OPTIONAL):
        return
    del made[part]
    refused(made, config, metadata, part)


@pytest.mark.parametrize(("case", "part"), BOTH)
def test_a_part_that_is_cut(case: str, part: str) -> None:
    made, config, metadata = arrays(case)
    if case.startswith(LOOSE) and part.endswith(".weight") and "channel" not in case:
        return
    if made[part].ndim == 0 or made[part].size == 1:
        made[part] = np.concatenate((made[part].reshape(-1), made[part].reshape(-1)))
    else:
        made[part] = made[part][:-1]
    refused(made, config, metadata, part)


@pytest.mark.parametrize(("case", "part"), BOTH)
def test_an_empty_part(case: str, part: str) -> None:
    made, config, metadata = arrays(case)
    made[part] = np.empty((0, *made[part].shape[1:]), made[part].dtype)
    refused(made, config, metadata, part)


SCALED = [
    (case, part)
    for case, part in BOTH
    if part.endswith(("scale", "scales", "_scale_inv", "SCB", "absmax", "scale_2", "scale_weight"))
]


def with_value(case: str, part: str, change: Callable[[np.ndarray], None]) -> bool:
    """Decodes with one scale changed; False where its dtype has no such value."""
    made, config, metadata = arrays(case)
    made[part] = made[part].copy().reshape(-1) if made[part].ndim == 0 else made[part].copy()
    shape = arrays(case)[0][part].shape
    before = made[part].copy()
    change(made[part])
    made[part] = made[part].reshape(shape)
    if np.array_equal(before.view(np.uint8), made[part].reshape(before.shape).view(np.uint8)):
        return False
    refused(made, config, metadata, part)
    return True


@pytest.mark.parametrize(("case", "part"), SCALED)
def test_nan_among_scales(case: str, part: str) -> None:
    def change(scales: np.ndarray) -> None:
        if scales.dtype == np.uint8:
            if "absmax" not in part:
                scales.reshape(-1)[0] = 255
        else:
            scales.reshape(-1)[0] = np.nan

    with_value(case, part, change)


FLOATS = ("fp8", "ct-fp8", "ct-nvfp4", "comfy", "modelopt-fp8", "modelopt-nvfp4", "modelopt-w4a8", "bnb")


@pytest.mark.parametrize(("case", "part"), [(case, part) for case, part in SCALED if case.startswith(FLOATS)])
def test_a_negative_scale(case: str, part: str) -> None:
    def change(scales: np.ndarray) -> None:
        if scales.dtype != np.uint8 and scales.dtype.name != "float8_e8m0fnu":
            scales.reshape(-1)[0] = -1

    with_value(case, part, change)


GROUPS = "model.layers.0.self_attn.q_proj.g_idx"


@pytest.mark.parametrize("group", [-1, 4, 1 << 30])
def test_a_group_that_is_not_there(group: int) -> None:
    made, config, metadata = arrays("gptq-4-order")
    made[GROUPS] = made[GROUPS].copy()
    made[GROUPS][5] = group
    assert "g_idx" in refused(made, config, metadata, GROUPS)


def test_groups_of_other_sizes() -> None:
    made, config, metadata = arrays("gptq-4-order")
    made[GROUPS] = np.zeros_like(made[GROUPS])
    assert "no permutation" in refused(made, config, metadata, GROUPS)


def test_a_code_beyond_the_table() -> None:
    made, config, metadata = arrays("bitnet")
    name = "model.layers.0.self_attn.q_proj.weight"
    made[name] = made[name].copy()
    made[name][3, 3] = 255
    assert "beyond the largest" in refused(made, config, metadata, name)


@pytest.mark.parametrize(
    "said",
    ["", "{", "[1]", '{"shape": [64, -1]}', '{"shape": [1000000000, 64], "blocksize": 64}', "[" * 9999],
)
def test_a_state_that_says_nothing(said: str) -> None:
    made, config, metadata = arrays("bnb-nf4")
    name = "model.layers.0.self_attn.q_proj.weight.quant_state.bitsandbytes__nf4"
    made[name] = np.frombuffer(said.encode() or b" ", np.uint8)
    refused(made, config, metadata, name)


def test_a_block_of_no_length() -> None:
    made, config, metadata = arrays("bnb-nf4")
    name = "model.layers.0.self_attn.q_proj.weight.quant_state.bitsandbytes__nf4"
    said = json.loads(made[name].tobytes())
    for change in ({"blocksize": 0}, {"nested_blocksize": 0}, {"nested_offset": "x"}, {"dtype": "int8"}):
        made[name] = np.frombuffer(json.dumps({**said, **change}).encode(), np.uint8)
        refused(made, config, metadata, name)


@pytest.mark.parametrize("shape", [[64, 127], [0, 128], [-64, 128], [1 << 40, 128], [64, 1 << 40]])
def test_another_shape_than_the_codes_have(shape: list[int]) -> None:
    made, config, metadata = arrays("ct-int4")
    name = "model.layers.0.self_attn.q_proj.weight_shape"
    made[name] = np.array(shape)
    if shape == [64, 127]:
        return  # padded codes of 127 columns, were the scales a row's
    refused(made, config, metadata, name)


@pytest.mark.parametrize("scheme", REFUSED, ids=lambda one: one.title)
def test_what_is_not_decoded_is_named(scheme: Any) -> None:
    for sign in scheme.signs:
        name = f"model.layers.0.mlp.up_proj{sign}"
        config = {"quantization_config": {"quant_method": scheme.methods[0]}}
        with pytest.raises(WconvError, match="not decoded") as caught:
            find_weights({name: from_array(np.zeros((4, 4), np.int16))}, config)
        assert str(caught.value).startswith(f"{name} shows {scheme.title}")


def test_a_config_that_contradicts_the_tensors_is_told() -> None:
    made, config, metadata = arrays("gptq-4")
    config = {"quantization_config": {"quant_method": "awq", "bits": 4}}
    scheme = find_weights({name: from_array(one) for name, one in made.items()}, config, metadata)
    assert scheme is not None
    assert scheme.notes == ("the config says quant_method awq, and the tensors are gptq: so read",)


def test_zeros_that_contradict_the_config_are_told() -> None:
    made, config, metadata = arrays("gptq-4-second-symmetric")
    config["quantization_config"]["checkpoint_format"] = "gptq"
    scheme = find_weights({name: from_array(one) for name, one in made.items()}, config, metadata)
    assert scheme is not None
    assert len(scheme.notes) == 1
    assert "checkpoint_format gptq" in scheme.notes[0]


def test_rows_without_an_end_take_no_memory() -> None:
    columns = 1 << 26
    scale = from_array(np.ones((1, 1), np.float32))
    weight = Wide(dtypes.by_name("float8_e4m3fn"), (1, columns))
    with pytest.raises(WconvError, match=r"a\.weight has rows of 67,108,864 elements"):
        find_weights({"a.weight": weight, "a.weight_scale_inv": scale}, {})


@dataclass(frozen=True, slots=True, eq=False)
class Wide(LazyTensor):
    """A tensor of any size that must not be read."""

    dtype: dtypes.DType
    shape: tuple[int, ...]

    def read_into(self, start: int, stop: int, out: Any) -> None:
        raise AssertionError


def test_groups_in_any_order_of_compressed_tensors() -> None:
    made, config, metadata = arrays("ct-int4-zeros")
    stem = "model.layers.0.self_attn.q_proj."
    groups = np.random.default_rng(0).permutation(np.arange(128, dtype=np.int32) // 32)
    made[f"{stem}weight_g_idx"] = groups
    found = decode(made, config, metadata)[f"{stem}weight"].astype(np.float32)
    words = made[f"{stem}weight_packed"].view(np.uint32)
    codes = (words[:, :, None] >> (np.arange(8, dtype=np.uint32) * 4) & 15).reshape(64, 128)
    packed = made[f"{stem}weight_zero_point"].view(np.uint32)
    zeros = (packed[:, None] >> (np.arange(8, dtype=np.uint32) * 4)[:, None] & 15).reshape(64, 4)
    scales = made[f"{stem}weight_scale"]
    whole = (codes.astype(np.float32) - zeros[:, groups]) * scales.astype(np.float32)[:, groups]
    assert np.array_equal(found, whole.astype(scales.dtype).astype(np.float32))
    made[f"{stem}weight_g_idx"] = np.full(128, -1, np.int32)
    plain, _, _ = arrays("ct-int4-zeros")
    assert np.array_equal(
        decode(made, config, metadata)[f"{stem}weight"], decode(plain, config, metadata)[f"{stem}weight"]
    )


def test_a_weight_that_stands_there_twice() -> None:
    made, config, metadata = arrays("gptq-4")
    made["model.layers.0.self_attn.q_proj.weight"] = np.zeros((64, 128), np.float16)
    assert "both dense and in" in refused(made, config, metadata, "model.layers.0.self_attn.q_proj.weight")


def test_svdquants_words_are_not_taken_for_gptqs() -> None:
    made = {"a.qweight": np.zeros((8, 8), np.int8), "a.wscales": np.zeros((1, 8), np.float16)}
    with pytest.raises(WconvError, match=r"a\.wscales shows an SVDQuant checkpoint"):
        find_weights({name: from_array(one) for name, one in made.items()}, {})
