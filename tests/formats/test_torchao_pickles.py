"""Tensors in classes of torchao's, as pickles hold them. Covers `formats/torch/subclasses.py`.

And `quantized/described.py`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from wconv.errors import FormatError
from wconv.formats.torch import subclasses
from wconv.formats.torch.objects import Global, LostTensor, Record
from wconv.quantized import described

FIXTURES = Path(__file__).parents[2] / "fixtures" / "quantized"
PICKLE = FIXTURES / "torchao-pickle" / "pytorch_model.bin"


def wrapped(kind: str, module: str = "torchao.quantization", **attributes: Any) -> Record:
    rebuild = Global("torch._utils", "_rebuild_wrapper_subclass")
    made = Record(rebuild, (Global(module, kind), Global("torch", "bfloat16"), (2, 4), (4, 1), 0))
    made.state = attributes
    return made


def test_the_parts_have_the_names_that_torchao_gives_them_in_safetensors() -> None:
    names = wconv.open(PICKLE).keys()
    assert {name for name in names if "q_proj" in name} == {
        f"model.layers.0.q_proj._weight_{end}" for end in ("qdata", "scale", "zero_point")
    }


def test_what_is_said_is_what_torchao_says_in_safetensors() -> None:
    said = json.loads(wconv.open(PICKLE).metadata["model.layers.0.up_proj.weight"])
    header = json.loads(
        wconv.open(FIXTURES / "torchao-float8" / "model.safetensors").metadata["q_proj.weight"]
    )
    assert said["_type"] == header["_type"] == "Float8Tensor"
    assert said["_tensor_data_names"] == header["_tensor_data_names"]
    assert said["_data"]["dtype"] == header["_data"]["dtype"]
    assert said["_data"]["block_size"] == [1, 64]


def test_tensors_within_tensors() -> None:
    leaf = LostTensor("")
    inner = wrapped("PlainAQTTensorImpl", "torchao.dtypes", int_data=leaf, scale=leaf)
    outer = wrapped("AffineQuantizedTensor", "torchao.dtypes", tensor_impl=inner, block_size=(1, 4))
    assert [name for name, _ in subclasses.parts_of(outer)] == ["tensor_impl_int_data", "tensor_impl_scale"]
    said = json.loads(subclasses.description(outer))["_data"]
    assert said["tensor_impl"]["_tensor_data_names"] == ["int_data", "scale"]
    assert said["block_size"] == [1, 4]


def test_a_tensor_within_itself_ends() -> None:
    """However often it is: each way down would else be gone in every order."""
    leaf = LostTensor("")
    one = wrapped("Int8Tensor", qdata=leaf, scale=leaf)
    one.state |= {f"within{at}": one for at in range(50)}
    one.state["loop"] = loop = [one]
    loop.append(loop)
    assert len(list(subclasses.parts_of(one))) == 2
    assert len(subclasses.description(one)) < 10_000


def test_numbers_beyond_all_measure_are_no_settings() -> None:
    one = wrapped("Int8Tensor", qdata=LostTensor(""), block_size=10**5000, reduce_range=float("nan"))
    assert json.loads(subclasses.description(one))["_data"]["block_size"] is None


def test_names_of_attributes_are_names() -> None:
    leaf = LostTensor("")
    one = wrapped("Kind", **{"a.b": leaf, "": leaf, "qdata": leaf})
    assert [name for name, _ in subclasses.parts_of(one)] == ["qdata"]


@pytest.mark.parametrize("module", ["torch.testing", "mine", "torchaos.kinds"])
def test_no_other_module_is_known(module: str) -> None:
    leaf = LostTensor("")
    assert subclasses.is_described(wrapped("Float8Tensor", qdata=leaf, scale=leaf))
    assert not subclasses.is_described(wrapped("Float8Tensor", module, qdata=leaf, scale=leaf))


def test_another_class_of_the_same_name_is_not_known() -> None:
    """torchao.float8's own divides by its scale."""
    leaf = LostTensor("")
    assert not subclasses.is_described(wrapped("Float8Tensor", "torchao.float8", _data=leaf, _scale=leaf))


def test_a_class_that_is_not_decoded_is_named() -> None:
    metadata = {
        "a.weight": json.dumps({"_type": "UintxTensor", "_data": {}, "_tensor_data_names": ["shard"]})
    }
    from wconv.quantized.recognition import find_weights
    from wconv.tensors.lazy import from_array

    with pytest.raises(FormatError, match=r"a\.weight is torchao's UintxTensor, which is not decoded"):
        find_weights({"a._weight_shard": from_array(np.zeros(4, np.uint8))}, {}, metadata)


def test_what_was_taken_apart_is_always_decoded(tmp_path: Path) -> None:
    """No program reads such parts without torchao's header."""
    report = wconv.convert(PICKLE, tmp_path / "out", layout="hf")
    names = wconv.open(report.output).keys()
    assert "model.layers.0.q_proj.weight" in names
    assert not any(described.MARK in name for name in names)


def test_an_index_lists_the_whole_tensors(tmp_path: Path) -> None:
    shutil.copy(PICKLE, tmp_path / "pytorch_model-00001-of-00001.bin")
    layers = ("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj")
    names = [*(f"model.layers.0.{layer}.weight" for layer in layers), "model.norm.weight"]
    index = {"weight_map": dict.fromkeys(names, "pytorch_model-00001-of-00001.bin")}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    opened = wconv.open(tmp_path)
    assert not any("index" in note for note in opened.notes)
    index["weight_map"]["model.other.weight"] = "pytorch_model-00001-of-00001.bin"
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(FormatError, match=r"model\.other\.weight is missing"):
        wconv.open(tmp_path)


def test_a_copy_of_torchaos_safetensors_keeps_every_byte(tmp_path: Path) -> None:
    """Also of float8 codes, which are no weights by themselves."""
    source = FIXTURES / "torchao-mx" / "model.safetensors"
    made = wconv.open(wconv.convert(source, tmp_path / "out", layout="hf").output)
    wanted = wconv.open(source)
    assert made.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert made[name].dtype is tensor.dtype, name
        assert made[name].numpy().tobytes() == tensor.numpy().tobytes(), name
