"""Directories that a program knows by their components alone, and the way back from its own form.

Covers `conversion/own_form.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from tests.conversion.test_components import pipeline
from tests.making import bits, random
from wconv.errors import WconvError

MING = {
    "mllm": {
        "model.model.word_embeddings.weight": random((8, 8)),
        "model.model.layers.1.mlp.experts.0.gate_proj.weight": random((8, 8), seed=1),
        "model.model.layers.1.mlp.experts.1.gate_proj.weight": random((8, 8), seed=2),
    },
    "connector": {"model.norm.weight": random((8,))},
    "mlp": {"query_tokens_dict.16x16": random((8, 8)), "proj_in.weight": random((8, 8), seed=3)},
    "transformer": {"t_embedder.mlp.0.weight": random((8, 8))},
    "vae": {"decoder.norm_out.gamma": random((8, 1, 1, 1))},
}


def directory(path: Path, states: dict[str, dict[str, Any]] = MING) -> Path:
    """A model without model_index.json and without kinds in its configs."""
    for name, state in states.items():
        (path / name).mkdir(parents=True)
        wconv.save(state, path / name / "model.safetensors")
        (path / name / "config.json").write_text("{}")
    return path


def test_a_directory_is_told_by_the_names_of_all_its_components(tmp_path: Path) -> None:
    report = wconv.convert(directory(tmp_path / "ming"), tmp_path / "out", layout="mflux")
    assert set(report.components) == set(MING)
    assert any("tell that it is mflux's ming_image" in note for note in report.notes)
    stacked = wconv.load(tmp_path / "out" / "mllm")["layers.1.mlp.switch_mlp.gate_proj.weight"]
    assert stacked.shape == (2, 8, 8)
    back = wconv.convert(tmp_path / "out", tmp_path / "back", layout="hf").output
    for name, state in MING.items():
        again = wconv.load(back / name)
        assert again.keys() == state.keys()
        assert all(bits(again[key]) == bits(array) for key, array in state.items())
        assert all(again[key].shape == array.shape for key, array in state.items())


def test_one_component_of_such_a_directory(tmp_path: Path) -> None:
    source = directory(tmp_path / "ming")
    report = wconv.convert(source, tmp_path / "out", layout="mflux", component=["mlp"])
    assert set(report.components) == {"mlp"}
    with pytest.raises(WconvError, match="has no component 'unet': it has mllm, connector"):
        wconv.convert(source, tmp_path / "o", layout="mflux", component=["unet"])


@pytest.mark.parametrize("change", ["a name more", "a component less"])
def test_another_directory_is_not_taken_for_it(change: str, tmp_path: Path) -> None:
    states = {name: dict(state) for name, state in MING.items()}
    if change == "a name more":
        states["transformer"]["layers.0.odd.weight"] = random((8, 8))
    else:
        del states["connector"]
    with pytest.raises(WconvError, match="holds no weights"):
        wconv.convert(directory(tmp_path / "ming", states), tmp_path / "out", layout="mflux")
    assert not (tmp_path / "out").exists()


def test_the_way_back_gives_the_hubs_names_and_tells_what_is_missing(tmp_path: Path) -> None:
    source = pipeline(tmp_path / "flux")
    wconv.convert(source, tmp_path / "mflux", layout="mflux")
    report = wconv.convert(tmp_path / "mflux", tmp_path / "hf", layout="hf")
    for name in ("transformer", "vae", "text_encoder"):
        again, before = wconv.open(tmp_path / "hf" / name), wconv.open(source / name)
        lost = {"bn.num_batches_tracked", "lm_head.weight"}
        assert again.keys() == before.keys() - lost
        assert all(again[key].shape == before[key].shape for key in again)
    assert any("lm_head.weight" in note for note in report.notes)
    one = wconv.convert(tmp_path / "mflux" / "transformer", tmp_path / "one", layout="hf").output
    assert wconv.open(one).keys() == wconv.open(source / "transformer").keys()


def test_a_component_is_told_by_the_pipeline_that_it_lies_in(tmp_path: Path) -> None:
    names = {"vae": ["diffusers", "AutoencoderKL"]}
    source = tmp_path / "z"
    (source / "vae").mkdir(parents=True)
    (source / "model_index.json").write_text(json.dumps({"_class_name": "ZImagePipeline", **names}))
    (source / "vae" / "config.json").write_text('{"_class_name": "AutoencoderKL"}')
    wconv.save({"decoder.conv_in.bias": np.ones(4, np.float32)}, source / "vae" / "model.safetensors")
    wconv.convert(source / "vae", tmp_path / "out", layout="mflux")
    assert list(wconv.open(tmp_path / "out")) == ["decoder.conv_in.conv.bias"]
    wconv.convert(tmp_path / "out", tmp_path / "back", layout="hf")
    assert list(wconv.open(tmp_path / "back")) == ["decoder.conv_in.bias"]


def test_names_that_several_models_have_are_not_undone(tmp_path: Path) -> None:
    states = {"text_encoder": {"language_model.embed_tokens.weight": random((8, 8))}}
    source = directory(tmp_path / "m", states) / "text_encoder"
    (source / "config.json").write_text('{"model_type": "qwen3_vl"}')
    (source.parent / "model_index.json").write_text(
        '{"_class_name": "Krea2Pipeline", "text_encoder": ["transformers", "Qwen3VLModel"]}'
    )
    wconv.convert(source, tmp_path / "out", layout="mflux")
    assert list(wconv.open(tmp_path / "out")) == ["embed_tokens.weight"]
    report = wconv.convert(tmp_path / "out", tmp_path / "back", layout="hf")
    assert "nothing undoes" in report.known


def test_a_repository_of_files_in_sub_directories(tmp_path: Path) -> None:
    folder = tmp_path / "anima" / "split_files"
    states = {
        "diffusion_models/anima-base-v1.0": {"net.llm_adapter.embed.weight": random((8, 8))},
        "vae/qwen_image_vae": {"conv1.bias": random((8,))},
        "text_encoders/qwen_3_06b_base": {"model.norm.weight": random((8,))},
    }
    for name, state in states.items():
        (folder / name).parent.mkdir(parents=True)
        wconv.save(state, folder / f"{name}.safetensors")
    out = wconv.convert(tmp_path / "anima", tmp_path / "out", layout="mflux").output
    held = {name: list(wconv.open(out / name)) for name in ("transformer", "vae", "text_encoder")}
    assert held == {
        "transformer": ["llm_adapter.embed.weight"],
        "vae": ["quant_conv.conv3d.bias"],
        "text_encoder": ["norm.weight"],
    }
    (folder / "vae" / "qwen_image_vae.safetensors").unlink()
    with pytest.raises(WconvError, match="lacks the vae of anima: split_files/vae/qwen_image_vae"):
        wconv.convert(tmp_path / "anima", tmp_path / "other", layout="mflux")
