"""Stable Diffusion: every layer of diffusers' models computes the same under its name in mlx-examples."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import wconv
from tests.oracle.tiny import randomise
from tests.oracles import oracle

pytestmark = pytest.mark.oracle

UNET: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "cross_attention_dim": 12,
    "attention_head_dim": 2,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}
LARGE: dict[str, Any] = {
    "use_linear_projection": True,
    "transformer_layers_per_block": 2,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 20,
}
AUTOENCODER: dict[str, Any] = {
    "block_out_channels": (8, 16),
    "norm_num_groups": 4,
    "layers_per_block": 1,
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
}
TEXT: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 32,
    "projection_dim": 12,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

PATHS = (
    (r"(down|up)samplers\.0\.conv$", r"\1sample"),
    (r"mid_block\.resnets\.0", "mid_blocks.0"),
    (r"mid_block\.attentions\.0", "mid_blocks.1"),
    (r"mid_block\.resnets\.1", "mid_blocks.2"),
    (r"to_q$|q_proj$", "query_proj"),
    (r"to_k$|k_proj$", "key_proj"),
    (r"to_v$|v_proj$", "value_proj"),
    (r"to_out\.0$", "out_proj"),
    (r"ff\.net\.2$", "linear3"),
    (r"quant_conv$", "quant_proj"),
    (r"^(text_model\.)?(embeddings\.|encoder\.(?=layers))?", ""),
    (r"(layers\.\d+)\.self_attn", r"\1.attention"),
    (r"mlp\.fc([12])$", r"linear\1"),
)
"""A module's path in diffusers → in mlx-examples, for those that are one module in both."""


@pytest.fixture(scope="module")
def diffusers() -> ModuleType:
    """diffusers, from the directory that WCONV_DIFFUSERS names where it is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        if place := os.environ.get("WCONV_DIFFUSERS"):
            patch.syspath_prepend(place)
        return oracle("diffusers")


def assert_every_layer_computes_the_same(model: Any, arrays: dict[str, Any]) -> None:
    """Each module with tensors of its own gets the same random input in torch and in MLX."""
    torch, mx = oracle("torch"), oracle("mlx.core")
    left = dict(arrays)
    for path, module in model.named_modules():
        if not list(module.parameters(recurse=False)):
            continue
        name = path
        for pattern, replacement in PATHS:
            name = re.sub(pattern, replacement, name)
        if path.endswith("ff.net.0.proj"):
            place = name.removesuffix("ff.net.0.proj")
            halves = [left.pop(f"{place}{half}.weight") for half in ("linear1", "linear2")]
            assert np.array_equal(np.concatenate(halves), module.weight.detach().numpy()), path
            halves = [left.pop(f"{place}{half}.bias") for half in ("linear1", "linear2")]
            assert np.array_equal(np.concatenate(halves), module.bias.detach().numpy()), path
        elif isinstance(module, torch.nn.Conv2d):
            shape = (2, 9, 9, module.in_channels)
            given = np.random.default_rng(1).standard_normal(shape, np.float32)
            expected = module(torch.from_numpy(given).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            weight, bias = mx.array(left.pop(f"{name}.weight")), mx.array(left.pop(f"{name}.bias"))
            if weight.ndim == 2:
                got = mx.array(given) @ weight.T + bias
            else:
                got = mx.conv2d(mx.array(given), weight, module.stride, module.padding) + bias
            np.testing.assert_allclose(
                np.array(got), expected.detach().numpy(), rtol=1e-4, atol=1e-5, err_msg=path
            )
        else:
            for part, tensor in module.named_parameters(recurse=False):
                assert np.array_equal(left.pop(f"{name}.{part}"), tensor.detach().numpy()), path
    assert not left


@pytest.mark.parametrize("changes", [{}, LARGE], ids=["1.5", "XL"])
def test_the_unet(changes: dict[str, Any], diffusers: ModuleType, tmp_path: Path) -> None:
    model = diffusers.UNet2DConditionModel(**UNET, **changes)
    randomise(model)
    model.save_pretrained(tmp_path / "unet")
    report = wconv.convert(tmp_path / "unet", layout="mlx-examples")
    arrays = wconv.load(report.output)
    assert arrays["mid_blocks.1.proj_in.weight"].shape == (16, 16)
    assert_every_layer_computes_the_same(model, arrays)
    assert wconv.convert(tmp_path / "unet", tmp_path / "auto").layout is None


def test_the_autoencoder(diffusers: ModuleType, tmp_path: Path) -> None:
    model = diffusers.AutoencoderKL(**AUTOENCODER)
    randomise(model)
    model.save_pretrained(tmp_path / "vae")
    arrays = wconv.load(wconv.convert(tmp_path / "vae", layout="mlx-examples").output)
    assert_every_layer_computes_the_same(model, arrays)


def test_the_autoencoders_older_names(diffusers: ModuleType, tmp_path: Path) -> None:
    model = diffusers.AutoencoderKL(**AUTOENCODER)
    randomise(model)
    model.save_pretrained(tmp_path / "vae")
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {
        re.sub(r"to_(q|k|v|out\.0)", lambda found: older[found[0]], name): array
        for name, array in wconv.load(tmp_path / "vae").items()
    }
    assert "encoder.mid_block.attentions.0.proj_attn.bias" in state
    wconv.save(state, tmp_path / "vae" / "diffusion_pytorch_model.safetensors")
    arrays = wconv.load(wconv.convert(tmp_path / "vae", layout="mlx-examples").output)
    assert_every_layer_computes_the_same(model, arrays)


@pytest.mark.parametrize("name", ["CLIPTextModel", "CLIPTextModelWithProjection"])
def test_the_text_encoders(name: str, tmp_path: Path) -> None:
    transformers = oracle("transformers")
    model = getattr(transformers, name)(transformers.CLIPTextConfig(**TEXT))
    randomise(model)
    model.save_pretrained(tmp_path / "text_encoder")
    arrays = wconv.load(wconv.convert(tmp_path / "text_encoder", layout="mlx-examples").output)
    assert_every_layer_computes_the_same(model, arrays)
    older = {
        f"text_model.{key.removeprefix('text_model.')}": array for key, array in model.state_dict().items()
    }
    if "text_model.text_projection.weight" in older:
        older["text_projection.weight"] = older.pop("text_model.text_projection.weight")
    wconv.save(
        {key: tensor.numpy() for key, tensor in older.items()},
        tmp_path / "text_encoder" / "model.safetensors",
    )
    again = wconv.convert(tmp_path / "text_encoder", tmp_path / "again", layout="mlx-examples").output
    assert_every_layer_computes_the_same(model, wconv.load(again))


def test_a_pipeline_is_laid_out_as_one(diffusers: ModuleType, tmp_path: Path) -> None:
    pipeline = tmp_path / "pipeline"
    unet, vae = diffusers.UNet2DConditionModel(**UNET), diffusers.AutoencoderKL(**AUTOENCODER)
    unet.save_pretrained(pipeline / "unet")
    vae.save_pretrained(pipeline / "vae")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (pipeline / "model_index.json").write_text(json.dumps(index))
    out = wconv.convert(pipeline, layout="mlx-examples").output
    assert_every_layer_computes_the_same(unet, wconv.load(out / "unet"))
    assert_every_layer_computes_the_same(vae, wconv.load(out / "vae"))
