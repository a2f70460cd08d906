"""Mixtures as transformers holds them, experts in two tensors for each layer: the same comes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

import wconv
from tests.layouts.test_fused_experts import TABLES
from tests.oracle.consumers import assert_same_parameters, stored
from tests.oracle.mlx_lm import language_moe
from tests.oracle.tiny import Tiny, save
from tests.oracles import oracle

pytestmark = pytest.mark.oracle


@pytest.mark.parametrize(
    "tiny", [one for one in language_moe.MODELS if one.model_type in TABLES and not one.variant], ids=str
)
def test_what_transformers_saves_as_it_holds_it_becomes_the_same(tiny: Tiny, tmp_path: Path) -> None:
    torch, transformers = oracle("torch"), oracle("transformers")
    saved = save(tiny, tmp_path / "saved")
    model = getattr(transformers, tiny.auto).from_pretrained(saved, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "single")
    model.save_pretrained(tmp_path / "fused", save_original_format=False)
    assert any(name.endswith("mlp.experts.gate_up_proj") for name in wconv.open(tmp_path / "fused"))
    for name in ("single", "fused"):
        wconv.convert(tmp_path / name, tmp_path / f"{name}-ours", layout="mlx-lm", dtype="float16")
    assert_same_parameters(stored(tmp_path / "fused-ours"), stored(tmp_path / "single-ours"))
