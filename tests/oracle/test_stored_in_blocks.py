"""Checkpoints published in 8-bit blocks, of models whose tiny ones mlx-lm's own module makes."""

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
from tests.oracle.mlx_lm import language, language_moe
from tests.oracle.mlx_vlm import vision
from tests.oracle.test_stored_in_8_bits import WIDE, in_blocks, rewrite, say_quantized
from tests.oracle.tiny import FIXTURE, Tiny, as_published, save
from tests.oracles import oracle

pytestmark = pytest.mark.oracle

IN_BLOCKS = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}
SIZES = {
    **WIDE,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 272,
    "max_position_embeddings": 512,
    "num_experts_per_tok": 2,
    "head_dim": 64,
    "torch_dtype": "bfloat16",
}
MODELS = {
    "minimax_m2": {
        **SIZES,
        "num_local_experts": 4,
        "shared_intermediate_size": 0,
        "rms_norm_eps": 1e-6,
        "rope_theta": 5000.0,
        "rotary_dim": 32,
    },
    "mimo_v2_flash": {
        **SIZES,
        "hybrid_layer_pattern": [0, 1],
        "moe_layer_freq": [0, 1],
        "add_swa_attention_sink_bias": True,
        "add_full_attention_sink_bias": False,
        "sliding_window_size": 16,
        "moe_intermediate_size": 150,
        "n_shared_experts": None,
        "n_routed_experts": 4,
        "routed_scaling_factor": None,
        "topk_method": "noaux_tc",
        "scoring_func": "sigmoid",
        "norm_topk_prob": True,
        "n_group": 1,
        "topk_group": 1,
        "layernorm_epsilon": 1e-5,
        "rope_theta": 5000.0,
        "swa_rope_theta": 700.0,
        "swa_num_attention_heads": 4,
        "swa_num_key_value_heads": 2,
        "v_head_dim": 48,
        "swa_head_dim": 64,
        "swa_v_head_dim": 48,
        "partial_rotary_factor": 0.5,
    },
}
MODULES = {"minimax_m2": "minimax", "mimo_v2_flash": "mimo_v2_flash"}
W123 = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}


def apart(name: str, array: Any) -> dict[str, Any]:
    """A stack of experts as published: each in a tensor of its own."""
    if ".switch_mlp." not in name:
        return {name: array}
    before, after = name.split(".switch_mlp.")
    projection = after.split(".")[0]
    if "block_sparse_moe" in before:
        projection = W123[projection]
    return {f"{before}.experts.{at}.{projection}.weight": one for at, one in enumerate(array)}


