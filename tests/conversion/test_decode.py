"""Quantized sources from the command's side: what is kept, what is decoded, what the config says then."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import wconv
from tests.making import write_directory
from tests.quantized.test_recognition import CASES, FIXTURES, same, weights_of
from wconv.cli.program import main
from wconv.errors import WconvError

SHAPES = {"hidden_size": 64, "num_hidden_layers": 1}


def copied(case: str, target: Path, **config: Any) -> Path:
    """A fixture as a model directory of its own, with a config changed."""
    target.mkdir()
    shutil.copy(weights_of(case), target)
    said = json.loads((FIXTURES / case / "config.json").read_text())
    said.update(config)
    (target / "config.json").write_text(json.dumps({k: v for k, v in said.items() if v is not None}))
    return target


def expected(case: str) -> wconv.Checkpoint:
    return wconv.open(FIXTURES / case / "expected.safetensors")


@pytest.mark.parametrize("case", CASES)
def test_dequantized_in_the_hubs_names(case: str, tmp_path: Path) -> None:
    source = copied(case, tmp_path / "m")
    (source / "hf_quant_config.json").write_text("{}")
    report = wconv.convert(source, tmp_path / "out", layout="hf", dequantize=True)
    result, wanted = wconv.open(report.output), expected(case)
    assert result.keys() == wanted.keys()
    for name, tensor in result.items():
        to = wanted[name].dtype if wanted[name].dtype.name != "float32" else tensor.dtype
        same(name, tensor.numpy(), wanted[name].cast(to).numpy())
    config = json.loads((report.output / "config.json").read_text())
    assert not {"quantization_config", "quantization"} & config.keys()
    assert not (report.output / "hf_quant_config.json").exists()
    assert any(re.match("1 weight of .* is decoded$|[^1].* are decoded$", note) for note in report.notes)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("case", CASES)
def test_a_cast_starts_from_what_the_library_computes(case: str, dtype: str, tmp_path: Path) -> None:
    report = wconv.convert(copied(case, tmp_path / "m"), tmp_path / "out", dtype=dtype, dequantize=True)
    names = {name for name, tensor in wconv.open(report.output).items() if tensor.dtype.name != dtype}
    assert not names


def test_auto_decodes_what_no_program_takes(tmp_path: Path) -> None:
    case = "gptq-4-order"
    report = wconv.convert(copied(case, tmp_path / "m"), tmp_path / "out")
    assert wconv.open(report.output).keys() == expected(case).keys()
    assert any("of a GPTQ checkpoint are decoded" in note for note in report.notes)


def test_without_dtype_the_hubs_copy_keeps_every_bit(tmp_path: Path) -> None:
    source = copied("gptq-4", tmp_path / "m")
    report = wconv.convert(source, tmp_path / "out", layout="hf")
    assert wconv.open(report.output).keys() == wconv.open(source).keys()
    assert "quantization_config" in json.loads((report.output / "config.json").read_text())


def test_the_plan_names_the_tensors_of_the_file(tmp_path: Path) -> None:
    source = copied("gptq-4", tmp_path / "m")
    plan = wconv.prepare(source, tmp_path / "out").plan_dict()
    stem = "model.layers.0.self_attn.q_proj."
    entry = next(one for one in plan[0]["tensors"] if one["name"] == f"{stem}weight")
    assert entry["from"] == [stem + end for end in ("qweight", "scales", "qzeros", "g_idx")]


def test_the_command_has_an_option(tmp_path: Path) -> None:
    from click.testing import CliRunner

    source = copied("ct-fp8", tmp_path / "m")
    result = CliRunner().invoke(main, [str(source), str(tmp_path / "out"), "-d", "--layout", "hf"])
    assert result.exit_code == 0, result.output
    assert wconv.open(tmp_path / "out").keys() == expected("ct-fp8").keys()


def test_scales_of_activations_are_told_and_dropped(tmp_path: Path) -> None:
    report = wconv.convert(copied("fp8-tensor", tmp_path / "m"), tmp_path / "out", dequantize=True)
    assert set(report.dropped) == {
        f"model.layers.0.self_attn.{one}.input_scale" for one in ("q_proj", "o_proj")
    }


def test_powers_of_two_are_kept_as_mxfp8(tmp_path: Path) -> None:
    source = copied("fp8-powers", tmp_path / "m", model_type="llama", **SHAPES)
    report = wconv.convert(source, tmp_path / "out")
    config = json.loads((report.output / "config.json").read_text())
    assert config["quantization"] == {"group_size": 32, "bits": 8, "mode": "mxfp8"}
    assert config["quantization_config"] == config["quantization"]
    result = wconv.open(report.output)
    assert result["model.layers.0.self_attn.q_proj.weight"].dtype.name == "uint32"
    again = wconv.convert(report.output, tmp_path / "dense", layout="hf", dequantize=True)
    for name, tensor in wconv.open(again.output).items():
        same(name, tensor.numpy(), expected("fp8-powers")[name].numpy())
    assert np.isfinite(wconv.open(again.output)["model.norm.weight"].numpy().astype(np.float32)).all()


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_zeros_that_stand_for_no_bias_are_dropped(value: float, tmp_path: Path) -> None:
    source = copied("gptq-4", tmp_path / "m")
    arrays = wconv.load(source / "model.safetensors")
    biases = {
        f"model.layers.0.self_attn.{one}.bias": np.full(length, value, np.float16)
        for one, length in (("q_proj", 64), ("o_proj", 32))
    }
    wconv.save({**arrays, **biases}, source / "model.safetensors")
    report = wconv.convert(source, tmp_path / "out")
    kept = wconv.open(report.output).keys() & biases.keys()
    assert kept == (set() if value == 0 else biases.keys())
    assert set(report.dropped) == biases.keys() - kept


def test_a_plan_can_be_sent_to_another_process(tmp_path: Path) -> None:
    for case in CASES:
        prepared = wconv.prepare(copied(case, tmp_path / case), tmp_path / "out", dequantize=True)
        for entry in pickle.loads(pickle.dumps(list(prepared.plan.entries))):
            assert entry.tensor.numpy().size


@pytest.mark.parametrize("model_type", ["nobody_knows", "qwen3"])
def test_a_dtype_decodes_blocks_of_fp8(model_type: str, tmp_path: Path) -> None:
    source = copied("fp8-blocks", tmp_path / "m", model_type=model_type)
    report = wconv.convert(source, tmp_path / "out", dtype="bfloat16")
    result = wconv.open(report.output)
    assert result.keys() == expected("fp8-blocks").keys()
    for name, tensor in result.items():
        same(name, tensor.numpy(), expected("fp8-blocks")[name].numpy())


@pytest.mark.parametrize("case", ["ct-nvfp4", "modelopt-nvfp4", "awq-gemv", "ct-mxfp4", "ct-fp8", "bnb-nf4"])
def test_mlx_lm_is_not_given_what_it_does_not_load(case: str, tmp_path: Path) -> None:
    source = copied(case, tmp_path / "m", model_type="llama", **SHAPES)
    report = wconv.convert(source, tmp_path / "out")
    names = wconv.open(report.output).keys()
    assert report.layout == "mlx-lm"
    assert all(name.endswith((".weight", ".scales")) for name in names)
    assert ("quantization" in json.loads((report.output / "config.json").read_text())) == (case == "ct-mxfp4")


def test_mlx_lm_is_given_what_it_loads(tmp_path: Path) -> None:
    for case in ("awq-gemm", "bitnet"):
        source = copied(case, tmp_path / case, model_type="llama", **SHAPES)
        report = wconv.convert(source, tmp_path / f"{case}-out")
        assert wconv.open(report.output).keys() == wconv.open(source).keys()


def test_an_adapter_is_merged_into_decoded_weights(tmp_path: Path) -> None:
    from tests.lora.test_kinds import pair, peft

    stem = "model.layers.0.self_attn.q_proj"
    adapter = peft(tmp_path / "peft", pair(stem, 64, 128))
    source = copied("gptq-4", tmp_path / "m")
    plain = copied("gptq-4", tmp_path / "plain")
    wconv.convert(plain, tmp_path / "dense", layout="hf", dequantize=True)
    wconv.convert(tmp_path / "dense", tmp_path / "one", layout="hf", merge_lora=[str(adapter)])
    wconv.convert(source, tmp_path / "other", layout="hf", merge_lora=[str(adapter)])
    one, other = wconv.open(tmp_path / "one"), wconv.open(tmp_path / "other")
    for name, tensor in one.items():
        same(name, tensor.numpy(), other[name].numpy())


def test_a_damaged_scale_leaves_no_output(tmp_path: Path) -> None:
    from click.testing import CliRunner

    source = copied("ct-fp8-channel", tmp_path / "m")
    arrays = wconv.load(source / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight_scale"
    arrays[name][7] = np.nan
    wconv.save(arrays, source / "model.safetensors")
    result = CliRunner().invoke(main, [str(source), str(tmp_path / "out"), "-d"])
    assert result.exit_code == 1
    assert result.output == f"wconv: {name} holds NaN where a scale should be: the file is damaged\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m"]


def test_scales_of_a_cache_and_of_plain_layers_are_dropped(tmp_path: Path) -> None:
    source = copied("fp8-tensor", tmp_path / "m")
    arrays = wconv.load(source / "model.safetensors")
    more = ("self_attn.k_scale", "self_attn.kv_scale", "mlp.gate.input_scale")
    names = {f"model.layers.0.{one}": np.ones((), np.float32) for one in more}
    wconv.save({**arrays, **names}, source / "model.safetensors")
    report = wconv.convert(source, tmp_path / "out", dequantize=True)
    assert names.keys() <= report.dropped.keys()
    assert wconv.open(report.output).keys() == expected("fp8-tensor").keys()


@pytest.mark.parametrize("case", ["awq-gemm", "bitnet"])
def test_mlx_vlm_is_not_given_what_only_mlx_lm_loads(case: str, tmp_path: Path) -> None:
    source = copied(case, tmp_path / "m", model_type="qwen2_5_vl", **SHAPES)
    report = wconv.convert(source, tmp_path / "out")
    assert report.layout == "mlx-vlm"
    assert all(name.endswith((".weight", ".scales", ".biases")) for name in wconv.open(report.output))


def test_experts_that_a_models_own_rules_name_stay_in_4_bits(tmp_path: Path) -> None:
    stems = [
        f"model.layers.0.mlp.experts.{at}.{one}_proj." for at in range(2) for one in ("gate", "up", "down")
    ]
    arrays: dict[str, Any] = {}
    for stem in stems:
        arrays[f"{stem}weight_packed"] = np.ones((64, 8), np.int32)
        arrays[f"{stem}weight_scale"] = np.full((64, 2), 0.37, np.float16)
        arrays[f"{stem}weight_shape"] = np.array([64, 64])
    settings = {"quant_method": "compressed-tensors", "format": "pack-quantized"}
    config = {"model_type": "deepseek_v3", "num_hidden_layers": 1, "n_routed_experts": 2}
    source = write_directory(tmp_path / "m", [arrays], {**config, "quantization_config": settings})
    result = wconv.open(wconv.convert(source, tmp_path / "out").output)
    assert result.keys() == arrays.keys()
    cast = wconv.open(wconv.convert(source, tmp_path / "cast", dtype="bfloat16").output)
    assert {tensor.dtype.name for tensor in cast.values()} == {"bfloat16"}


@pytest.mark.parametrize("method", ["gptq", "awq", "bitnet", "somebodys"])
def test_a_scheme_that_no_weight_is_in_is_no_longer_said(method: str, tmp_path: Path) -> None:
    said = {"quant_method": method, "bits": 4}
    weights = {"model.a.weight": np.ones((4, 64), np.float16), "model.b.bias": np.zeros(4, np.int32)}
    source = write_directory(tmp_path / "m", [weights], {"model_type": "x", "quantization_config": said})
    report = wconv.convert(source, tmp_path / "out")
    note = f"config.json said quant_method {method}, and no weight is stored so: it says that no longer"
    assert note in report.notes
    assert "quantization_config" not in json.loads((report.output / "config.json").read_text())
    copy = wconv.convert(source, tmp_path / "copy", layout="hf")
    assert f"config.json says quant_method {method}, and no weight is stored so" in copy.notes
    assert json.loads((copy.output / "config.json").read_text())["quantization_config"] == said


def test_a_scheme_of_weights_that_are_left_out_or_may_be_codes_is_still_said(tmp_path: Path) -> None:
    source = copied("gptq-4", tmp_path / "m")
    more = {"model.norm.weight": np.ones(4, np.float16), **load_file(source / "model.safetensors")}
    save_file(more, source / "model.safetensors")
    report = wconv.convert(source, tmp_path / "out", include="norm")
    assert "quantization_config" in json.loads((report.output / "config.json").read_text())
    codes = {"model.a.weight": np.ones((4, 64), np.uint8)}
    said = {"model_type": "x", "quantization_config": {"quant_method": "somebodys"}}
    odd = wconv.convert(write_directory(tmp_path / "odd", [codes], said), tmp_path / "odd-out")
    assert "quantization_config" in json.loads((odd.output / "config.json").read_text())


def test_codes_without_any_scale_are_named_where_they_should_be_decoded(tmp_path: Path) -> None:
    codes = {"model.a.weight": np.ones((4, 64), np.int8)}
    said = {"model_type": "x", "quantization_config": {"quant_method": "bitsandbytes"}}
    source = write_directory(tmp_path / "m", [codes], said)
    with pytest.raises(WconvError, match=r"model\.a\.weight is int8 without what it needs"):
        wconv.convert(source, tmp_path / "out", dequantize=True)
