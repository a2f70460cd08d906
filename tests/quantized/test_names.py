"""Weights with scales of their own keep them and their bytes, or are refused by their scheme's name.

Covers `quantized/schemes.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import wconv
from tests.making import bits, write_directory
from wconv.consumers.mlx.schemes import LANGUAGE
from wconv.errors import WconvError
from wconv.quantized.names import recognise
from wconv.quantized.schemes import ENDINGS, PARTS, SCHEMES, STATE
from wconv.tensors.lazy import from_array

Q = "model.layers.0.self_attn.q_proj"
E = "model.layers.0.mlp.experts"
E4M3, E5M2, BF16 = ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.bfloat16


def of(module: str, **parts: tuple[tuple[int, ...], Any]) -> dict[str, Any]:
    """Tensors of a module by the ends of their names, `__` for a dot."""
    return {f"{module}.{end.replace('__', '.')}": np.ones(*of_it) for end, of_it in parts.items()}


I32, F16, F32, U8 = np.int32, np.float16, np.float32, np.uint8
STORED: dict[str, tuple[dict[str, Any], str]] = {
    "gptq": (
        of(Q, qweight=((8, 64), I32), qzeros=((1, 8), I32), scales=((1, 64), F16), g_idx=((64,), I32)),
        "a GPTQ checkpoint",
    ),
    "gptq without g_idx": (
        of(Q, qweight=((8, 64), I32), qzeros=((1, 8), I32), scales=((1, 64), F16)),
        "a GPTQ checkpoint",
    ),
    "awq": (of(Q, qweight=((64, 8), I32), qzeros=((1, 8), I32), scales=((1, 64), F16)), "an AWQ checkpoint"),
    "comfyui": (
        {**of(Q, weight=((4, 4), E4M3), scale_weight=((), F32)), "scaled_fp8": np.zeros(2, E4M3)},
        "a scaled FP8 checkpoint of ComfyUI",
    ),
    "comfyui in e5m2": (
        of(Q, weight=((4, 4), E5M2), scale_weight=((), F32)),
        "a scaled FP8 checkpoint of ComfyUI",
    ),
    "comfy_quant": (
        of(Q, weight=((4, 4), E4M3), weight_scale=((), F32), comfy_quant=((20,), U8)),
        "a checkpoint of ComfyUI (comfy_quant)",
    ),
    "fp8": (
        of(Q, weight=((4, 4), E4M3), weight_scale=((4, 1), F32), input_scale=((), F32)),
        "an FP8 checkpoint",
    ),
    "fp8 blocks": (
        of(Q, weight=((4, 4), E4M3), weight_scale_inv=((1, 1), F32)),
        "an FP8 checkpoint with scales of blocks",
    ),
    "nvfp4": (
        of(Q, weight=((4, 2), U8), weight_scale=((4, 1), E4M3), weight_scale_2=((), F32)),
        "an NVFP4 checkpoint",
    ),
    "bitsandbytes in 8 bits": (
        of(Q, weight=((4, 4), np.int8), SCB=((4,), F32), weight_format=((), U8)),
        "a bitsandbytes checkpoint (8 bits)",
    ),
    "bitsandbytes in 4 bits": (
        of(
            Q,
            weight=((8, 1), U8),
            weight__absmax=((4,), U8),
            weight__quant_map=((16,), F32),
            weight__nested_absmax=((1,), F32),
            weight__quant_state__bitsandbytes__nf4=((9,), U8),
        ),
        "a bitsandbytes checkpoint (4 bits)",
    ),
    "compressed-tensors": (
        of(Q, weight_packed=((4, 1), I32), weight_scale=((4, 1), BF16), weight_shape=((2,), np.int64)),
        "a compressed-tensors checkpoint (pack-quantized)",
    ),
    "int8": (of(Q, weight=((4, 4), np.int8), weight_scale=((4, 1), BF16)), "an INT8 checkpoint"),
    "mxfp4": (
        {
            f"{E}.down_proj_blocks": np.ones((2, 4, 1, 16), U8),
            f"{E}.down_proj_scales": np.ones((2, 4, 1), U8),
        },
        "an MXFP4 checkpoint",
    ),
    "mlx": (
        of(Q, weight=((64, 8), np.uint32), scales=((64, 1), BF16), biases=((64, 1), BF16)),
        "a model that is quantized for MLX",
    ),
    "svdquant": (
        of(Q, qweight=((64, 8), np.int8), wscales=((1, 64), BF16), smooth_factor=((64,), BF16)),
        "an SVDQuant checkpoint (Nunchaku)",
    ),
    "quanto": (
        of(Q, weight___data=((4, 4), np.int8), weight___scale=((4, 1), BF16)),
        "a Quanto checkpoint",
    ),
    "hqq": (of(Q, W_q=((4, 4), U8), scale=((4, 1), F16), zero=((4, 1), F16)), "an HQQ checkpoint"),
    "any other": (
        of(Q, weight=((4, 4), U8), scale=((4, 1), F16)),
        "a checkpoint of weights that have scales",
    ),
}


def lazy(arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {name: from_array(array) for name, array in arrays.items()}


@pytest.mark.parametrize("case", STORED)
def test_a_scheme_is_told_by_names_dtypes_and_shapes(case: str) -> None:
    arrays, title = STORED[case]
    found = recognise(lazy({**arrays, "model.norm.weight": np.ones(4, F32)}))
    assert found is not None
    assert found.scheme.title.startswith(title)
    assert found.members <= arrays.keys()
    assert arrays.keys() <= found.members


@pytest.mark.parametrize("case", STORED)
def test_without_dtype_the_hubs_names_keep_every_bit(case: str, tmp_path: Path) -> None:
    arrays, _ = STORED[case]
    report = wconv.convert(write_directory(tmp_path / "m", [arrays]), tmp_path / "out", layout="hf")
    result = wconv.open(report.output)
    assert {name: bits(one.numpy()) for name, one in result.items()} == {
        name: bits(one) for name, one in arrays.items()
    }
    assert {name: one.dtype.name for name, one in result.items()} == {
        name: from_array(one).dtype.name for name, one in arrays.items()
    }


def test_a_copy_keeps_weights_without_scales_too(tmp_path: Path) -> None:
    arrays = {**STORED["comfyui"][0], "plain.weight": np.ones((4, 4), E4M3)}
    report = wconv.convert(write_directory(tmp_path / "m", [arrays]), tmp_path / "out", layout="hf")
    result = wconv.open(report.output)
    assert {name: bits(one.numpy()) for name, one in result.items()} == {
        name: bits(one) for name, one in arrays.items()
    }


KEPT = ("mxfp4", "fp8 blocks")
"""Of which nothing is cast: the scales are whole numbers, or keep their dtype."""

DECODED = ("gptq without g_idx", "awq", "comfyui", "comfyui in e5m2", "fp8", "int8")
"""Whose tensors fit together; the others are named only."""


@pytest.mark.parametrize("case", [case for case in STORED if case not in KEPT])
def test_scales_are_not_cast_while_their_weights_stay(case: str, tmp_path: Path) -> None:
    arrays, _ = STORED[case]
    source = write_directory(tmp_path / "m", [arrays])
    narrow = "float16" if any(one.dtype == BF16 for one in arrays.values()) else "bfloat16"
    if case in DECODED:
        result = wconv.open(wconv.convert(source, tmp_path / "out", layout="hf", dtype=narrow).output)
        assert {one.dtype.name for one in result.values()} == {narrow}
        assert all(name.endswith(".weight") for name in result)
        return
    with pytest.raises(WconvError) as caught:
        wconv.convert(source, tmp_path / "out", layout="hf", dtype=narrow)
    assert Q in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("case", KEPT)
def test_what_is_not_cast_does_not_refuse_the_others(case: str, tmp_path: Path) -> None:
    arrays, _ = STORED[case]
    source = write_directory(tmp_path / "m", [{**arrays, "model.norm.weight": np.ones(4, F32)}])
    result = wconv.open(wconv.convert(source, tmp_path / "out", layout="hf", dtype="float16").output)
    assert result["model.norm.weight"].dtype.name == "float16"
    assert all(bits(result[name].numpy()) == bits(array) for name, array in arrays.items())


@pytest.mark.parametrize("model_type", [None, "llama"])
@pytest.mark.parametrize("case", STORED)
def test_what_a_consumer_does_not_take_is_decoded_or_refused(
    case: str, model_type: str | None, tmp_path: Path
) -> None:
    arrays, title = STORED[case]
    found = recognise(lazy(arrays))
    source = write_directory(tmp_path / "m", [arrays], {"model_type": model_type} if model_type else None)
    if found is not None and found.scheme.name in LANGUAGE:
        return
    if case in DECODED:
        result = wconv.open(wconv.convert(source, tmp_path / "out").output)
        assert {one.dtype.name for one in result.values()} <= {"float16", "bfloat16", "uint32"}
        return
    with pytest.raises(WconvError) as caught:
        wconv.convert(source, tmp_path / "out")
    assert Q in str(caught.value)
    if title in str(caught.value):
        assert "copy this one unchanged with --layout hf and without" in str(caught.value)


@pytest.mark.parametrize("case", STORED)
def test_scales_cannot_be_left_out_of_their_weights(case: str, tmp_path: Path) -> None:
    arrays, _ = STORED[case]
    found = recognise(lazy(arrays))
    assert found is not None
    for name, weight in found.weights.items():
        if name == weight:
            continue
        with pytest.raises(WconvError, match="means nothing: leave out both or none"):
            wconv.convert(
                write_directory(tmp_path / name, [arrays]), tmp_path / "out", layout="hf", exclude=f"{name}$"
            )


AWQ = {"quant_method": "awq", "bits": 4, "group_size": 64}


def test_what_the_consumer_takes_passes_unchanged(tmp_path: Path) -> None:
    arrays, _ = STORED["awq"]
    config = {"model_type": "llama", "tie_word_embeddings": True, "quantization_config": AWQ}
    source = write_directory(tmp_path / "m", [{**arrays, "model.norm.weight": np.ones(4, F16)}], config)
    report = wconv.convert(source, tmp_path / "out")
    assert report.layout == "mlx-lm"
    result = wconv.open(report.output)
    assert all(bits(result[name].numpy()) == bits(array) for name, array in arrays.items())
    cast = wconv.open(wconv.convert(source, tmp_path / "cast", dtype="bfloat16").output)
    assert {one.dtype.name for one in cast.values()} == {"bfloat16"}


def test_a_model_quantized_for_mlx_passes_unchanged(tmp_path: Path) -> None:
    arrays, _ = STORED["mlx"]
    config = {"model_type": "qwen3", "quantization": {"bits": 4, "group_size": 64}}
    source = write_directory(tmp_path / "m", [{**arrays, "model.norm.weight": np.ones(4, BF16)}], config)
    result = wconv.open(wconv.convert(source, tmp_path / "out").output)
    assert all(bits(result[name].numpy()) == bits(array) for name, array in arrays.items())


def test_the_config_names_the_scheme() -> None:
    arrays, _ = STORED["awq"]
    said = {"quantization_config": {"quant_method": "gptq"}}
    assert recognise(lazy(arrays), said).scheme.name == "gptq"  # type: ignore[union-attr]
    nested = {"text_config": {"quantization_config": {"quant_method": "compressed-tensors", "format": "x"}}}
    assert recognise(lazy(arrays), nested).scheme.name == "compressed-tensors"  # type: ignore[union-attr]


def test_modelopts_own_file_names_the_scheme(tmp_path: Path) -> None:
    arrays = of(Q, weight=((4, 8), U8), weight_scale=((4, 1), E4M3), weight_scale_2=((), F32))
    config = {"model_type": "llama", "tie_word_embeddings": True}
    source = write_directory(tmp_path / "m", [arrays], config)
    how = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "W4A8_AWQ"}}
    (source / "hf_quant_config.json").write_text(json.dumps(how))
    told = wconv.convert(source, tmp_path / "told").notes
    assert "the config says quant_algo W4A8_AWQ, and the tensors are float4: so read" in told
    how["quantization"] = {"quant_algo": "NVFP4"}
    (source / "hf_quant_config.json").write_text(json.dumps(how))
    report = wconv.convert(source, tmp_path / "out")
    made = json.loads((report.output / "config.json").read_text())
    assert made.keys() == {
        *config,
        "quantization",
        "quantization_config",
    }  # with a second scale of one, MLX's nvfp4 holds all
    assert not (report.output / "hf_quant_config.json").exists()


def test_rules_do_not_take_a_weight_apart_from_its_scales(tmp_path: Path) -> None:
    module = "model.layers.0.self_attn.kv_b_proj"
    arrays = of(module, weight=((8, 8), U8), weight_scale=((8, 1), E4M3), weight_scale_2=((), F32))
    config = {
        "model_type": "deepseek_v3",
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "kv_lora_rank": 16,
        "qk_nope_head_dim": 2,
        "v_head_dim": 2,
        "quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"},
    }
    result = wconv.open(
        wconv.convert(write_directory(tmp_path / "m", [arrays], config), tmp_path / "out").output
    )
    assert {name: (one.dtype.name, one.shape) for name, one in result.items()} == {
        "model.layers.0.self_attn.embed_q.weight": ("bfloat16", (2, 16, 2)),
        "model.layers.0.self_attn.unembed_out.weight": ("uint32", (2, 2, 2)),
        "model.layers.0.self_attn.unembed_out.scales": ("uint8", (2, 2, 1)),
    }


PLAIN = {
    "norm.scale": np.ones(4, F32),
    "logit_scale": np.ones((), F32),
    "a.weight": np.ones((4, 4), BF16),
    "a.weight_scale": np.ones((4, 1), BF16),
    "a.scale": np.ones((4, 1), BF16),
    "b.biases": np.ones(4, BF16),
    "down_blocks": np.ones(4, BF16),
    "residual_scales": np.ones(4, BF16),
    "c.weight": np.ones((4, 4), E4M3),
}


def test_other_names_with_scale_in_them_are_plain(tmp_path: Path) -> None:
    assert recognise(lazy(PLAIN)) is None
    result = wconv.open(wconv.convert(write_directory(tmp_path / "m", [PLAIN]), dtype="float16").output)
    assert {one.dtype.name for one in result.values()} == {"float16"}


def test_many_unknown_names_are_another_model_and_few_are_strays(tmp_path: Path) -> None:
    layers = {f"model.layers.{at}.input_layernorm.weight": np.ones(4, F32) for at in range(12)}
    config = {"model_type": "llama"}
    for count, advice in ((1, "leave them out with --exclude"), (5, "write rules of your own")):
        strays = {f"model.stray.{at}": np.ones(4, F32) for at in range(count)}
        source = write_directory(tmp_path / str(count), [{**layers, **strays}], config)
        with pytest.raises(WconvError, match=advice) as caught:
            wconv.convert(source, tmp_path / "out")
        assert "--layout hf" in str(caught.value)
        assert ("--exclude" in str(caught.value)) == (count == 1)
    scaled = {**layers, "model.layers.0.mlp.up_proj.input_scale": np.ones((), F32)}
    with pytest.raises(WconvError, match=r"input_scale .*--layout hf") as caught:
        wconv.convert(write_directory(tmp_path / "scaled", [scaled], config), tmp_path / "out")
    assert "--exclude" not in str(caught.value)


def test_a_model_quantized_for_mlx_is_not_told_to_go_back(tmp_path: Path) -> None:
    module = "model.layers.0.mlp.experts.0.up_proj"
    parts = {"weight": ((64, 8), np.uint32), "scales": ((64, 1), BF16), "biases": ((64, 1), BF16)}
    config = {"model_type": "llama", "quantization": {"bits": 4, "group_size": 64}}
    source = write_directory(tmp_path / "m", [of(module, **parts)], config)
    with pytest.raises(WconvError, match=r"is quantized for MLX.*: add -d"):
        wconv.convert(source, tmp_path / "out")


def test_rules_of_ones_own_need_not_name_the_model(tmp_path: Path) -> None:
    source = write_directory(tmp_path / "m", [{"a.weight": np.ones(4, F32), "stray": np.ones(4, F32)}])
    rules = tmp_path / "rules.toml"
    rules.write_text('names = ["c.weight"]\n[[rules]]\nrename = "a.weight"\nto = "c.weight"\n')
    with pytest.raises(WconvError, match="mlx knows no such tensors in this model: stray"):
        wconv.convert(source, tmp_path / "out", rules=rules)


ODD: tuple[dict[str, Any], ...] = (
    {"quantization_config": {"quant_method": "fp8", "weight_block_size": 5}},
    {"quantization_config": {"quant_method": ["gptq"], "format": {}}},
    {"quantization_config": [1], "text_config": 3, "quantization": 0},
)


@pytest.mark.parametrize("config", ODD)
def test_odd_settings_are_no_crash(config: dict[str, Any], tmp_path: Path) -> None:
    arrays, _ = STORED["gptq"]
    assert recognise(lazy(arrays), config) is not None
    source = write_directory(tmp_path / "m", [arrays], config)
    wconv.convert(source, tmp_path / "out", layout="hf")


def test_the_table_of_spellings_is_sound() -> None:
    assert len({scheme.name for scheme in SCHEMES}) == len(SCHEMES)
    methods = [method for scheme in SCHEMES for method in scheme.methods]
    assert len(set(methods)) == len(methods)
    assert {sign for scheme in SCHEMES for sign in scheme.signs} <= {*ENDINGS, STATE}
    assert all(part.weights or part.certain for part in PARTS)
    assert {scheme.name for scheme in SCHEMES} >= LANGUAGE
