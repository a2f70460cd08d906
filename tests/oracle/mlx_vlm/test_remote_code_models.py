"""Models that transformers does not have: built by the consumer itself, in the shape of their checkpoints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from tests.oracle.consumers import (
    assert_same_logits,
    assert_same_parameters,
    logits,
    mlx_lm_conversion,
    mlx_lm_model,
    parameters,
    stored,
)
from tests.oracle.tiny import FIXTURE
from tests.oracles import oracle
from wconv.consumers.layout_choice import choose_layout
from wconv.layouts.apply import apply
from wconv.tensors.lazy import from_array

pytestmark = pytest.mark.oracle

SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "vocab_size": 272,
    "max_position_embeddings": 512,
    "torch_dtype": "bfloat16",
}
LANGUAGE = {
    "internlm2": {"bias": False, "rope_theta": 5000.0, "tie_word_embeddings": False},
    "internlm3": {"bias": False, "rope_theta": 5000.0, "tie_word_embeddings": False},
    "phi3small": {
        "dense_attention_every_n_layers": 2,
        "ff_intermediate_size": 96,
        "gegelu_limit": 20.0,
        "layer_norm_epsilon": 1e-5,
        "mup_attn_multiplier": 1.0,
    },
}
BUFFERS = {
    "internlm2": "model.layers.0.attention.rope.inv_freq",
    "internlm3": "model.layers.0.attention.rope.inv_freq",
    "phi3small": "model.layers.0.self_attn.rotary_emb.inv_freq",
}
NEEDS_A_GPU = ("phi3small",)
"""Its sparse attention crashes MLX where there is none, with anyone's weights."""

VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


@pytest.mark.parametrize("model_type", LANGUAGE)
def test_mlx_lm_loads_what_its_own_conversion_gives(model_type: str, tmp_path: Path) -> None:
    mx = oracle("mlx.core")
    config = {**SIZES, "model_type": model_type, **LANGUAGE[model_type]}
    module = oracle(f"mlx_lm.models.{model_type}")
    made = parameters(module.Model(module.ModelArgs.from_dict(config)))
    mx.random.seed(0)
    state = {name: mx.random.normal(array.shape).astype(mx.bfloat16) for name, array in made.items()}
    state[BUFFERS[model_type]] = mx.ones(8)
    source = tmp_path / "source"
    source.mkdir()
    mx.save_safetensors(str(source / "model.safetensors"), state, metadata={"format": "pt"})
    (source / "config.json").write_text(json.dumps(config))
    shutil.copy(FIXTURE / "tokenizer.json", source)
    (source / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    theirs = mlx_lm_model(mlx_lm_conversion(source, tmp_path / "theirs"))
    wconv.convert(source, tmp_path / "ours", dtype="float16")
    assert_same_parameters(stored(tmp_path / "ours"), stored(tmp_path / "theirs"))
    ours = mlx_lm_model(tmp_path / "ours")
    assert_same_parameters(parameters(ours), parameters(theirs))
    if model_type not in NEEDS_A_GPU:
        assert_same_logits(logits(ours), logits(theirs))


def internvl_chat() -> Any:
    module = oracle("mlx_vlm.models.internvl_chat")
    config = module.ModelConfig.from_dict(
        {"model_type": "internvl_chat", "text_config": {}, "vision_config": {}}
    )
    config.text_config = module.TextConfig.from_dict({**SIZES, "model_type": "qwen2"})
    config.vision_config = module.VisionConfig.from_dict({**VISION, "model_type": "intern_vit_6b"})
    return module.Model(config)


def phi3_v() -> Any:
    module = oracle("mlx_vlm.models.phi3_v")
    return module.Model(module.ModelConfig.from_dict({**SIZES, "model_type": "phi3_v"}))


@pytest.mark.parametrize("make", [internvl_chat, phi3_v])
def test_names_shapes_and_patches_are_those_of_mlx_vlms_module(make: Any) -> None:
    shapes = {name: array.shape for name, array in parameters(make()).items()}
    (patches,) = (name for name in shapes if name.endswith("patch_embedding.weight"))
    values = np.random.default_rng(0).standard_normal(shapes[patches], np.float32)
    source = {name: from_array(np.broadcast_to(np.float32(0), shape)) for name, shape in shapes.items()}
    source[patches] = from_array(values.transpose(0, 3, 1, 2))
    source["vision_model.embeddings.position_ids"] = from_array(np.arange(4))
    config = {"model_type": make.__name__, "tie_word_embeddings": False}
    applied = apply(choose_layout("auto", config, source), source, config)
    assert {name: tensor.shape for name, tensor in applied.tensors.items()} == shapes
    assert applied.tensors[patches].numpy().tobytes() == values.tobytes()
    assert list(applied.dropped) == ["vision_model.embeddings.position_ids"]
