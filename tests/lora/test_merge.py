"""An adapter, however it is spelled, adds `scale · B @ A` to its weight, in float32 and rounded once.

Covers `lora/deltas.py`, `lora/pieces.py`, `lora/steps.py`, `lora/scales.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file

import wconv
from tests.making import bits, random, write_file
from wconv.cli.program import main
from wconv.errors import WconvError

Q = "transformer_blocks.0.attn.to_q"
RANK = 2


def grid(shape: tuple[int, ...], seed: int, dtype: Any = np.float32) -> Any:
    """Small whole numbers, whose sums are exact in float32 in whatever order they are made."""
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(dtype)


def merged(tmp_path: Path, base: Mapping[str, Any], *loras: str, **arguments: Any) -> dict[str, Any]:
    write_file(tmp_path / "model.safetensors", base)
    target = tmp_path / "out.safetensors"
    wconv.convert(tmp_path / "model.safetensors", target, merge_lora=loras, **arguments)
    return dict(load_file(target))


def base() -> dict[str, Any]:
    return {f"{Q}.weight": random((6, 8)), "other.weight": random((3, 3), seed=5)}


def expected(weight: Any, *terms: Any, dtype: Any = None) -> Any:
    total = weight.astype(np.float32)
    for term in terms:
        total = total + np.asarray(term, np.float32)
    return total.astype(dtype or weight.dtype)


DOWN, UP = grid((RANK, 8), 1), grid((6, RANK), 2)
FLAT = Q.replace(".", "_")
SPELLINGS: dict[str, tuple[str, str]] = {
    "PEFT": (f"base_model.model.{Q}.lora_A.weight", f"base_model.model.{Q}.lora_B.weight"),
    "PEFT in memory": (f"{Q}.lora_A.default.weight", f"{Q}.lora_B.default.weight"),
    "diffusers": (f"transformer.{Q}.lora_A.weight", f"transformer.{Q}.lora_B.weight"),
    "diffusers, older": (f"unet.{Q}.lora.down.weight", f"unet.{Q}.lora.up.weight"),
    "diffusers, text encoders": (f"{Q}.lora_linear_layer.down.weight", f"{Q}.lora_linear_layer.up.weight"),
    "diffusers, in processors": (
        "transformer_blocks.0.attn.processor.to_q_lora.down.weight",
        "transformer_blocks.0.attn.processor.to_q_lora.up.weight",
    ),
    "kohya": (f"lora_unet_{FLAT}.lora_down.weight", f"lora_unet_{FLAT}.lora_up.weight"),
    "ComfyUI": (f"diffusion_model.{Q}.lora_A", f"diffusion_model.{Q}.lora_B"),
    "ComfyUI, up and down": (f"diffusion_model.{Q}.lora_down.weight", f"diffusion_model.{Q}.lora_up.weight"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_is_merged(spelling: str, tmp_path: Path) -> None:
    down, up = SPELLINGS[spelling]
    lora = write_file(tmp_path / "lora.safetensors", {down: DOWN, up: UP})
    before = base()
    after = merged(tmp_path, before, str(lora))
    assert bits(after[f"{Q}.weight"]) == bits(expected(before[f"{Q}.weight"], UP @ DOWN))
    assert bits(after["other.weight"]) == bits(before["other.weight"])


def test_mlx_lm_adapters_are_merged_with_the_scale_of_their_config(tmp_path: Path) -> None:
    directory = tmp_path / "adapters"
    directory.mkdir()
    write_file(directory / "adapters.safetensors", {f"{Q}.lora_a": DOWN.T.copy(), f"{Q}.lora_b": UP.T.copy()})
    config = {"fine_tune_type": "lora", "num_layers": 1, "lora_parameters": {"rank": RANK, "scale": 4.0}}
    (directory / "adapter_config.json").write_text(json.dumps(config))
    before = base()
    after = merged(tmp_path, before, str(directory))
    assert bits(after[f"{Q}.weight"]) == bits(expected(before[f"{Q}.weight"], 4 * (UP @ DOWN)))


@pytest.mark.parametrize(
    ("more", "metadata", "scale"),
    [
        ({f"transformer.{Q}.alpha": np.array(4, np.float32)}, {}, 2),
        ({f"transformer.{Q}.alpha": np.array([1], np.float16)}, {}, 0.5),
        ({}, {"transformer.lora_alpha": 8, "transformer.r": RANK}, 4),
        ({}, {"lora_alpha": 8}, 4),
        ({}, {"lora_alpha": 8, "alpha_pattern": {"attn.to_q": 2}}, 1),
        ({f"transformer.{Q}.alpha": np.array(4, np.float32)}, {"lora_alpha": 8}, 2),
        ({}, None, 1),
    ],
)
def test_alpha_is_divided_by_the_rank(
    more: dict[str, Any], metadata: dict[str, Any] | None, scale: float, tmp_path: Path
) -> None:
    tensors = {f"transformer.{Q}.lora_A.weight": DOWN, f"transformer.{Q}.lora_B.weight": UP, **more}
    strings = {"lora_adapter_metadata": json.dumps(metadata)} if metadata else None
    lora = write_file(tmp_path / "lora.safetensors", tensors, strings)
    before = base()
    after = merged(tmp_path, before, str(lora))
    assert bits(after[f"{Q}.weight"]) == bits(expected(before[f"{Q}.weight"], scale * (UP @ DOWN)))


def test_rank_stabilised_scale_divides_by_the_root(tmp_path: Path) -> None:
    down, up = grid((4, 8), 1), grid((6, 4), 2)
    (tmp_path / "peft").mkdir()
    tensors = {f"base_model.model.{Q}.lora_A.weight": down, f"base_model.model.{Q}.lora_B.weight": up}
    write_file(tmp_path / "peft" / "adapter_model.safetensors", tensors)
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 6, "use_rslora": True}
    (tmp_path / "peft" / "adapter_config.json").write_text(json.dumps(config))
    before = base()
    after = merged(tmp_path, before, str(tmp_path / "peft"))
    assert bits(after[f"{Q}.weight"]) == bits(expected(before[f"{Q}.weight"], 3 * (up @ down)))


def test_several_adapters_are_rounded_once_together(tmp_path: Path) -> None:
    weight = {f"{Q}.weight": np.full((1, 1), 256, ml_dtypes.bfloat16)}
    one = np.ones((1, 1), np.float32)
    lora = write_file(tmp_path / "lora.safetensors", {f"{Q}.lora_A.weight": one, f"{Q}.lora_B.weight": one})
    # half a step of bfloat16 at 256: added one by one, each would be rounded away
    after = merged(tmp_path, weight, f"{lora}:0.75", f"{lora}:0.75")
    assert after[f"{Q}.weight"] == 258


def test_a_cast_is_the_only_rounding(tmp_path: Path) -> None:
    weight = {f"{Q}.weight": np.full((1, 1), 256, ml_dtypes.bfloat16)}
    one = np.ones((1, 1), np.float32)
    lora = write_file(tmp_path / "lora.safetensors", {f"{Q}.lora_A.weight": one, f"{Q}.lora_B.weight": one})
    after = merged(tmp_path, weight, f"{lora}:0.5", dtype="float16")
    assert bits(after[f"{Q}.weight"]) == bits(np.full((1, 1), 256.5, np.float16))


def test_a_convolution_is_merged(tmp_path: Path) -> None:
    before = {"conv_in.weight": random((6, 4, 3, 3)), "skip.weight": random((6, 4))}
    down, up = grid((RANK, 4, 3, 3), 3), grid((6, RANK, 1, 1), 4)
    narrow = grid((RANK, 4, 1, 1), 5)
    lora = write_file(
        tmp_path / "lora.safetensors",
        {
            "lora_unet_conv_in.lora_down.weight": down,
            "lora_unet_conv_in.lora_up.weight": up,
            "lora_unet_skip.lora_down.weight": narrow,
            "lora_unet_skip.lora_up.weight": up,
        },
    )
    after = merged(tmp_path, before, str(lora))
    delta = np.einsum("orxy,rihw->oihw", up, down)
    assert bits(after["conv_in.weight"]) == bits(expected(before["conv_in.weight"], delta))
    delta = up[:, :, 0, 0] @ narrow[:, :, 0, 0]
    assert bits(after["skip.weight"]) == bits(expected(before["skip.weight"], delta))


def test_whole_differences_are_added(tmp_path: Path) -> None:
    before = {"norm.weight": random((5,)), "norm.bias": random((5,), seed=1)}
    lora = write_file(
        tmp_path / "lora.safetensors",
        {
            "diffusion_model.norm.diff": grid((5,), 1),
            "diffusion_model.norm.diff_b": grid((5,), 2),
            f"diffusion_model.{Q}.lora_A.weight": DOWN,
            f"diffusion_model.{Q}.lora_B.weight": UP,
        },
    )
    after = merged(tmp_path, {**before, **base()}, f"{lora}:2")
    assert bits(after["norm.weight"]) == bits(expected(before["norm.weight"], 2 * grid((5,), 1)))
    assert bits(after["norm.bias"]) == bits(expected(before["norm.bias"], 2 * grid((5,), 2)))


@pytest.mark.parametrize("ending", ["lora_magnitude_vector", "dora_scale"])
def test_a_dora_sets_the_length_of_each_row(ending: str, tmp_path: Path) -> None:
    weight = random((6, 8), np.float32)
    lengths = np.arange(1, 7, dtype=np.float32)
    lora = write_file(
        tmp_path / "lora.safetensors",
        {
            f"{Q}.lora_A.weight": DOWN,
            f"{Q}.lora_B.weight": UP,
            f"{Q}.{ending}": lengths if ending != "dora_scale" else lengths.reshape(6, 1),
        },
    )
    after = merged(tmp_path, {f"{Q}.weight": weight}, str(lora))[f"{Q}.weight"]
    total = (weight + UP @ DOWN).astype(np.float64)
    wanted = total / np.linalg.norm(total, axis=1, keepdims=True) * lengths[:, None]
    np.testing.assert_allclose(after, wanted, rtol=1e-6)
    with pytest.raises(WconvError, match="scale must be 1"):
        merged(tmp_path, {f"{Q}.weight": weight}, f"{lora}:0.5", overwrite=True)


def test_an_embedding_is_merged(tmp_path: Path) -> None:
    before = {"embed_tokens.weight": random((10, 6))}
    down, up = grid((RANK, 10), 1), grid((6, RANK), 2)
    tensors = {"embed_tokens.lora_embedding_A": down, "embed_tokens.lora_embedding_B": up}
    lora = write_file(tmp_path / "lora.safetensors", tensors)
    after = merged(tmp_path, before, str(lora))
    assert bits(after["embed_tokens.weight"]) == bits(expected(before["embed_tokens.weight"], (up @ down).T))


HIDDEN = 4


def other_names() -> tuple[dict[str, Any], dict[str, Any]]:
    """A small FLUX.1 transformer's layers as Black Forest Labs and as diffusers name them."""
    fused, wide = random((3 * HIDDEN, HIDDEN)), random((7 * HIDDEN, HIDDEN), seed=1)
    final = random((2 * HIDDEN, HIDDEN), seed=2)
    theirs = {
        "double_blocks.1.img_attn.qkv.weight": fused,
        "single_blocks.0.linear1.weight": wide,
        "final_layer.adaLN_modulation.1.weight": final,
    }
    ours = {
        **{
            f"transformer_blocks.1.attn.{name}.weight": part
            for name, part in zip(("to_q", "to_k", "to_v"), np.split(fused, 3), strict=True)
        },
        **{
            f"single_transformer_blocks.0.attn.{name}.weight": part
            for name, part in zip(("to_q", "to_k", "to_v"), np.split(wide[: 3 * HIDDEN], 3), strict=True)
        },
        "single_transformer_blocks.0.proj_mlp.weight": wide[3 * HIDDEN :],
        "norm_out.linear.weight": np.concatenate([final[HIDDEN:], final[:HIDDEN]]),
    }
    return theirs, {name: np.ascontiguousarray(array) for name, array in ours.items()}


