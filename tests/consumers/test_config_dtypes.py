"""What the written config.json says of dtypes is what was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import wconv
from tests.conversion.test_components import pipeline
from tests.making import random, write_directory
from wconv.consumers.config_dtypes import corrected, note
from wconv.tensors import dtypes

NUMPY = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float64": np.float64}
SIZES = (2000, 20)


def convert(
    tmp_path: Path, config: dict[str, Any], main: str, minor: str | None = None, **arguments: Any
) -> tuple[dict[str, Any], str]:
    """The written config, and the summary."""
    shapes = {"a.weight": (SIZES[0], main), "b.weight": (SIZES[1], minor or main)}
    tensors = {name: random((size,), NUMPY[dtype]) for name, (size, dtype) in shapes.items()}
    tensors["steps"] = np.arange(9000)
    model = write_directory(tmp_path / "model", [tensors], {"model_type": "nobody_knows", **config})
    report = wconv.convert(model, tmp_path / "out", **arguments)
    return json.loads((tmp_path / "out" / "config.json").read_text()), "\n".join(report.lines())


@pytest.mark.parametrize("layout", ["auto", "hf"])
@pytest.mark.parametrize("field", ["torch_dtype", "dtype"])
def test_wider_weights_than_the_config_says_stay_and_the_config_is_corrected(
    field: str, layout: str, tmp_path: Path
) -> None:
    config, said = convert(tmp_path, {field: "bfloat16"}, "float32", layout=layout)
    assert {config[name] for name in ("torch_dtype", "dtype") if name in config} == {"float32"}
    assert "config.json said bfloat16 and says float32 now" in said
    assert "--dtype bfloat16 would halve them" in said
    assert wconv.load(tmp_path / "out")["a.weight"].dtype == np.float32


def test_narrower_weights_are_told_without_advice(tmp_path: Path) -> None:
    config, said = convert(tmp_path, {"torch_dtype": "float32"}, "bfloat16")
    assert config["torch_dtype"] == "bfloat16"
    assert "config.json said float32 and says bfloat16 now, as the weights are" in said
    assert "halve" not in said


@pytest.mark.parametrize("stated", ["float16", "torch.float16"])
def test_a_config_that_is_right_is_left_as_it_is(stated: str, tmp_path: Path) -> None:
    config, said = convert(tmp_path, {"torch_dtype": stated, "vocab_size": 3}, "float16")
    assert config["torch_dtype"] == stated
    assert "config.json said" not in said


@pytest.mark.parametrize("stated", ["auto", None, 3, "int8", "bfloat17"])
def test_what_names_no_dtype_of_weights_is_left_as_it_is(stated: Any, tmp_path: Path) -> None:
    config, said = convert(tmp_path, {"torch_dtype": stated}, "float32")
    assert config["torch_dtype"] == stated
    assert "config.json said" not in said


def test_a_config_without_a_dtype_gains_none(tmp_path: Path) -> None:
    config, _ = convert(tmp_path, {}, "float32")
    assert not {"torch_dtype", "dtype"} & config.keys()


def test_parts_are_corrected_too_unless_some_weights_are_what_they_say(tmp_path: Path) -> None:
    parts = {
        "dtype": "bfloat16",
        "text_config": {"dtype": "bfloat16", "audio_config": {"torch_dtype": "bfloat16"}},
        "vision_config": {"torch_dtype": "float16"},
        "decoder": {"model_type": "x", "torch_dtype": "bfloat16"},
        "quantization_config": {"dtype": "bfloat16"},
    }
    config, _ = convert(tmp_path, parts, "float32", "float16")
    assert config["dtype"] == config["text_config"]["dtype"] == "float32"
    assert config["text_config"]["audio_config"]["torch_dtype"] == "float32"
    assert config["decoder"]["torch_dtype"] == "float32"
    assert config["vision_config"]["torch_dtype"] == "float16"
    assert config["quantization_config"] == {"dtype": "bfloat16"}


def test_a_requested_dtype_is_said_everywhere(tmp_path: Path) -> None:
    parts = {"text_config": {"dtype": "bfloat16", "audio_config": {"dtype": "float32"}}}
    config, said = convert(tmp_path, parts, "float32", "float16", dtype="float16")
    assert config["torch_dtype"] == config["text_config"]["dtype"] == "float16"
    assert config["text_config"]["audio_config"]["dtype"] == "float16"
    assert "config.json said" not in said


def test_a_substitute_is_what_is_said(tmp_path: Path) -> None:
    config, _ = convert(tmp_path, {"torch_dtype": "float64"}, "float64")
    assert config["torch_dtype"] == "float32"


def test_most_elements_decide_and_fp8_does_not_count() -> None:
    f8, bf, single = (dtypes.by_name(name) for name in ("float8_e4m3fn", "bfloat16", "float32"))
    sizes = {f8: 10**6, bf: 100, single: 99, dtypes.by_name("uint32"): 10**7}
    assert corrected({"torch_dtype": "float32"}, sizes) == ({"torch_dtype": "bfloat16"}, "float32")
    assert corrected({"torch_dtype": "bfloat16"}, {f8: 5}) == ({"torch_dtype": "bfloat16"}, "")
    assert note("float16", {bf: 1}).endswith("says bfloat16 now, as the weights are")


def test_a_component_in_its_consumers_form_says_it_too(tmp_path: Path) -> None:
    source = pipeline(tmp_path / "flux")
    path = source / "text_encoder" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "torch_dtype": "float32", "x": 1}))
    out = wconv.convert(source, tmp_path / "out", layout="mflux").output
    written = json.loads((out / "text_encoder" / "config.json").read_text())
    assert (written["torch_dtype"], written["x"]) == ("bfloat16", 1)
    path.write_text(path.read_text().replace("float32", "bfloat16"))
    again = wconv.convert(source, tmp_path / "again", layout="mflux").output
    assert (again / "text_encoder" / "config.json").read_bytes() == path.read_bytes()
