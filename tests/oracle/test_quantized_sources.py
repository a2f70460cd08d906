"""Quantized sources through mlx-lm: the values of transformers' own dequantizing, and MLX's own forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import wconv
from tests.oracle.consumers import assert_same_parameters, logits, mlx_lm_model, parameters
from tests.oracle.test_stored_in_8_bits import in_blocks, rewrite, say_quantized
from tests.oracle.tiny import Tiny, save
from tests.oracles import oracle

pytestmark = pytest.mark.oracle

QWEN3 = Tiny("qwen3", {"hidden_size": 256, "intermediate_size": 384, "head_dim": 64})
BLOCKS = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}


def test_blocks_of_fp8_are_decoded_as_transformers_does(tmp_path: Path) -> None:
    source = save(QWEN3, tmp_path / "source")
    rewrite(source, in_blocks)
    say_quantized(source, {**BLOCKS, "activation_scheme": "dynamic", "modules_to_not_convert": ["lm_head"]})
    decode = oracle("transformers.integrations.finegrained_fp8").Fp8Dequantize(None)
    stored = oracle("safetensors.torch").load_file(source / "model.safetensors")
    bfloat16 = oracle("torch").bfloat16
    theirs = {
        name: decode._dequantize_one(tensor, stored[f"{name}_scale_inv"], bfloat16)
        if f"{name}_scale_inv" in stored
        else tensor
        for name, tensor in stored.items()
        if not name.endswith("_scale_inv")
    }
    report = wconv.convert(source, tmp_path / "ours")
    assert report.layout == "mlx-lm"
    ours = parameters(mlx_lm_model(tmp_path / "ours"))
    assert theirs.keys() == ours.keys()
    mx, torch = oracle("mlx.core"), oracle("torch")
    read = {
        name: mx.array(tensor.contiguous().view(torch.uint16).numpy()).view(mx.bfloat16)
        for name, tensor in theirs.items()
    }
    assert_same_parameters(ours, read)


def in_powers(name: str, tensor: Any) -> dict[str, Any]:
    """fp8 with a power of two for each 32 rows by 32 columns."""
    torch = oracle("torch")
    if not name.endswith("_proj.weight"):
        return {name: tensor}
    rows, columns = tensor.shape
    parts = tensor.float().reshape(rows // 32, 32, columns // 32, 32)
    scale = torch.exp2(torch.ceil(torch.log2(parts.abs().amax((1, 3)) / 448)))
    codes = (parts / scale[:, None, :, None]).to(torch.float8_e4m3fn).reshape(rows, columns)
    return {name: codes, f"{name}_scale_inv": scale}


def in_integers(name: str, tensor: Any) -> dict[str, Any]:
    """compressed-tensors' 4 bits in groups of 32, whose scales are powers of two."""
    torch = oracle("torch")
    if not name.endswith("_proj.weight"):
        return {name: tensor}
    rows, columns = tensor.shape
    parts = tensor.float().reshape(rows, columns // 32, 32)
    scale = torch.exp2(torch.ceil(torch.log2(parts.abs().amax(-1) / 7)))
    codes = (torch.round(parts / scale[..., None]).clamp(-8, 7) + 8).to(torch.int64).reshape(rows, -1, 8)
    words = (codes << (torch.arange(8) * 4)).sum(-1).to(torch.int32)
    stem = name.removesuffix("weight")
    return {
        f"{stem}weight_packed": words,
        f"{stem}weight_scale": scale.to(torch.bfloat16),
        f"{stem}weight_shape": torch.tensor([rows, columns]),
    }


GROUP = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32}
INTEGERS = {
    "quant_method": "compressed-tensors",
    "format": "pack-quantized",
    "config_groups": {"group_0": {"targets": ["Linear"], "weights": GROUP}},
}


@pytest.mark.parametrize(
    ("change", "said", "mode"),
    [(in_powers, {**BLOCKS, "weight_block_size": [32, 32]}, "mxfp8"), (in_integers, INTEGERS, "affine")],
)
def test_mlxs_own_form_is_loaded_with_the_same_values(
    change: Any, said: dict[str, Any], mode: str, tmp_path: Path
) -> None:
    source = save(QWEN3, tmp_path / "source")
    rewrite(source, change)
    say_quantized(source, said)
    report = wconv.convert(source, tmp_path / "kept")
    assert any("every value" in note for note in report.notes)
    config = json.loads((tmp_path / "kept" / "config.json").read_text())
    assert config["quantization"]["mode"] == mode
    wconv.convert(source, tmp_path / "dense", dequantize=True)
    kept, dense = mlx_lm_model(tmp_path / "kept"), mlx_lm_model(tmp_path / "dense")
    mx, nn = oracle("mlx.core"), oracle("mlx.nn")
    values = dict(dense.named_modules())
    count = 0
    for name, module in kept.named_modules():
        if isinstance(module, nn.QuantizedLinear):
            found = mx.dequantize(
                module.weight,
                module.scales,
                module.get("biases"),
                group_size=module.group_size,
                bits=module.bits,
                mode=module.mode,
                dtype=mx.bfloat16,
            )
            assert mx.array_equal(found, values[name].weight), name
            count += 1
    assert count == 14
    one, other = logits(kept, wide=True), logits(dense, wide=True)
    assert mx.allclose(one, other, rtol=1e-3, atol=1e-3)
