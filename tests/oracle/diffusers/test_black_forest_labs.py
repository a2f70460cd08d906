"""Black Forest Labs' single files: to diffusers' names as diffusers takes them, back, on to mflux."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import wconv
from tests.making import bits, random
from tests.oracle.consumers import silence
from tests.oracle.mflux.image_models import from_diffusers
from tests.oracles import oracle

pytestmark = pytest.mark.oracle

WIDTH = 3072
"""diffusers knows FLUX.1's width by heart; all else may be narrow."""

Named = Iterator[tuple[str, tuple[int, ...]]]


@pytest.fixture(scope="module")
def theirs() -> Iterator[ModuleType]:
    with from_diffusers("diffusers.loaders.single_file_utils") as module:
        yield module


def linear(name: str, rows: int, columns: int = 2) -> Named:
    yield f"{name}.weight", (rows, columns)
    yield f"{name}.bias", (rows,)


def flux() -> Named:
    """Names of flux1-dev.safetensors, with two double and two single blocks."""
    for name in (
        "img_in",
        "txt_in",
        *(f"{one}_in.{at}_layer" for one in ("time", "vector", "guidance") for at in ("in", "out")),
    ):
        yield from linear(name, 4)
    for block in range(2):
        for stream in ("img", "txt"):
            at = f"double_blocks.{block}.{stream}"
            yield from linear(f"{at}_mod.lin", 12)
            yield from linear(f"{at}_attn.qkv", 12)
            yield from linear(f"{at}_attn.proj", 4)
            yield from linear(f"{at}_mlp.0", 16)
            yield from linear(f"{at}_mlp.2", 4)
            yield f"{at}_attn.norm.query_norm.scale", (4,)
            yield f"{at}_attn.norm.key_norm.scale", (4,)
        at = f"single_blocks.{block}"
        yield from linear(f"{at}.linear1", 7 * WIDTH)
        yield from linear(f"{at}.linear2", 4)
        yield from linear(f"{at}.modulation.lin", 12)
        yield f"{at}.norm.query_norm.scale", (4,)
        yield f"{at}.norm.key_norm.scale", (4,)
    yield from linear("final_layer.adaLN_modulation.1", 8)
    yield from linear("final_layer.linear", 4)


def flux2() -> Named:
    """Names of flux2-dev.safetensors, which has no biases."""
    for name, shape in flux():
        if not name.endswith("bias") and "mod" not in name.partition(".lin")[0] and "vector" not in name:
            yield name, shape
    for name in ("double_stream_modulation_img", "double_stream_modulation_txt", "single_stream_modulation"):
        yield f"{name}.lin.weight", (12, 2)
    yield "final_layer.adaLN_modulation.1.weight", (8, 2)


def autoencoder() -> Named:
    """Names of ae.safetensors."""
    for side, direction, count in (("encoder", "down", 2), ("decoder", "up", 3)):
        yield from convolution(f"{side}.conv_in")
        yield from convolution(f"{side}.conv_out")
        yield from norm(f"{side}.norm_out")
        for name in (
            "mid.block_1",
            "mid.block_2",
            *(f"{direction}.{at}.block.{n}" for at in range(4) for n in range(count)),
        ):
            for number in (1, 2):
                yield from norm(f"{side}.{name}.norm{number}")
                yield from convolution(f"{side}.{name}.conv{number}")
        yield from convolution(f"{side}.{direction}.1.block.0.nin_shortcut")
        for at in range(3) if side == "encoder" else range(1, 4):
            yield from convolution(f"{side}.{direction}.{at}.{direction}sample.conv")
        yield from norm(f"{side}.mid.attn_1.norm")
        for name in ("q", "k", "v", "proj_out"):
            yield f"{side}.mid.attn_1.{name}.weight", (5, 4, 1, 1)
            yield f"{side}.mid.attn_1.{name}.bias", (5,)


def convolution(name: str) -> Named:
    yield f"{name}.weight", (5, 4, 3, 2)
    yield f"{name}.bias", (5,)


