"""Checkpoints published in 8 or 4 bits: the consumers' own decoding, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import wconv
from tests.oracle.consumers import (
    IDS,
    assert_same_logits,
    assert_same_parameters,
    logits,
    mlx_lm_conversion,
    mlx_lm_model,
    mlx_vlm_conversion,
    parameters,
    stored,
)
from tests.oracle.mlx_lm import language_moe
from tests.oracle.mlx_lm.language import THETA, UNTIED, YARN
from tests.oracle.mlx_vlm import vision
from tests.oracle.tiny import Tiny, as_published, save
from tests.oracles import oracle

pytestmark = pytest.mark.oracle

WIDE = {"hidden_size": 200, "intermediate_size": 300}
"""More than one block of 128 each way, and a part of one."""

GPT_OSS = Tiny(
    "gpt_oss",
    {
        "rope_parameters": {**YARN, "rope_theta": 5000.0},
        **UNTIED,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "head_dim": 16,
        "intermediate_size": 64,
    },
    {**THETA, "rope_scaling": YARN},
)


def rewrite(model: Path, change: Callable[[str, Any], dict[str, Any]]) -> None:
    """Replaces each tensor of a directory by what `change` makes of it, in one file."""
    files = oracle("safetensors.torch")
    state = {}
    for path in sorted(model.glob("*.safetensors")):
        for name, tensor in files.load_file(path).items():
            state.update(change(name, tensor))
        path.unlink()
    files.save_file(state, model / "model.safetensors", metadata={"format": "pt"})
    (model / "model.safetensors.index.json").unlink(missing_ok=True)


def say_quantized(model: Path, how: dict[str, Any]) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "quantization_config": how}))


def in_blocks(name: str, tensor: Any) -> dict[str, Any]:
    """DeepSeek's way: a scale for each 128 rows by 128 columns of a projection."""
    torch = oracle("torch")
    if not name.endswith(("_proj.weight", ".w1.weight", ".w2.weight", ".w3.weight")):
        return {name: tensor}
    rows, columns = (-(-length // 128) for length in tensor.shape)
    scale = torch.rand(rows, columns) * 0.01 + 0.001
    spread = scale.repeat_interleave(128, 0).repeat_interleave(128, 1)[: tensor.shape[0], : tensor.shape[1]]
    return {name: (tensor / spread).to(torch.float8_e4m3fn), f"{name}_scale_inv": scale}


def as_a_whole(name: str, tensor: Any) -> dict[str, Any]:
    """Mistral's way: one scale for each projection, of each expert, and one of its activations."""
    torch = oracle("torch")
    if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
        scale = tensor.abs().amax((1, 2), keepdim=True).float() / 448
        return {
            name: (tensor.float() / scale).to(torch.float8_e4m3fn),
            f"{name}_scale_inv": scale.to(torch.bfloat16),
            f"{name}_activation_scale": torch.tensor(0.5, dtype=torch.bfloat16),
        }
    if not (name.startswith("language_model.") and name.endswith("_proj.weight")):
        return {name: tensor}
    scale = tensor.abs().max().float() / 448
    return {
        name: (tensor.float() / scale).to(torch.float8_e4m3fn),
        f"{name}_scale_inv": scale.to(torch.bfloat16),
        name.replace("weight", "activation_scale"): torch.tensor(0.5, dtype=torch.bfloat16),
    }


def in_mxfp4(name: str, tensor: Any) -> dict[str, Any]:
    """gpt-oss's way: experts as blocks of 32 values of 4 bits, outputs before inputs, and their scales."""
    torch = oracle("torch")
    if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
        return {name: tensor}
    experts, inputs, outputs = tensor.shape
    blocks = torch.randint(0, 256, (experts, outputs, inputs // 32, 16), dtype=torch.uint8)
    scales = torch.randint(118, 123, (experts, outputs, inputs // 32), dtype=torch.uint8)
    return {f"{name}_blocks": blocks, f"{name}_scales": scales}


def test_deepseeks_blocks_are_decoded_as_mlx_lm_does(tmp_path: Path) -> None:
    (plain,) = (one for one in language_moe.MODELS if one.model_type == "deepseek_v3")
    tiny = Tiny("deepseek_v3", {**plain.config, **WIDE}, plain.hub)
    source = as_published(save(tiny, tmp_path / "modern"), tiny, tmp_path / "published")
    rewrite(source, in_blocks)
    say_quantized(source, {"quant_method": "fp8", "weight_block_size": [128, 128]})
    theirs = mlx_lm_conversion(source, tmp_path / "theirs")
    wconv.convert(source, tmp_path / "ours", dtype="float16")
    assert_same_parameters(stored(tmp_path / "ours"), stored(theirs))
    assert "quantization_config" not in json.loads((tmp_path / "ours" / "config.json").read_text())


@pytest.mark.parametrize("tiny", [one for one in vision.MODELS if one.model_type == "mistral3"], ids=str)
def test_mistrals_single_scales_are_decoded_as_mlx_vlm_does(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = as_published(save(tiny, tmp_path / "modern"), tiny, tmp_path / "published")
    rewrite(source, as_a_whole)
    theirs = mlx_vlm_conversion(source, tmp_path / "theirs", monkeypatch)
    wconv.convert(source, tmp_path / "ours", dtype="float16")
    assert_same_parameters(stored(tmp_path / "ours"), stored(theirs))


def test_gpt_osss_4_bit_experts_stay_in_4_bits(tmp_path: Path) -> None:
    modern = save(GPT_OSS, tmp_path / "modern")
    rewrite(modern, in_mxfp4)
    say_quantized(modern, {"quant_method": "mxfp4", "modules_to_not_convert": []})
    published = as_published(modern, GPT_OSS, tmp_path / "published")
    theirs = mlx_lm_model(mlx_lm_conversion(published, tmp_path / "theirs"))
    expected, said = parameters(theirs), logits(theirs, wide=True)
    for source in (modern, published):
        converted = tmp_path / f"{source.name}-ours"
        wconv.convert(source, converted, dtype="float16")
        assert_same_parameters(stored(converted), stored(tmp_path / "theirs"))
        ours = mlx_lm_model(converted)
        assert_same_parameters(parameters(ours), expected)
        assert_same_logits(logits(ours, wide=True), said)


def test_gpt_oss_in_16_bits_computes_what_torch_does(tmp_path: Path) -> None:
    torch, transformers = oracle("torch"), oracle("transformers")
    source = save(GPT_OSS, tmp_path / "source")
    wconv.convert(source, tmp_path / "ours", dtype="float32")
    ours = logits(mlx_lm_model(tmp_path / "ours"))
    model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    with torch.no_grad():
        theirs = model(torch.tensor(IDS)).logits
    assert torch.allclose(torch.tensor(ours.tolist()), theirs, atol=1e-3)
    assert theirs.abs().max() > 0.1
