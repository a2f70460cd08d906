"""T5 and CLIP, laid out for mlx-examples when that is asked for: every tensor under its module's name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from tests.oracle.tiny import randomise
from tests.oracles import oracle

pytestmark = pytest.mark.oracle

T5_SIZES: dict[str, Any] = {
    "d_model": 16,
    "d_kv": 4,
    "d_ff": 32,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 4,
    "vocab_size": 32,
}
CLIP_SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


def save(model: Any, to: Path, *, pickled: bool) -> Path:
    """A directory as transformers writes it, or as it did before safetensors: with all that is tied."""
    randomise(model)
    model.save_pretrained(to)
    if pickled:
        (to / "model.safetensors").unlink()
        oracle("torch").save(model.state_dict(), to / "pytorch_model.bin")
    return to


def t5_modules(model: Any) -> dict[str, Any]:
    """Each parameter of mlx-examples' modules, by going through transformers' own."""
    found = {"wte.weight": model.shared.weight}
    if not model.config.tie_word_embeddings:
        found["lm_head.linear.weight"] = model.lm_head.weight
    for side, stack in (("encoder", model.encoder), ("decoder", model.decoder)):
        found[f"{side}.ln.weight"] = stack.final_layer_norm.weight
        first = stack.block[0].layer[0].SelfAttention
        found[f"{side}.relative_attention_bias.embeddings.weight"] = first.relative_attention_bias.weight
        for at, block in enumerate(stack.block):
            attentions = {"attention": block.layer[0].SelfAttention}
            if side == "decoder":
                attentions = {
                    "self_attention": block.layer[0].SelfAttention,
                    "cross_attention": block.layer[1].EncDecAttention,
                }
            for name, attention in attentions.items():
                for projection in ("query", "key", "value", "out"):
                    letter = "o" if projection == "out" else projection[0]
                    weight = getattr(attention, letter).weight
                    found[f"{side}.layers.{at}.{name}.{projection}_proj.weight"] = weight
            for number, layer in enumerate(block.layer, 1):
                found[f"{side}.layers.{at}.ln{number}.weight"] = layer.layer_norm.weight
            for name, linear in block.layer[-1].DenseReluDense.named_children():
                if hasattr(linear, "weight"):
                    found[f"{side}.layers.{at}.dense.{name}.weight"] = linear.weight
    return found


def assert_same(arrays: dict[str, Any], expected: dict[str, Any]) -> None:
    assert arrays.keys() == expected.keys()
    for name, tensor in expected.items():
        assert np.array_equal(arrays[name], tensor.detach().numpy()), name


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize(("tied", "kind"), [(True, "relu"), (False, "gated-gelu")])
def test_t5s_tensors_have_the_names_of_their_modules(
    tied: bool, kind: str, pickled: bool, tmp_path: Path
) -> None:
    transformers = oracle("transformers")
    config = transformers.T5Config(**T5_SIZES, tie_word_embeddings=tied, feed_forward_proj=kind)
    model = transformers.T5ForConditionalGeneration(config)
    source = save(model, tmp_path / "t5", pickled=pickled)
    report = wconv.convert(source, layout="mlx-examples")
    assert report.layout == "mlx-examples"
    assert_same(wconv.load(report.output), t5_modules(model))
    back = wconv.convert(report.output, tmp_path / "auto").output
    assert wconv.load(back).keys() == wconv.load(report.output).keys()


@pytest.mark.parametrize("pickled", [False, True])
def test_clips_patches_are_channels_last(pickled: bool, tmp_path: Path) -> None:
    torch, transformers, mx = oracle("torch"), oracle("transformers"), oracle("mlx.core")
    text = {**CLIP_SIZES, "vocab_size": 32, "bos_token_id": 1, "eos_token_id": 2}
    vision = {**CLIP_SIZES, "image_size": 8, "patch_size": 4}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    model = transformers.CLIPModel(config)
    source = save(model, tmp_path / "clip", pickled=pickled)
    out = wconv.convert(source, layout="mlx-examples").output
    arrays = wconv.load(out)
    name = "vision_model.embeddings.patch_embedding.weight"
    patches = model.vision_model.embeddings.patch_embedding
    pixels = np.random.default_rng(0).standard_normal((2, 8, 8, 3), np.float32)
    seen = patches(torch.from_numpy(pixels).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).detach().numpy()
    ours = mx.conv2d(mx.array(pixels), mx.array(arrays.pop(name)), stride=4)
    np.testing.assert_allclose(np.array(ours), seen, rtol=1e-4, atol=1e-5)
    expected = {key: tensor for key, tensor in model.state_dict().items() if "position_ids" not in key}
    assert expected.pop(name) is not None
    assert_same(arrays, expected)
    again = wconv.convert(out, tmp_path / "again", layout="mlx-examples").output
    assert np.array_equal(wconv.load(again)[name], wconv.load(out)[name])


@pytest.mark.parametrize("model_type", ["t5", "clip"])
def test_nothing_is_laid_out_for_the_examples_unasked(model_type: str, tmp_path: Path) -> None:
    place = tmp_path / "m"
    place.mkdir()
    wconv.save({"shared.weight": np.zeros((2, 2), np.float32)}, place / "model.safetensors")
    (place / "config.json").write_text(json.dumps({"model_type": model_type}))
    report = wconv.convert(place)
    assert report.layout is None
    assert list(wconv.open(report.output)) == ["shared.weight"]
