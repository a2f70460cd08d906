"""Gemma 3n: transformers makes the language and audio parts, mlx-vlm's own module shapes the vision part.

Transformers builds this model's vision encoder with a package that brings torch models of its own; what is
published of it has the names of mlx-vlm's module and torch's order of axes.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import wconv
from tests.oracle.consumers import (
    assert_same_logits,
    assert_same_parameters,
    logits,
    mlx_lm_conversion,
    mlx_lm_model,
    mlx_vlm_conversion,
    mlx_vlm_model,
    parameters,
    stored,
    text_logits,
)
from tests.oracle.tiny import FIXTURE, SIZES, randomise
from tests.oracles import oracle

pytestmark = pytest.mark.oracle

TEXT = {
    **SIZES,
    "num_hidden_layers": 4,
    "head_dim": 16,
    "vocab_size_per_layer_input": 272,
    "num_kv_shared_layers": 2,
    "hidden_size_per_layer_input": 16,
    "laurel_rank": 8,
    "sliding_window": 16,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "activation_sparsity_pattern": [0.95, 0.0, 0.0, 0.0],
    "pad_token_id": 0,
}
AUDIO = {
    "hidden_size": 32,
    "input_feat_size": 80,
    "conf_num_hidden_layers": 2,
    "conf_num_attention_heads": 4,
    "vocab_offset": 270,
}
VISION = {"model_type": "gemma3n_vision", "vocab_offset": 268}


@pytest.fixture(autouse=True)
def shallow_vision(monkeypatch: pytest.MonkeyPatch) -> None:
    """One block of each kind in each stage, in place of eighty-four."""
    vision = oracle("mlx_vlm.models.gemma3n.vision")
    edge, inverted, attention = vision._er, vision._uir, vision._mmqa
    stages = [
        [edge(3, 16, 2)],
        [inverted(3, 5, 32, 2, 2.0)],
        [inverted(5, 0, 640, 2, 1.0), attention(2, 16, 2), inverted(0, 0, 640, 1, 1.0, is_multiscale=True)],
        [inverted(5, 5, 1280, 2, 1.0), attention(2, 16, 1)],
    ]
    monkeypatch.setattr(vision, "gemma3n_mobilenet_def", lambda: stages)


def vision_part() -> dict[str, Any]:
    """Random weights of mlx-vlm's vision module, with torch's order of axes and the hub's names."""
    torch = oracle("torch")
    module = oracle("mlx_vlm.models.gemma3n")
    shapes = {
        f"model.vision_tower.{name}": array.shape
        for name, array in parameters(module.VisionModel(module.VisionConfig.from_dict(VISION))).items()
    }
    text = module.TextConfig.from_dict({**TEXT, "model_type": "gemma3n_text"})
    embedders = {
        "vision": module.VisionConfig.from_dict(VISION),
        "audio": module.AudioConfig.from_dict(AUDIO),
    }
    for part, config in embedders.items():
        embedder = oracle("mlx_vlm.models.gemma3n.gemma3n").Gemma3nMultimodalEmbedder(config, text)
        for name, array in parameters(embedder).items():
            shapes[f"model.embed_{part}.{name}"] = array.shape
    torch.manual_seed(1)
    state = {}
    for name, shape in shapes.items():
        order = (0, 3, 1, 2) if len(shape) == 4 else range(len(shape))
        state[name] = torch.randn([shape[axis] for axis in order]) * 0.1
    return state


def unused_keys_and_values(state: dict[str, Any]) -> dict[str, Any]:
    """Those of layers that share an earlier one's: published, and wanted by both consumers, but unused."""
    layer, shared = "model.language_model.layers.0.", (2, 3)
    parts = [name.removeprefix(layer) for name in state if name.startswith(layer)]
    return {
        f"model.language_model.layers.{at}.{part}": state[layer + part] * (at + 1)
        for at in shared
        for part in parts
        if part.startswith(("self_attn.k_", "self_attn.v_"))
    }


def save(to: Path) -> Path:
    """A checkpoint as transformers 5 saves this model, apart from the fields of the vision encoder."""
    torch, transformers = oracle("torch"), oracle("transformers")
    text = transformers.CONFIG_MAPPING["gemma3n_text"](**TEXT)
    audio = transformers.CONFIG_MAPPING["gemma3n_audio"](**AUDIO)
    torch.manual_seed(0)
    parts = {
        "model.language_model.": transformers.AutoModel.from_config(text),
        "model.audio_tower.": transformers.AutoModel.from_config(audio),
    }
    state = vision_part()
    for prefix, model in parts.items():
        randomise(model)
        state.update({prefix + name: tensor for name, tensor in model.state_dict().items()})
    state.update(unused_keys_and_values(state))
    to.mkdir()
    state = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in state.items()}
    oracle("safetensors.torch").save_file(state, to / "model.safetensors", metadata={"format": "pt"})
    config = {
        "model_type": "gemma3n",
        "text_config": text.to_dict(),
        "audio_config": audio.to_dict(),
        "vision_config": VISION,
        "tie_word_embeddings": True,
        "dtype": "bfloat16",
    }
    (to / "config.json").write_text(json.dumps(config))
    shutil.copy(FIXTURE / "tokenizer.json", to)
    (to / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    return to


def as_older_transformers_saved(source: Path, to: Path) -> Path:
    shutil.copytree(source, to)
    config = json.loads((source / "config.json").read_text())
    del config["text_config"]["rope_parameters"]
    config["text_config"] |= {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": None}
    config["torch_dtype"] = config.pop("dtype")
    (to / "config.json").write_text(json.dumps(config))
    return to


def test_mlx_vlm_sees_its_own_conversion_with_all_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modern = save(tmp_path / "modern")
    published = as_older_transformers_saved(modern, tmp_path / "published")
    theirs = mlx_vlm_model(mlx_vlm_conversion(published, tmp_path / "theirs", monkeypatch))
    expected, said = parameters(theirs), text_logits(theirs)
    assert any(name.startswith("vision_tower.") for name in expected)
    for source in (modern, published):
        converted = tmp_path / f"{source.name}-ours"
        wconv.convert(source, converted, dtype="float16")
        assert_same_parameters(stored(converted), stored(tmp_path / "theirs"))
        ours = mlx_vlm_model(converted)
        assert_same_parameters(parameters(ours), expected)
        assert_same_logits(text_logits(ours), said)


def test_mlx_lm_gets_the_language_model_alone(tmp_path: Path) -> None:
    modern = save(tmp_path / "modern")
    published = as_older_transformers_saved(modern, tmp_path / "published")
    theirs = mlx_lm_model(mlx_lm_conversion(published, tmp_path / "theirs"))
    wconv.convert(modern, tmp_path / "mlx-vlm", dtype="float16")
    expected, said = parameters(theirs), logits(theirs)
    for source in (modern, published, tmp_path / "mlx-vlm"):
        converted = tmp_path / f"{source.name}-ours"
        wconv.convert(source, converted, dtype="float16", layout="mlx-lm")
        assert_same_parameters(stored(converted), stored(tmp_path / "theirs"))
        ours = mlx_lm_model(converted)
        assert_same_parameters(parameters(ours), expected)
        assert_same_logits(logits(ours), said)


def test_the_way_back_is_what_was_published(tmp_path: Path) -> None:
    source = save(tmp_path / "source")
    wconv.convert(source, tmp_path / "ours")
    wconv.convert(tmp_path / "ours", tmp_path / "back", layout="hf")
    assert_same_parameters(stored(tmp_path / "back"), stored(source))
