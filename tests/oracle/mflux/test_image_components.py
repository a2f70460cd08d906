"""Components as diffusers and transformers save them, tiny but in every name true, in mflux's own form."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from safetensors.numpy import save_file

import wconv
from tests.making import bits
from tests.oracle.consumers import silence
from tests.oracle.mflux.image_models import IMAGES, from_diffusers
from tests.oracles import oracle
from wconv.consumers import pipelines

pytestmark = pytest.mark.oracle

ROPE = {"axes_dims_rope": (2, 2, 4)}
HEADS: dict[str, Any] = {"attention_head_dim": 8, "num_attention_heads": 2, "joint_attention_dim": 8}
KL: dict[str, Any] = {
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [4, 8, 8, 8],
    "layers_per_block": 2,
    "latent_channels": 16,
    "norm_num_groups": 2,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
VIDEO: dict[str, Any] = {"base_dim": 4, "z_dim": 4, "latents_mean": [0] * 4, "latents_std": [1] * 4}

DIFFUSERS: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {
    ("flux", "transformer"): (
        "FluxTransformer2DModel",
        {"num_layers": 2, "num_single_layers": 2, "pooled_projection_dim": 8, "guidance_embeds": True}
        | HEADS
        | ROPE,
    ),
    ("flux", "vae"): ("AutoencoderKL", KL),
    ("flux2", "transformer"): (
        "Flux2Transformer2DModel",
        {"num_layers": 2, "num_single_layers": 2, "axes_dims_rope": (2, 2, 2, 2)} | HEADS,
    ),
    ("flux2", "vae"): (
        "AutoencoderKLFlux2",
        {"block_out_channels": (4, 8, 8, 8), "norm_num_groups": 2, "latent_channels": 4},
    ),
    ("qwen_image", "transformer"): ("QwenImageTransformer2DModel", {"num_layers": 2} | HEADS | ROPE),
    ("qwen_image", "vae"): ("AutoencoderKLQwenImage", VIDEO),
    ("fibo", "transformer"): (
        "BriaFiboTransformer2DModel",
        {"num_layers": 2, "num_single_layers": 2, "text_encoder_dim": 8}
        | HEADS
        | {"axes_dims_rope": [2, 2, 4]},
    ),
    ("fibo", "vae"): (
        "AutoencoderKLWan",
        {"is_residual": True, "in_channels": 12, "out_channels": 12, "decoder_base_dim": 8} | VIDEO,
    ),
    ("z_image", "transformer"): (
        "ZImageTransformer2DModel",
        {
            "dim": 16,
            "n_layers": 2,
            "n_refiner_layers": 1,
            "n_heads": 2,
            "n_kv_heads": 2,
            "cap_feat_dim": 8,
            "axes_dims": [2, 2, 4],
            "axes_lens": [4, 4, 4],
        },
    ),
    ("z_image", "vae"): ("AutoencoderKL", KL),
}

TEXT: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 40,
    "head_dim": 8,
    "pad_token_id": 0,
}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 24, "num_heads": 2, "vocab_size": 40}

TRANSFORMERS: dict[tuple[str, str], tuple[str, str, dict[str, Any]]] = {
    ("flux", "text_encoder_2"): ("T5EncoderModel", "T5Config", T5 | {"feed_forward_proj": "gated-gelu"}),
    ("flux2", "text_encoder"): ("Qwen3ForCausalLM", "Qwen3Config", TEXT),
    ("z_image", "text_encoder"): ("Qwen3ForCausalLM", "Qwen3Config", TEXT | {"tie_word_embeddings": True}),
    ("fibo", "text_encoder"): ("SmolLM3ForCausalLM", "SmolLM3Config", TEXT),
}


@pytest.fixture(scope="module")
def diffusers() -> Iterator[ModuleType]:
    with from_diffusers("diffusers") as module:
        yield module


def assert_mflux_sees_the_same(family: str, name: str, root: Path, out: Path) -> None:
    """Converts `root/name` and compares what mflux's loader makes of both."""
    layout = dict(pipelines.places("mflux"))[f"{family}/{name}"]
    out.mkdir()
    wconv.convert(root / name, out / name, layout=layout)
    components = IMAGES[family].weight_definition.get_components()
    component = next(one for one in components if one.hf_subdir == name)
    loader = oracle("mflux.models.common.weights.loading.weight_loader").WeightLoader
    flatten, mx = oracle("mlx.utils").tree_flatten, oracle("mlx.core")
    with silence():
        theirs = dict(flatten(loader.load_single_local(component, root).components[component.name]))
        ours = dict(flatten(loader.load_single_local(component, out).components[component.name]))
    assert ours.keys() == theirs.keys()
    for path, array in theirs.items():
        assert (ours[path].dtype, ours[path].shape) == (array.dtype, array.shape), path
        assert mx.array_equal(ours[path], array), path


@pytest.mark.parametrize(("family", "name"), DIFFUSERS)
def test_what_diffusers_saves(family: str, name: str, diffusers: ModuleType, tmp_path: Path) -> None:
    kind, arguments = DIFFUSERS[family, name]
    oracle("torch").manual_seed(0)
    with silence():
        model = getattr(diffusers, kind)(**arguments)
        model.save_pretrained(tmp_path / "root" / name)
    assert_mflux_sees_the_same(family, name, tmp_path / "root", tmp_path / "out")
    kept = wconv.convert(tmp_path / "root" / name, tmp_path / "kept", dtype="float16").output
    with silence():
        again = getattr(diffusers, kind).from_pretrained(kept)
    expected = {key: tensor.half().to(tensor.dtype) for key, tensor in model.state_dict().items()}
    equal = oracle("torch").equal
    got = again.state_dict()
    assert got.keys() == expected.keys()
    assert all(equal(got[key].float(), tensor.float()) for key, tensor in expected.items())


@pytest.mark.parametrize(("family", "name"), TRANSFORMERS)
def test_what_transformers_saves(family: str, name: str, tmp_path: Path) -> None:
    kind, config, arguments = TRANSFORMERS[family, name]
    oracle("torch").manual_seed(0)
    transformers = oracle("transformers")
    with silence():
        model = getattr(transformers, kind)(getattr(transformers, config)(**arguments))
        model.save_pretrained(tmp_path / "root" / name)
    assert_mflux_sees_the_same(family, name, tmp_path / "root", tmp_path / "out")


def test_clip_as_newer_and_older_transformers_save_it(tmp_path: Path) -> None:
    """transformers 5 leaves out a prefix without which mflux knows none of the tensors."""
    transformers = oracle("transformers")
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "vocab_size": 40}
    with silence():
        config = transformers.CLIPTextConfig(**sizes, bos_token_id=1, eos_token_id=2)
        transformers.CLIPTextModel(config).save_pretrained(tmp_path / "newer")
    state = wconv.load(tmp_path / "newer")
    assert not any(name.startswith("text_model.") for name in state)
    older = tmp_path / "older" / "text_encoder"
    older.mkdir(parents=True)
    (older / "config.json").write_bytes((tmp_path / "newer" / "config.json").read_bytes())
    save_file({f"text_model.{name}": array for name, array in state.items()}, older / "model.safetensors")
    assert_mflux_sees_the_same("flux", "text_encoder", tmp_path / "older", tmp_path / "out")
    wconv.convert(tmp_path / "newer", tmp_path / "same", layout="mflux")
    again = wconv.load(tmp_path / "same")
    expected = wconv.load(tmp_path / "out" / "text_encoder")
    assert again.keys() == expected.keys()
    assert all(bits(again[name]) == bits(array) for name, array in expected.items())
