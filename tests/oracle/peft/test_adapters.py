"""Adapters against PEFT: what it saves is read, what is written it loads, and all compute the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import wconv
from tests.making import bits
from tests.oracle.consumers import IDS, mlx_lm_model, silence
from tests.oracle.tiny import Tiny, save
from tests.oracles import directory_of, oracle, run_script

pytestmark = pytest.mark.oracle

TARGETS = ["q_proj", "down_proj"]
CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {"r": 4, "lora_alpha": 2},
    "of rank-stabilised scale": {"r": 4, "lora_alpha": 2, "use_rslora": True},
    "decomposed": {"r": 4, "lora_alpha": 4, "use_dora": True},
    "of several scales": {"r": 4, "lora_alpha": 2, "alpha_pattern": {"down_proj": 6}},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a model, PEFT's adapters, what becomes of them, and what PEFT computes with all."""
    place = tmp_path_factory.mktemp("peft")
    save(Tiny("llama", {"tie_word_embeddings": False}), place / "bf16")
    wconv.convert(place / "bf16", place / "model", dtype="float32", layout="hf")
    job = {"model": str(place / "model"), "ids": IDS}
    saved = {str(place / name): {**config, "target_modules": TARGETS} for name, config in CONFIGS.items()}
    run({**job, "save": saved, "load": {}, "output": str(place / "saved.npz")}, place)
    load = {"model": str(place / "model")}
    for name in CONFIGS:
        wconv.convert(place / name, place / f"{name}, mlx", layout="mlx-lm")
        wconv.convert(place / f"{name}, mlx", place / f"{name}, back", layout="peft")
        wconv.convert(place / name, place / f"{name}, again", layout="peft")
        wconv.convert(place / "model", place / f"{name}, merged", layout="hf", merge_lora=[str(place / name)])
        load.update({f"{name}, {how}": str(place / f"{name}, {how}") for how in ("back", "again", "merged")})
    run({**job, "save": {}, "load": load, "output": str(place / "loaded.npz")}, place)
    return place


def run(job: dict[str, Any], place: Path) -> None:
    """Lets PEFT do a job in a process of its own."""
    oracle("torch")
    packages = [directory_of("diffusers"), directory_of("peft")]
    (place / "job.json").write_text(json.dumps({**job, "packages": packages}))
    run_script(Path(__file__).with_name("peft_adapters.py"), str(place / "job.json"))


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("how", ["back", "again", "merged"])
def test_peft_computes_with_what_is_written_what_it_computed_with_its_own(
    name: str, how: str, place: Path
) -> None:
    expected = np.load(place / "saved.npz")[str(place / name)]
    loaded = np.load(place / "loaded.npz")
    assert np.abs(expected - loaded["model"]).max() > 1e-2
    np.testing.assert_allclose(loaded[f"{name}, {how}"], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_pefts_own_matrices_come_back_to_the_last_bit(name: str, place: Path) -> None:
    given, again, back = (
        load_file(place / one / "adapter_model.safetensors")
        for one in (name, f"{name}, again", f"{name}, back")
    )
    assert {key: bits(array) for key, array in again.items()} == {
        key: bits(array) for key, array in given.items()
    }
    if name != "of several scales":  # mlx-lm has one for the whole model
        assert {key: bits(array) for key, array in back.items()} == {
            key: bits(array) for key, array in given.items()
        }


@pytest.mark.parametrize("name", CONFIGS)
def test_mlx_lm_computes_the_same_with_pefts_adapter(name: str, place: Path, tmp_path: Path) -> None:
    mx, utils = oracle("mlx.core"), oracle("mlx_lm.tuner.utils")
    wconv.convert(place / "model", tmp_path / "model", layout="mlx-lm")
    model = mlx_lm_model(tmp_path / "model")
    with silence():
        adapted = utils.load_adapters(model, str(place / f"{name}, mlx"))
    adapted.eval()
    expected = np.load(place / "saved.npz")[str(place / name)]
    np.testing.assert_allclose(np.array(adapted(mx.array(IDS))), expected, rtol=1e-3, atol=1e-3)