def published(model_type: str, to: Path) -> Path:
    """A checkpoint of random weights, in 8 bits."""
    mx = oracle("mlx.core")
    config = {"model_type": model_type, **MODELS[model_type]}
    module = oracle(f"mlx_lm.models.{MODULES[model_type]}")
    mx.random.seed(0)
    state: dict[str, Any] = {}
    for name, array in parameters(module.Model(module.ModelArgs.from_dict(config))).items():
        state.update(apart(name, (mx.random.normal(array.shape) * 0.1).astype(mx.bfloat16)))
    if model_type == "mimo_v2_flash":
        state["model.mtp.layers.0.input_layernorm.weight"] = mx.ones(WIDE["hidden_size"])
    to.mkdir()
    mx.save_safetensors(str(to / "model.safetensors"), state, metadata={"format": "pt"})
    (to / "config.json").write_text(json.dumps(config))
    shutil.copy(FIXTURE / "tokenizer.json", to)
    (to / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    rewrite(to, in_blocks)
    say_quantized(to, IN_BLOCKS)
    return to


@pytest.mark.parametrize("model_type", MODELS)
def test_mlx_lm_sees_its_own_decoding(model_type: str, tmp_path: Path) -> None:
    source = published(model_type, tmp_path / "source")
    theirs = mlx_lm_model(mlx_lm_conversion(source, tmp_path / "theirs"))
    wconv.convert(source, tmp_path / "ours", dtype="float16")
    assert_same_parameters(stored(tmp_path / "ours"), stored(tmp_path / "theirs"))
    ours = mlx_lm_model(tmp_path / "ours")
    assert_same_parameters(parameters(ours), parameters(theirs))
    assert_same_logits(logits(ours, wide=True), logits(theirs, wide=True))
    assert_same_logits(text_logits(mlx_vlm_model(tmp_path / "ours"), wide=True), logits(theirs, wide=True))


def in_8_bits(tiny: Tiny, modern: Path, to: Path) -> Path:
    source = as_published(modern, tiny, to)
    rewrite(source, in_blocks)
    say_quantized(source, IN_BLOCKS)
    return source


def decoded(source: Path, to: Path) -> Path:
    """The same checkpoint in 16 bits, as mlx-vlm's own function decodes blocks."""
    mx, decode = oracle("mlx.core"), oracle("mlx_vlm.fp8")._dequantize_fp8_weight
    shutil.copytree(source, to)
    state = stored(source)
    for name in [name for name in state if name.endswith("_scale_inv")]:
        weight = name.removesuffix("_scale_inv")
        state[weight] = decode(state[weight], state.pop(name)).astype(mx.bfloat16)
    mx.save_safetensors(str(to / "model.safetensors"), state, metadata={"format": "pt"})
    config = json.loads((source / "config.json").read_text())
    del config["quantization_config"]
    (to / "config.json").write_text(json.dumps(config))
    return to


@pytest.mark.parametrize(
    "tiny",
    [
        one
        for one in (*language.MODELS, *language_moe.MODELS)
        if one.model_type in ("qwen3", "qwen3_moe", "glm4_moe", "qwen3_next")
    ],
    ids=str,
)
def test_models_that_mlx_lm_takes_in_16_bits_alone_are_decoded(tiny: Tiny, tmp_path: Path) -> None:
    source = in_8_bits(tiny, save(tiny, tmp_path / "modern"), tmp_path / "source")
    with pytest.raises(ValueError, match="weight_scale_inv"):
        mlx_lm_model(source)
    theirs = mlx_lm_conversion(decoded(source, tmp_path / "decoded"), tmp_path / "theirs")
    wconv.convert(source, tmp_path / "ours", dtype="float16")
    assert_same_parameters(stored(tmp_path / "ours"), stored(theirs))
    ours = mlx_lm_model(tmp_path / "ours")
    assert_same_logits(logits(ours, wide=True), logits(mlx_lm_model(theirs), wide=True))


@pytest.mark.parametrize("tiny", [one for one in vision.MODELS if one.model_type == "qwen3_vl"], ids=str)
@pytest.mark.parametrize("dtype", [None, "float16"])
def test_mlx_vlm_makes_its_own_8_bits_of_published_ones(
    tiny: Tiny, dtype: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = in_8_bits(tiny, save(tiny, tmp_path / "modern"), tmp_path / "source")
    if dtype is None:
        theirs = mlx_vlm_model(source)
    else:
        theirs = mlx_vlm_model(mlx_vlm_conversion(source, tmp_path / "theirs", monkeypatch))
    wconv.convert(source, tmp_path / "ours", dtype=dtype)
    ours = mlx_vlm_model(tmp_path / "ours")
    assert_same_parameters(parameters(ours), parameters(theirs))
    assert_same_logits(text_logits(ours), text_logits(theirs))


@pytest.mark.parametrize("model_type", ["qwen3_vl_moe", "qwen3_5_moe"])
def test_vision_models_with_experts_are_decoded(
    model_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = next(one for one in vision.MODELS if one.model_type == model_type)
    source = in_8_bits(tiny, save(tiny, tmp_path / "modern"), tmp_path / "source")
    whole = decoded(source, tmp_path / "decoded")
    theirs = mlx_vlm_conversion(whole, tmp_path / "theirs", monkeypatch)
    wconv.convert(source, tmp_path / "ours", dtype="float16")
    assert_same_parameters(stored(tmp_path / "ours"), stored(theirs))


def in_4_bits(name: str, tensor: Any) -> dict[str, Any]:
    """Kimi K2's way: each expert's projections packed, eight values to a word."""
    torch = oracle("torch")
    if ".mlp.experts." not in name:
        return {name: tensor}
    rows, columns = tensor.shape
    words = torch.randint(-(2**31), 2**31 - 1, (rows, columns // 8), dtype=torch.int32)
    return {
        f"{name}_packed": words,
        f"{name}_scale": (torch.rand(rows, columns // 32) * 0.01 + 0.001).to(torch.bfloat16),
        f"{name}_shape": torch.tensor([rows, columns]),
    }


def test_experts_in_4_bits_stay_so(tmp_path: Path) -> None:
    tiny = next(one for one in language_moe.MODELS if one.model_type == "deepseek_v3")
    source = as_published(save(tiny, tmp_path / "modern"), tiny, tmp_path / "source")
    rewrite(source, in_4_bits)
    say_quantized(source, {"quant_method": "compressed-tensors", "format": "pack-quantized"})
    theirs = mlx_lm_model(source)
    report = wconv.convert(source, tmp_path / "dense", dtype="float16")
    assert any("are decoded" in note for note in report.notes)
    assert not any(name.endswith(".scales") for name in parameters(mlx_lm_model(tmp_path / "dense")))
    wconv.convert(source, tmp_path / "ours")
    ours = mlx_lm_model(tmp_path / "ours")
    assert any(name.endswith("switch_mlp.up_proj.scales") for name in parameters(ours))
    assert_same_parameters(parameters(ours), parameters(theirs))
    assert_same_logits(logits(ours), logits(theirs))


def test_experts_that_no_consumer_decodes_are_decoded_first(tmp_path: Path) -> None:
    tiny = next(one for one in language_moe.MODELS if one.model_type == "qwen3_moe")
    source = as_published(save(tiny, tmp_path / "modern"), tiny, tmp_path / "source")
    rewrite(source, in_4_bits)
    say_quantized(source, {"quant_method": "compressed-tensors", "format": "pack-quantized"})
    report = wconv.convert(source, tmp_path / "ours")
    assert any("of a compressed-tensors checkpoint are decoded" in note for note in report.notes)
    ours = parameters(mlx_lm_model(tmp_path / "ours"))
    assert any(name.endswith("switch_mlp.up_proj.weight") for name in ours)
    assert not any(name.endswith(".scales") for name in ours)
