"""What `-d` makes of MLX's own quantized models, as the programs' own converters make it.

`tests/oracle/test_dequantized_directories.py` compares with these.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import wconv
from tests.cli.running import run
from tests.conversion.test_quantize import H, llama
from tests.making import random, write_file
from wconv.consumers.quantization import Quantize
from wconv.tensors.dequantize import dequantize
from wconv.tensors.quantize import Quantization, quantize

DTYPES: dict[str, Any] = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32}
NAME = "model.layers.0.self_attn.q_proj"


def change_config(path: Path, **fields: Any) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, **fields}))


def decoded(path: Path, dtype: str, how: Quantization) -> bytes:
    """The weight's values, scales and biases cast first, as mlx-lm does."""
    held = wconv.load(path)
    scales, biases = (
        np.asarray(held[f"{NAME}.{part}"]).astype(DTYPES[dtype]) for part in ("scales", "biases")
    )
    return dequantize(held[f"{NAME}.weight"], scales, biases, how, np.dtype(DTYPES[dtype])).tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_scales_are_cast_first(dtype: str, tmp_path: Path) -> None:
    wconv.convert(llama(tmp_path / "m"), tmp_path / "q", quantize=Quantize())
    wconv.convert(tmp_path / "q", tmp_path / "d", dequantize=True, dtype=dtype)
    got = wconv.load(tmp_path / "d")
    assert {array.dtype.name for array in got.values()} == {dtype}
    assert got[f"{NAME}.weight"].tobytes() == decoded(tmp_path / "q", dtype, Quantization.of())
    late = np.frombuffer(decoded(tmp_path / "q", "bfloat16", Quantization.of()), ml_dtypes.bfloat16)
    assert (got[f"{NAME}.weight"].tobytes() == late.astype(DTYPES[dtype]).tobytes()) is (dtype == "bfloat16")


@pytest.mark.parametrize(
    ("fields", "dtype"),
    [
        ({"torch_dtype": "bfloat16"}, "bfloat16"),
        ({"torch_dtype": None, "text_config": {"dtype": "float32"}}, "float32"),
        ({"torch_dtype": None}, "float16"),
        ({"torch_dtype": "auto"}, "float16"),
        ({"torch_dtype": ["bfloat16"]}, "float16"),
        ({"torch_dtype": None, "text_config": 7}, "float16"),
    ],
)
def test_the_config_says_the_dtype_unless_the_user_does(
    fields: dict[str, Any], dtype: str, tmp_path: Path
) -> None:
    wconv.convert(llama(tmp_path / "m"), tmp_path / "q", quantize=Quantize(), dtype="float16")
    change_config(tmp_path / "q", **fields)
    report = wconv.convert(tmp_path / "q", tmp_path / "d", dequantize=True)
    assert {array.dtype.name for array in wconv.load(tmp_path / "d").values()} == {dtype}
    assert sum(report.dtypes.values()) == report.tensors_written
    wconv.convert(tmp_path / "q", tmp_path / "as-asked", dequantize=True, dtype="float16")
    assert {array.dtype.name for array in wconv.load(tmp_path / "as-asked").values()} == {"float16"}


def test_null_group_sizes_of_mixed_recipes_are_the_default(tmp_path: Path) -> None:
    report = wconv.convert(llama(tmp_path / "m"), tmp_path / "q", quantize=Quantize(predicate="mixed_2_6"))
    assert report.quantization is not None
    assert len(report.quantization.weights) == 2
    wconv.convert(tmp_path / "q", tmp_path / "d", dequantize=True)
    config = json.loads((tmp_path / "q" / "config.json").read_text())["quantization"]
    nulled = {
        name: {**entry, "group_size": None} if isinstance(entry, dict) else entry
        for name, entry in config.items()
    }
    change_config(tmp_path / "q", quantization=nulled, quantization_config=nulled)
    wconv.convert(tmp_path / "q", tmp_path / "again", dequantize=True)
    one, other = (tmp_path / name / "model.safetensors" for name in ("d", "again"))
    assert one.read_bytes() == other.read_bytes()


