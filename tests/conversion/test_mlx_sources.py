"""MLX's own quantized directories as sources: looked at, copied, decoded, merged into, laid back.

Covers `conversion/decode.py` and `examine/inspect.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import wconv
from tests.conversion.test_pack import LAYER, SWITCH, model, odd_scales
from wconv.examine.inspect import lines, to_dict

Q = f"{LAYER}.self_attn.q_proj"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Experts and projections of 4 and of 8 bits."""
    wconv.convert(model(tmp_path / "hub"), tmp_path / "mlx")
    return tmp_path / "mlx"


def test_inspect_names_the_scheme(source: Path, tmp_path: Path) -> None:
    said = list(lines(wconv.open(source)))
    what = "  quantization: a model that is quantized for MLX: 5 weights in few bits (read from config.json)"
    assert what in said
    told = to_dict(wconv.open(tmp_path / "hub"))["quantized"]
    assert told == {
        "scheme": "compressed-tensors",
        "title": "a compressed-tensors checkpoint",
        "weights": 11,
    }
    assert to_dict(wconv.open(source))["quantized"]["scheme"] == "mlx"


def test_inspect_tells_what_is_damaged_and_goes_on(tmp_path: Path) -> None:
    wconv.save({"a.qweight": np.zeros((2, 2), np.int32)}, tmp_path / "x.safetensors")
    opened = wconv.open(tmp_path / "x.safetensors")
    damage = "a.qweight has no a.scales, without which it means nothing: download the file again"
    assert f"  quantization: {damage} (inferred from its tensors' names)" in lines(opened)
    wconv.save({"a.weight": np.zeros((2, 2), np.float32)}, tmp_path / "y.safetensors")
    assert to_dict(wconv.open(tmp_path / "y.safetensors"))["quantized"] is None


def test_a_copy_keeps_all(source: Path, tmp_path: Path) -> None:
    report = wconv.convert(source, tmp_path / "again")
    one, other = wconv.open(source), wconv.open(report.output)
    assert one.keys() == other.keys()
    assert all(tensor.numpy().tobytes() == other[name].numpy().tobytes() for name, tensor in one.items())
    configs = [json.loads((path / "config.json").read_text()) for path in (source, report.output)]
    assert configs[0]["quantization"] == configs[1]["quantization"]


def test_the_way_back_decodes_and_takes_the_stacks_apart(source: Path, tmp_path: Path) -> None:
    back = wconv.open(wconv.convert(source, tmp_path / "back", layout="hf", dequantize=True).output)
    hub = wconv.convert(tmp_path / "hub", tmp_path / "dense", layout="hf", dequantize=True)
    wanted = wconv.open(hub.output)
    assert back.keys() == wanted.keys()
    assert all(back[name].numpy().tobytes() == tensor.numpy().tobytes() for name, tensor in wanted.items())
    assert "quantization" not in json.loads((tmp_path / "back" / "config.json").read_text())
    with pytest.raises(wconv.WconvError, match="add -d"):
        wconv.convert(source, tmp_path / "packed", layout="hf")


def adapter(directory: Path) -> Path:
    directory.mkdir()
    random = np.random.default_rng(0)
    name = f"base_model.model.{Q}"
    pair = {
        f"{name}.lora_A.weight": random.standard_normal((2, 64), np.float32),
        f"{name}.lora_B.weight": random.standard_normal((64, 2), np.float32),
    }
    wconv.save(pair, directory / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q_proj"]}
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return directory


@pytest.mark.parametrize("of", ["mlx", "hub"])
def test_an_adapter_is_merged_into_the_decoded_weights(of: str, source: Path, tmp_path: Path) -> None:
    lora = str(adapter(tmp_path / "lora"))
    if of == "mlx":
        with pytest.raises(wconv.WconvError, match="add -d"):
            wconv.convert(source, tmp_path / "merged", merge_lora=[lora])
    report = wconv.convert(tmp_path / of, tmp_path / "merged", merge_lora=[lora], dequantize=of == "mlx")
    dense = wconv.convert(source, tmp_path / "dense", dequantize=True)
    wanted = wconv.convert(dense.output, tmp_path / "wanted", merge_lora=[lora])
    one, other = wconv.open(report.output), wconv.open(wanted.output)
    assert one.keys() == other.keys()
    assert all(one[name].numpy().tobytes() == tensor.numpy().tobytes() for name, tensor in other.items())
    assert "merged lora: 1 layer, scale 1" in report.notes
    assert "quantization" not in json.loads((report.output / "config.json").read_text())
    assert any("are decoded" in note for note in report.notes)


def test_what_was_decoded_in_part_is_read_again(tmp_path: Path) -> None:
    """Packed and dense weights in one directory, as `convert` leaves them."""
    other = {f"{LAYER}.self_attn.k_proj.weight_scale": odd_scales(32, 2)}
    report = wconv.convert(model(tmp_path / "m", arrays=other), tmp_path / "out")
    made = wconv.open(report.output)
    assert {f"{SWITCH}.up_proj.scales", f"{LAYER}.self_attn.k_proj.weight"} <= made.keys()
    assert f"{LAYER}.self_attn.k_proj.scales" not in made
    again = wconv.open(wconv.convert(report.output, tmp_path / "again", dequantize=True).output)
    whole = wconv.open(wconv.convert(tmp_path / "m", tmp_path / "dense", dequantize=True).output)
    assert again.keys() == whole.keys()
    assert all(again[name].numpy().tobytes() == tensor.numpy().tobytes() for name, tensor in whole.items())
