"""Adapters of some only of the parts that a layout makes one tensor of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import wconv
from tests.lora_files import grid
from tests.making import bits, random, write_directory, write_file
from wconv.errors import WconvError

EXPERT = "model.layers.0.mlp.experts.{}.gate_proj"


def mixture(tmp_path: Path, *dtypes: Any) -> tuple[Path, dict[str, Any]]:
    """A mixture of two experts, each in a dtype of its own."""
    layer = "model.layers.0."
    tensors = {
        f"{layer}mlp.experts.{at}.{name}.weight": random((8, 8), dtype, at)
        for at, dtype in enumerate(dtypes)
        for name in ("gate_proj", "up_proj", "down_proj")
    }
    for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate"):
        tensors[f"{layer}{name}.weight"] = random((8, 8))
    tensors.update({name: random((16, 8)) for name in ("model.embed_tokens.weight", "lm_head.weight")})
    config = {"model_type": "qwen3_moe", "num_experts": 2, "num_hidden_layers": 1}
    return write_directory(tmp_path / "mixture", [tensors], config), tensors


@pytest.mark.parametrize("dtype", [None, "float16", "float32"])
def test_one_of_several_stacked_experts_is_merged(dtype: str | None, tmp_path: Path) -> None:
    source, before = mixture(tmp_path, ml_dtypes.bfloat16, ml_dtypes.bfloat16)
    one = EXPERT.format(1)
    down, up = grid((2, 8), 1, np.float32), grid((8, 2), 2, np.float32)
    lora = write_file(
        tmp_path / "lora.safetensors", {f"{one}.lora_A.weight": down, f"{one}.lora_B.weight": up}
    )
    out = wconv.convert(source, tmp_path / "out", dtype=dtype, merge_lora=[str(lora)]).output
    got = wconv.load(out)["model.layers.0.mlp.switch_mlp.gate_proj.weight"]
    kind = np.dtype(dtype or ml_dtypes.bfloat16)
    assert bits(np.asarray(got[0])) == bits(before[f"{EXPERT.format(0)}.weight"].astype(kind))
    assert bits(np.asarray(got[1])) == bits(
        (before[f"{one}.weight"].astype(np.float32) + up @ down).astype(kind)
    )


def test_experts_of_several_dtypes_are_refused_with_and_without_an_adapter(tmp_path: Path) -> None:
    source, _ = mixture(tmp_path, ml_dtypes.bfloat16, np.float32)
    one = EXPERT.format(1)
    tensors = {
        f"{one}.lora_A.weight": grid((2, 8), 1, np.float32),
        f"{one}.lora_B.weight": grid((8, 2), 2, np.float32),
    }
    lora = write_file(tmp_path / "lora.safetensors", tensors)
    for adapters in ([], [str(lora)]):
        with pytest.raises(WconvError, match=r"cannot be stacked: float32 .* cannot be joined to bfloat16"):
            wconv.convert(source, tmp_path / "out", merge_lora=adapters)
    assert not (tmp_path / "out").exists()
