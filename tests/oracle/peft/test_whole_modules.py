"""PEFT's adapters of whole modules and of embeddings: merged, they compute what PEFT computes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from tests.oracle.consumers import IDS
from tests.oracle.peft.test_adapters import TARGETS, run
from tests.oracle.tiny import Tiny, save

pytestmark = pytest.mark.oracle

CONFIGS: dict[str, dict[str, Any]] = {
    "an output layer": {"target_modules": TARGETS, "modules_to_save": ["lm_head"]},
    "both ends": {"target_modules": TARGETS, "modules_to_save": ["lm_head", "embed_tokens"]},
    "an adapted embedding": {"target_modules": [*TARGETS, "embed_tokens"]},
    "biases": {"target_modules": TARGETS, "bias": "all"},
}


def test_merged_whole_modules_compute_what_peft_computes(tmp_path: Path) -> None:
    save(Tiny("qwen2", {"tie_word_embeddings": False}), tmp_path / "bf16")
    wconv.convert(tmp_path / "bf16", tmp_path / "model", dtype="float32", layout="hf")
    job = {"model": str(tmp_path / "model"), "ids": IDS}
    saved = {str(tmp_path / name): {"r": 4, "lora_alpha": 2, **config} for name, config in CONFIGS.items()}
    run({**job, "save": saved, "load": {}, "output": str(tmp_path / "saved.npz")}, tmp_path)
    load = {"model": str(tmp_path / "model")}
    for name in CONFIGS:
        load[name] = str(tmp_path / f"{name}, merged")
        wconv.convert(
            tmp_path / "model", tmp_path / f"{name}, merged", layout="hf", merge_lora=[str(tmp_path / name)]
        )
    run({**job, "save": {}, "load": load, "output": str(tmp_path / "loaded.npz")}, tmp_path)
    expected, loaded = np.load(tmp_path / "saved.npz"), np.load(tmp_path / "loaded.npz")
    for name in CONFIGS:
        assert np.abs(expected[str(tmp_path / name)] - loaded["model"]).max() > 1e-2
        np.testing.assert_allclose(loaded[name], expected[str(tmp_path / name)], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["an output layer", "biases"])
def test_mlx_lm_is_not_given_what_it_cannot_hold(name: str, tmp_path: Path) -> None:
    save(Tiny("qwen2", {"tie_word_embeddings": False}), tmp_path / "model")
    job = {"model": str(tmp_path / "model"), "ids": IDS, "load": {}}
    saved = {str(tmp_path / "peft"): {"r": 4, **CONFIGS[name]}}
    run({**job, "save": saved, "output": str(tmp_path / "saved.npz")}, tmp_path)
    with pytest.raises(wconv.WconvError, match=re.escape("takes the place of the model's own")):
        wconv.convert(tmp_path / "peft", tmp_path / "out", layout="mlx-lm")