def adapter(path: Path) -> Path:
    key = f"base_model.model.{NAME}"
    tensors = {
        f"{key}.lora_A.weight": random((4, H), np.float32, seed=1),
        f"{key}.lora_B.weight": random((H, 4), np.float32, seed=2),
    }
    return write_file(path, tensors)


def test_an_adapter_is_merged_in_float32_before_the_weight_is_quantized(tmp_path: Path) -> None:
    source, lora = llama(tmp_path / "m"), adapter(tmp_path / "lora.safetensors")
    wconv.convert(source, tmp_path / "q", merge_lora=[str(lora)], quantize=Quantize())
    base, delta, held = wconv.load(source), wconv.load(lora), wconv.load(tmp_path / "q")
    down, up = (delta[f"base_model.model.{NAME}.lora_{part}.weight"] for part in "AB")
    exact = base[f"{NAME}.weight"].astype(np.float32) + up @ down
    merged = exact.astype(ml_dtypes.bfloat16)
    mx = pytest.importorskip("mlx.core")
    array = mx.array(merged.view(np.uint16)).view(mx.bfloat16)
    codes, scales, biases = mx.quantize(array, group_size=64, bits=4, stream=mx.cpu)
    assert np.array_equal(held[f"{NAME}.weight"], np.array(codes))
    for part, expected in (("scales", scales), ("biases", biases)):
        assert (
            held[f"{NAME}.{part}"].view(np.uint16).tobytes() == np.array(expected.view(mx.uint16)).tobytes()
        )
    assert quantize(merged, Quantization.of()).codes.tobytes() == held[f"{NAME}.weight"].tobytes()


def test_an_adapter_for_a_quantized_model_asks_how(tmp_path: Path) -> None:
    wconv.convert(llama(tmp_path / "m"), tmp_path / "q", quantize=Quantize())
    words = (tmp_path / "q", tmp_path / "o", "--merge-lora", adapter(tmp_path / "lora.safetensors"))
    refused = run(*words)
    assert refused.exit_code == 1
    assert "is quantized for MLX, and adapters are merged into dense weights: add -d" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not (tmp_path / "o").exists()
    assert run(*words, "-d").exit_code == 0
    assert f"{NAME}.scales" not in wconv.load(tmp_path / "o")
    anew = run(*words, "-q", "--overwrite")
    assert "loses a second time" in anew.stdout
    assert f"{NAME}.scales" in wconv.load(tmp_path / "o")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--layout", "hf"), "add -d (dequantize=True) to make it dense first"),
        (("--format", "pt"), "add -d (dequantize=True) to make it dense first"),
        (("--dtype", "float16"), "or add -d (dequantize=True)"),
    ],
)
def test_what_needs_dense_weights_asks_for_them(words: tuple[str, ...], text: str, tmp_path: Path) -> None:
    wconv.convert(llama(tmp_path / "m"), tmp_path / "q", quantize=Quantize())
    refused = run(tmp_path / "q", "-o", tmp_path / "o", *words)
    assert refused.exit_code == 1
    assert text in refused.stderr
    assert not (tmp_path / "o").exists()
    assert run(tmp_path / "q", "-o", tmp_path / "o", *words, "-d").exit_code == 0


@pytest.mark.parametrize(
    "recipe", [Quantize(bits=8), Quantize("mxfp4"), Quantize("nvfp4"), Quantize(bits=2, group_size=32)]
)
def test_another_recipe_goes_through_the_dense_values_and_says_so(recipe: Quantize, tmp_path: Path) -> None:
    wconv.convert(llama(tmp_path / "m"), tmp_path / "q", quantize=Quantize())
    report = wconv.convert(tmp_path / "q", tmp_path / "anew", quantize=recipe)
    assert any("loses a second time" in line for line in report.lines())
    wconv.convert(tmp_path / "q", tmp_path / "d", dequantize=True)
    wconv.convert(tmp_path / "d", tmp_path / "by-hand", quantize=recipe)
    one, other = (tmp_path / name / "model.safetensors" for name in ("anew", "by-hand"))
    assert one.read_bytes() == other.read_bytes()
