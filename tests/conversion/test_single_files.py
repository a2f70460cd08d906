"""Black Forest Labs' single files: known by their names, and laid out for diffusers and mflux."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import wconv
from tests.making import bits, random
from wconv.errors import WconvError

BLOCK = "double_blocks.0.img_attn"


def transformer() -> dict[str, Any]:
    return {
        "double_blocks.0.img_mod.lin.weight": random((6, 2), seed=1),
        f"{BLOCK}.qkv.weight": random((9, 2), seed=2),
        "single_blocks.0.linear1.weight": random((14, 2), seed=3),
        "final_layer.adaLN_modulation.1.weight": random((4, 2), seed=4),
    }


def autoencoder() -> dict[str, Any]:
    return {
        "bn.running_mean": random((4,), np.float32, seed=5),
        "encoder.quant_conv.weight": random((4, 4, 1, 1), np.float32, seed=6),
        "encoder.down.0.block.0.norm1.weight": random((4,), np.float32, seed=7),
        "decoder.up.3.block.2.conv1.weight": random((4, 4, 3, 2), np.float32, seed=8),
        "decoder.mid.attn_1.q.weight": random((4, 4, 1, 1), np.float32, seed=9),
    }


def test_fused_matrices_are_split_and_halves_swapped(tmp_path: Path) -> None:
    tensors = transformer()
    save_file(tensors, tmp_path / "flux1-dev.safetensors")
    wconv.convert(tmp_path / "flux1-dev.safetensors", tmp_path / "out", layout="diffusers")
    got = load_file(tmp_path / "out/diffusion_pytorch_model.safetensors")
    qkv, wide = tensors[f"{BLOCK}.qkv.weight"], tensors["single_blocks.0.linear1.weight"]
    last = tensors["final_layer.adaLN_modulation.1.weight"]
    assert bits(got["transformer_blocks.0.attn.to_k.weight"]) == bits(qkv[3:6])
    assert bits(got["single_transformer_blocks.0.attn.to_v.weight"]) == bits(wide[4:6])
    assert bits(got["single_transformer_blocks.0.proj_mlp.weight"]) == bits(wide[6:])
    assert bits(got["norm_out.linear.weight"]) == bits(np.concatenate([last[2:], last[:2]]))
    assert len(got) == 9


def test_the_autoencoder_of_flux2_is_told_from_that_of_flux1(tmp_path: Path) -> None:
    tensors = autoencoder()
    save_file(tensors, tmp_path / "ae.safetensors")
    wconv.convert(tmp_path / "ae.safetensors", tmp_path / "out", layout="diffusers")
    got = load_file(tmp_path / "out/diffusion_pytorch_model.safetensors")
    assert set(got) == {
        "bn.running_mean",
        "quant_conv.weight",
        "encoder.down_blocks.0.resnets.0.norm1.weight",
        "decoder.up_blocks.0.resnets.2.conv1.weight",
        "decoder.mid_block.attentions.0.to_q.weight",
    }
    assert got["decoder.mid_block.attentions.0.to_q.weight"].shape == (4, 4)
    (tmp_path / "out/config.json").write_text('{"_class_name": "AutoencoderKLFlux2"}')
    wconv.convert(tmp_path / "out", tmp_path / "back.safetensors", layout="bfl")
    back = load_file(tmp_path / "back.safetensors")
    assert back.keys() == tensors.keys()
    assert all(bits(back[name]) == bits(array) for name, array in tensors.items())


def test_auto_keeps_the_names_that_mlx_programs_know(tmp_path: Path) -> None:
    save_file(transformer(), tmp_path / "flux1-dev.safetensors")
    report = wconv.convert(tmp_path / "flux1-dev.safetensors", tmp_path / "out.safetensors")
    assert report.layout is None
    assert load_file(tmp_path / "out.safetensors").keys() == transformer().keys()


def test_there_is_no_way_back_for_what_is_not_diffusers(tmp_path: Path) -> None:
    save_file({"a": random((2, 2))}, tmp_path / "a.safetensors")
    with pytest.raises(WconvError, match="for a component in diffusers' form"):
        wconv.convert(tmp_path / "a.safetensors", tmp_path / "out.safetensors", layout="bfl")


def test_an_attention_without_axes_is_refused_in_one_line(tmp_path: Path) -> None:
    tensors = autoencoder() | {"decoder.mid.attn_1.q.weight": np.array(1.0)}
    save_file(tensors, tmp_path / "ae.safetensors")
    with pytest.raises(WconvError, match=r"decoder\.mid\.attn_1\.q\.weight"):
        wconv.convert(tmp_path / "ae.safetensors", tmp_path / "out", layout="diffusers")