def adapter_of(weights: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An adapter for each weight; `name` says how it is called, with dots or without."""
    made: dict[str, Any] = {}
    for at, (key, weight) in enumerate(weights.items()):
        module = key.removesuffix(".weight")
        module = name.format(module.replace(".", "_") if name.startswith("lora_") else module)
        made[f"{module}.lora_up.weight"] = grid((weight.shape[0], RANK), at)
        made[f"{module}.lora_down.weight"] = grid((RANK, weight.shape[1]), at + 100)
    return made


@pytest.mark.parametrize("name", ["lora_unet_{}", "diffusion_model.{}", "{}"])
def test_black_forest_labs_names_fit_diffusers_weights(name: str, tmp_path: Path) -> None:
    theirs, ours = other_names()
    lora = write_file(tmp_path / "lora.safetensors", adapter_of(theirs, name))
    (tmp_path / "theirs").mkdir()
    direct = merged(tmp_path / "theirs", theirs, str(lora), layout="hf")
    after = merged(tmp_path, ours, str(lora), layout="hf")
    fused = np.concatenate([after[f"transformer_blocks.1.attn.to_{part}.weight"] for part in "qkv"])
    assert bits(fused) == bits(direct["double_blocks.1.img_attn.qkv.weight"])
    block = "single_transformer_blocks.0"
    names = (*(f"{block}.attn.to_{part}" for part in "qkv"), f"{block}.proj_mlp")
    wide = np.concatenate([after[f"{one}.weight"] for one in names])
    assert bits(wide) == bits(direct["single_blocks.0.linear1.weight"])
    final = direct["final_layer.adaLN_modulation.1.weight"]
    swapped = np.concatenate([final[HIDDEN:], final[:HIDDEN]])
    assert bits(after["norm_out.linear.weight"]) == bits(swapped)


@pytest.mark.parametrize("name", ["lora_unet_{}", "transformer.{}"])
def test_diffusers_names_fit_black_forest_labs_weights(name: str, tmp_path: Path) -> None:
    theirs, ours = other_names()
    lora = write_file(tmp_path / "lora.safetensors", adapter_of(ours, name))
    (tmp_path / "ours").mkdir()
    direct = merged(tmp_path / "ours", ours, str(lora), layout="hf")
    after = merged(tmp_path, theirs, str(lora), layout="hf")
    parts = np.split(after["double_blocks.1.img_attn.qkv.weight"], 3)
    for part, letter in zip(parts, "qkv", strict=True):
        assert bits(part) == bits(direct[f"transformer_blocks.1.attn.to_{letter}.weight"])
    wide = after["single_blocks.0.linear1.weight"]
    assert bits(wide[3 * HIDDEN :]) == bits(direct["single_transformer_blocks.0.proj_mlp.weight"])
    final = after["final_layer.adaLN_modulation.1.weight"]
    swapped = np.concatenate([final[HIDDEN:], final[:HIDDEN]])
    assert bits(swapped) == bits(direct["norm_out.linear.weight"])


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no such module": (
        {"x_blocks.0.attn.to_q.lora_A.weight": DOWN, "x_blocks.0.attn.to_q.lora_B.weight": UP},
        rf"x_blocks.0.attn.to_q.lora_A.weight \(nearest: {Q}.weight\)",
    ),
    "another shape": (
        {f"{Q}.lora_A.weight": grid((RANK, 7), 1), f"{Q}.lora_B.weight": UP},
        r"has shape \(6, 8\)",
    ),
    "half a pair": ({f"{Q}.lora_A.weight": DOWN}, r"no up \(lora_B\) matrix"),
    "nothing": ({f"{Q}.lora_A.weight": DOWN, f"{Q}.lora_B.weight": grid((0, RANK), 1)}, "hold nothing"),
    "rows that do not split": (
        {
            "diffusion_model.double_blocks.0.img_attn.qkv.lora_A.weight": DOWN,
            "diffusion_model.double_blocks.0.img_attn.qkv.lora_B.weight": grid((10, RANK), 1),
        },
        rf"qkv.lora_A.weight \(nearest: {Q}.weight\)",
    ),
    "other ranks": (
        {f"{Q}.lora_A.weight": DOWN, f"{Q}.lora_B.weight": grid((6, 3), 1)},
        "different ranks",
    ),
    "LoKr": (
        {f"{Q}.lora_A.weight": DOWN, f"{Q}.lora_B.weight": UP, "lora_unet_x.lokr_w1": DOWN},
        "lora_unet_x.lokr_w1 is of a LoKr",
    ),
    "a whole weight": (
        {f"{Q}.lora_A.weight": DOWN, f"{Q}.lora_B.weight": UP, "lm_head.weight": DOWN},
        "lm_head.weight is no matrix of a LoRA",
    ),
    "two names for one module": (
        {
            f"{Q}.lora_A.weight": DOWN,
            f"{Q}.lora_B.weight": UP,
            f"unet.{Q}.lora_A.weight": DOWN,
            f"unet.{Q}.lora_B.weight": UP,
        },
        "both meant for",
    ),
    "lengths of columns": (
        {
            f"{Q}.lora_A.weight": DOWN,
            f"{Q}.lora_B.weight": UP,
            f"{Q}.dora_scale": np.ones((1, 8), np.float32),
        },
        "not one for each of 6 rows",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_named_and_nothing_is_written(case: str, tmp_path: Path) -> None:
    tensors, message = REFUSED[case]
    lora = write_file(tmp_path / "lora.safetensors", tensors)
    with pytest.raises(WconvError, match=message):
        merged(tmp_path, base(), str(lora))
    assert not (tmp_path / "out.safetensors").exists()


def test_a_quantized_weight_is_refused(tmp_path: Path) -> None:
    lora = write_file(tmp_path / "lora.safetensors", {f"{Q}.lora_A.weight": DOWN, f"{Q}.lora_B.weight": UP})
    with pytest.raises(WconvError, match="stored in uint32"):
        merged(tmp_path, {f"{Q}.weight": np.zeros((6, 8), np.uint32)}, str(lora))


def test_a_sum_that_overflows_is_an_error(tmp_path: Path) -> None:
    lora = write_file(tmp_path / "lora.safetensors", {f"{Q}.lora_A.weight": DOWN, f"{Q}.lora_B.weight": UP})
    with pytest.raises(WconvError, match="overflows float16"):
        merged(tmp_path, {f"{Q}.weight": np.zeros((6, 8), np.float16)}, f"{lora}:1e6")
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("scale", ["nan", "inf", "x"])
def test_a_scale_is_a_finite_number(scale: str, tmp_path: Path) -> None:
    lora = write_file(tmp_path / "lora.safetensors", {f"{Q}.lora_A.weight": DOWN, f"{Q}.lora_B.weight": UP})
    with pytest.raises(WconvError, match=r"no number|finite number"):
        merged(tmp_path, base(), f"{lora}:{scale}")


def test_each_component_of_a_pipeline_gets_its_adapters(tmp_path: Path) -> None:
    encoder = "text_model.encoder.layers.0.self_attn.q_proj"
    source = tmp_path / "pipe"
    weights = {
        "transformer": {f"{Q}.weight": random((6, 8))},
        "text_encoder": {f"{encoder}.weight": random((6, 8))},
    }
    for name, tensors in weights.items():
        (source / name).mkdir(parents=True)
        write_file(source / name / "model.safetensors", tensors)
        (source / name / "config.json").write_text("{}")
    index = {"_class_name": "P", "transformer": ["diffusers", "T"], "text_encoder": ["transformers", "C"]}
    (source / "model_index.json").write_text(json.dumps(index))
    tensors = {f"transformer.{Q}.lora_A.weight": DOWN, f"transformer.{Q}.lora_B.weight": UP}
    flat = f"lora_te_{encoder.replace('.', '_')}"
    lora = write_file(
        tmp_path / "lora.safetensors",
        {**tensors, f"{flat}.lora_down.weight": 2 * DOWN, f"{flat}.lora_up.weight": UP},
    )
    out = tmp_path / "out"
    result = CliRunner().invoke(
        main, [str(source), "-o", str(out), "--merge-lora", f"{lora}:2", "--layout", "hf"]
    )
    assert result.exit_code == 0, result.output
    assert "merged lora.safetensors" in result.output
    for (name, tensors), factor in zip(weights.items(), (2, 4), strict=True):
        written = load_file(next((out / name).glob("*.safetensors")))
        for key, before in tensors.items():
            assert bits(written[key]) == bits(expected(before, factor * (UP @ DOWN)))
    with pytest.raises(WconvError, match=r"text_encoder.* not among"):
        wconv.convert(source, tmp_path / "one", component=["transformer"], merge_lora=[str(lora)])