def norm(name: str) -> Named:
    yield f"{name}.weight", (5,)
    yield f"{name}.bias", (5,)


FILES = {"flux": flux, "flux2": flux2, "autoencoder": autoencoder}


def state(kind: str) -> dict[str, Any]:
    return {name: random(shape, np.float16, seed) for seed, (name, shape) in enumerate(FILES[kind]())}


def converted(theirs: ModuleType, kind: str, tensors: dict[str, Any]) -> dict[str, Any]:
    """What diffusers makes of a single file."""
    torch = oracle("torch")
    checkpoint = {name: torch.from_numpy(array) for name, array in tensors.items()}
    if kind == "flux":
        made = theirs.convert_flux_transformer_checkpoint_to_diffusers(checkpoint)
    elif kind == "flux2":
        made = theirs.convert_flux2_transformer_checkpoint_to_diffusers(checkpoint)
    else:
        config = {"down_block_types": [""] * 4, "up_block_types": [""] * 4}
        made = theirs.convert_ldm_vae_checkpoint(checkpoint, config)
    return {name: tensor.contiguous().numpy() for name, tensor in made.items()}


def assert_same(got: dict[str, Any], expected: dict[str, Any]) -> None:
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        assert bits(got[name]) == bits(array), name


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("kind", FILES)
def test_to_diffusers_and_back(kind: str, prefix: str, theirs: ModuleType, tmp_path: Path) -> None:
    tensors = state(kind)
    source = tmp_path / "single.safetensors"
    prefix = prefix if kind != "autoencoder" else ""
    save_file({prefix + name: array for name, array in tensors.items()}, source)
    out = tmp_path / "component"
    report = wconv.convert(source, out, layout="diffusers")
    assert report.layout == "diffusers"
    made = load_file(out / "diffusion_pytorch_model.safetensors")
    assert_same(made, converted(theirs, kind, tensors))
    classes = {"flux": "FluxTransformer2DModel", "flux2": "Flux2Transformer2DModel"}
    (out / "config.json").write_text(f'{{"_class_name": "{classes.get(kind, "AutoencoderKL")}"}}')
    back = tmp_path / "back.safetensors"
    wconv.convert(out, back, layout="bfl")
    assert_same(load_file(back), tensors)


COMPONENTS = {
    "flux": ("flux", "FluxWeightDefinition", "transformer"),
    "flux2": ("flux2", "Flux2KleinWeightDefinition", "transformer"),
    "autoencoder": ("flux", "FluxWeightDefinition", "vae"),
}


@pytest.mark.parametrize("kind", FILES)
def test_on_to_mflux(kind: str, theirs: ModuleType, tmp_path: Path) -> None:
    tensors = state(kind)
    source = tmp_path / "single.safetensors"
    save_file(tensors, source)
    model, definition, name = COMPONENTS[kind]
    through = tmp_path / "through" / name
    through.mkdir(parents=True)
    save_file(converted(theirs, kind, tensors), through / "diffusion_pytorch_model.safetensors")
    wconv.convert(source, tmp_path / "out" / name, layout="mflux") if (
        tmp_path / "out"
    ).mkdir() is None else None
    module = oracle(f"mflux.models.{model}.weights.{model}_weight_definition")
    component = next(one for one in getattr(module, definition).get_components() if one.name == name)
    loader = oracle("mflux.models.common.weights.loading.weight_loader").WeightLoader
    with silence():
        expected = loader.load_single_local(component, tmp_path / "through").components[name]
        got = loader.load_single_local(component, tmp_path / "out").components[name]
    flatten, mx = oracle("mlx.utils").tree_flatten, oracle("mlx.core")
    expected, got = dict(flatten(expected)), dict(flatten(got))
    assert got.keys() == expected.keys()
    assert all(mx.array_equal(got[path], array) for path, array in expected.items())
    assert {array.dtype for array in got.values()} == {mx.bfloat16}
