"""Weights that stay in few bits through a layout: what is written, what config.json and the report say.

Covers `conversion/pack.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from tests.making import write_directory
from wconv.tensors import dtypes

CONFIG = {
    "model_type": "qwen3_moe",
    "hidden_size": 64,
    "num_hidden_layers": 1,
    "num_experts": 3,
    "vocab_size": 96,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
SAYS = {"quant_method": "compressed-tensors", "format": "pack-quantized"}
LAYER = "model.layers.0"
BF16 = dtypes.by_name("bfloat16").numpy


def integers(
    stem: str, rows: int, columns: int, seed: int, *, bits: int = 4, size: int = 32
) -> dict[str, Any]:
    """compressed-tensors' packing, with scales that are powers of two."""
    random = np.random.default_rng(seed)
    scales = np.exp2(random.integers(-6, -2, (rows, columns // size)).astype(np.float32)).astype(BF16)
    return {
        f"{stem}.weight_packed": random.integers(-(1 << 31), 1 << 31, (rows, columns * bits // 32)).astype(
            "i4"
        ),
        f"{stem}.weight_scale": scales,
        f"{stem}.weight_shape": np.array([rows, columns]),
    }


def model(directory: Path, **changes: Any) -> Path:
    """A layer of three experts, packed; the query's projection in 8 bits, the value's in groups of 128."""
    arrays: dict[str, Any] = {
        "model.embed_tokens.weight": np.ones((96, 64), BF16),
        "lm_head.weight": np.ones((96, 64), BF16),
        "model.norm.weight": np.ones(64, BF16),
        f"{LAYER}.mlp.gate.weight": np.ones((3, 64), BF16),
    }
    for expert in range(3):
        for at, (name, rows, columns) in enumerate(
            (("gate", 32, 64), ("up", 32, 64), ("down", 64, 32)),
        ):
            arrays |= integers(f"{LAYER}.mlp.experts.{expert}.{name}_proj", rows, columns, 3 * expert + at)
    arrays |= integers(f"{LAYER}.self_attn.q_proj", 64, 64, 10, bits=8)
    arrays |= integers(f"{LAYER}.self_attn.k_proj", 32, 64, 11)
    arrays |= changes.pop("arrays", {})
    return write_directory(directory, [arrays], {**CONFIG, "quantization_config": SAYS, **changes})


ENDS = ("weight", "scales", "biases")
SWITCH = f"{LAYER}.mlp.switch_mlp"


def test_experts_are_stacked_packed(tmp_path: Path) -> None:
    source = model(tmp_path / "m")
    report = wconv.convert(source, tmp_path / "out")
    assert report.layout == "mlx-lm"
    made = wconv.open(report.output)
    assert {name: (one.dtype.name, one.shape) for name, one in made.items() if "switch" in name} == {
        f"{SWITCH}.{name}_proj.{end}": (dtype, (3, rows, columns // per))
        for name, rows, columns in (("gate", 32, 64), ("up", 32, 64), ("down", 64, 32))
        for end, dtype, per in (
            ("weight", "uint32", 8),
            ("scales", "bfloat16", 32),
            ("biases", "bfloat16", 32),
        )
    }
    config = json.loads((report.output / "config.json").read_text())
    most = {"group_size": 32, "bits": 4, "mode": "affine"}
    assert config["quantization"] == {**most, f"{LAYER}.self_attn.q_proj": {**most, "bits": 8}}
    assert config["quantization_config"] == config["quantization"]
    assert report.notes == (
        "5 weights of a compressed-tensors checkpoint are kept as MLX's affine of 4 bits in groups of 32 (4)"
        " and affine of 8 bits in groups of 32 (1), which hold every value",
    )
    assert report.dtypes == {"bfloat16": 4}
    dense = wconv.open(wconv.convert(source, tmp_path / "dense", dequantize=True).output)
    again = wconv.open(wconv.convert(report.output, tmp_path / "again", dequantize=True).output)
    assert again.keys() == dense.keys()
    for name, tensor in dense.items():
        assert again[name].numpy().tobytes() == tensor.numpy().tobytes(), name


def test_the_plan_names_the_parts_in_the_file(tmp_path: Path) -> None:
    plan = wconv.prepare(model(tmp_path / "m"), tmp_path / "out").plan_dict()
    found = {entry["name"]: entry["from"] for entry in plan[0]["tensors"]}
    wanted = tuple(
        f"{LAYER}.mlp.experts.{expert}.up_proj.weight_{end}"
        for expert in range(3)
        for end in ("packed", "scale", "shape")
    )
    assert {tuple(found[f"{SWITCH}.up_proj.{end}"]) for end in ENDS} == {wanted}


def odd_scales(rows: int, columns: int) -> Any:
    return np.random.default_rng(0).random((rows, columns), np.float32).astype(BF16)


def test_what_no_form_holds_is_decoded_and_told(tmp_path: Path) -> None:
    other = {
        f"{LAYER}.mlp.experts.1.up_proj.weight_scale": odd_scales(32, 2),
        f"{LAYER}.self_attn.k_proj.weight_scale": odd_scales(32, 2),
    }
    report = wconv.convert(model(tmp_path / "m", arrays=other), tmp_path / "out")
    made = wconv.open(report.output)
    assert made[f"{SWITCH}.up_proj.weight"].dtype.name == "bfloat16"
    assert f"{SWITCH}.up_proj.scales" not in made
    assert made[f"{SWITCH}.gate_proj.weight"].dtype.name == "uint32"
    assert report.notes[1:] == (
        f"2 weights of a compressed-tensors checkpoint are decoded ({SWITCH}.up_proj.weight and 1 more):"
        " no form of MLX's holds every value",
    )


def test_what_the_consumer_has_no_quantized_form_of_is_decoded(tmp_path: Path) -> None:
    """mlx-lm's gate of this model is a bare matrix."""
    config = {"model_type": "deepseek_v2", "n_routed_experts": 3, "num_experts": None}
    gate = integers(f"{LAYER}.mlp.gate", 32, 64, 20)
    source = model(tmp_path / "m", arrays=gate, **config)
    (source / "model.safetensors").rename(source / "x.safetensors")
    arrays = wconv.load(source / "x.safetensors")
    (source / "x.safetensors").unlink()
    del arrays[f"{LAYER}.mlp.gate.weight"]
    wconv.save(arrays, source / "model.safetensors")
    report = wconv.convert(source, tmp_path / "out")
    assert wconv.open(report.output)[f"{LAYER}.mlp.gate.weight"].dtype.name == "bfloat16"
    assert any(
        f"({LAYER}.mlp.gate.weight): mlx-lm has no quantized form of it" in note for note in report.notes
    )


def test_without_a_config_all_is_decoded(tmp_path: Path) -> None:
    report = wconv.convert(model(tmp_path / "m"), tmp_path / "out.safetensors")
    assert {tensor.dtype.name for tensor in wconv.open(report.output).values()} == {"bfloat16"}
    assert any("are decoded" in note for note in report.notes)


def test_arrays_are_what_is_written(tmp_path: Path) -> None:
    core = pytest.importorskip("mlx.core")
    source = model(tmp_path / "m")
    written = wconv.open(wconv.convert(source, tmp_path / "out").output)
    arrays = wconv.load_mlx(source, layout="auto")
    assert arrays.keys() == written.keys()
    assert arrays[f"{SWITCH}.up_proj.weight"].dtype == core.uint32
    dense = wconv.load_mlx(source, layout="auto", dequantize=True)
    assert dense[f"{SWITCH}.up_proj.weight"].dtype == core.bfloat16
    stem = f"{SWITCH}.up_proj"
    made = core.dequantize(*(arrays[f"{stem}.{end}"] for end in ENDS), group_size=32, bits=4)
    assert core.array_equal(made, dense[f"{stem}.weight"])


def test_a_scale_that_is_none_is_refused_packed_too(tmp_path: Path) -> None:
    """MXFP4's 255 is NaN: no value of it is written, in whatever form."""
    name = f"{LAYER}.self_attn.v_proj.weight"
    random = np.random.default_rng(0)
    scales = np.full((32, 2), 120, np.uint8)
    arrays = {
        f"{name}_packed": random.integers(0, 256, (32, 32), dtype=np.uint8),
        f"{name}_scale": scales,
    }
    report = wconv.convert(model(tmp_path / "m", arrays=arrays), tmp_path / "out")
    assert f"{LAYER}.self_attn.v_proj.scales" in wconv.open(report.output)
    scales[3, 1] = 255
    source = model(tmp_path / "n", arrays=arrays)
    with pytest.raises(wconv.WconvError, match=r"v_proj\.weight_scale holds NaN where a scale should be"):
        wconv.convert(source, tmp_path / "bad")
    assert not (tmp_path / "bad").exists()
