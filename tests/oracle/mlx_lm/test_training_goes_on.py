"""A fine-tuning run of a language model, saved as trainers save it, goes on in mlx-lm."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from tests.oracle.consumers import IDS, mlx_lm_model, parameters
from tests.oracle.mlx_lm.language import ROPE, TIED, UNTIED
from tests.oracle.tiny import FIXTURE, SIZES, Tiny
from tests.oracles import oracle

pytestmark = pytest.mark.oracle

MODELS = (Tiny("llama", {**ROPE, **UNTIED}), Tiny("qwen2", {**ROPE, **TIED}, variant="tied"))
ADAMW = {"betas": (0.9, 0.95), "eps": 1e-3}


def torch_step(model: Any, optimizer: Any) -> None:
    torch = oracle("torch")
    optimizer.zero_grad()
    ids = torch.tensor(IDS)
    logits = model(ids).logits[:, :-1].flatten(0, 1)
    torch.nn.functional.cross_entropy(logits, ids[:, 1:].flatten()).backward()
    optimizer.step()


def mlx_step(model: Any, optimizer: Any) -> None:
    mx, nn = oracle("mlx.core"), oracle("mlx.nn")
    ids = mx.array(IDS)

    def loss() -> Any:
        return nn.losses.cross_entropy(model(ids)[:, :-1], ids[:, 1:], reduction="mean")

    optimizer.update(model, nn.value_and_grad(model, loss)()[1])
    mx.eval(model.parameters(), optimizer.state)


def save(model: Any, optimizer: Any, to: Path) -> Path:
    """One legacy `.bin` and `optimizer.pt`, whose two groups number the matrices first, then the vectors."""
    torch = oracle("torch")
    to.mkdir()
    model.config.save_pretrained(to)
    torch.save(model.state_dict(), to / "pytorch_model.bin")
    torch.save(optimizer.state_dict(), to / "optimizer.pt")
    shutil.copy(FIXTURE / "tokenizer.json", to)
    (to / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    return to


@pytest.mark.parametrize("tiny", MODELS, ids=str)
def test_training_goes_on_in_mlx_lm(tiny: Tiny, tmp_path: Path) -> None:
    torch, transformers = oracle("torch"), oracle("transformers")
    mx, optim, utils = oracle("mlx.core"), oracle("mlx.optimizers"), oracle("mlx.utils")
    torch.manual_seed(2)
    config = transformers.CONFIG_MAPPING[tiny.model_type](**{**SIZES, **tiny.config})
    model = transformers.AutoModelForCausalLM.from_config(config).float()
    decayed = [one for one in model.parameters() if one.ndim > 1]
    others = [one for one in model.parameters() if one.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=2e-3, **ADAMW)
    for _ in range(3):
        torch_step(model, optimizer)
    wconv.convert(save(model, optimizer, tmp_path / "run"), tmp_path / "out", optimizer=True)

    resumed = mlx_lm_model(tmp_path / "out")
    theirs = optim.MultiOptimizer(
        [
            optim.AdamW(0.0, list(ADAMW["betas"]), ADAMW["eps"], weight_decay=0.1, bias_correction=True),
            optim.AdamW(0.0, list(ADAMW["betas"]), ADAMW["eps"], weight_decay=0.0, bias_correction=True),
        ],
        [lambda name, weight: weight.ndim > 1],
    )
    state = mx.load(str(tmp_path / "out" / "optimizer.safetensors"))
    assert int(state["states.0.step"]) == int(state["states.1.step"]) == 3
    theirs.state = utils.tree_unflatten(list(state.items()))
    for number in range(2):
        torch_step(model, optimizer)
        mlx_step(resumed, theirs)
        wconv.convert(save(model, optimizer, tmp_path / f"next{number}"), tmp_path / f"next{number}-MLX")
        expected = wconv.load(tmp_path / f"next{number}-MLX")
        stepped = parameters(resumed)
        assert expected.keys() == stepped.keys()
        for name, array in expected.items():
            np.testing.assert_allclose(np.array(stepped[name]), array, rtol=2e-5, atol=2e-6, err_msg=name)
    assert {name for name, _ in utils.tree_flatten(theirs.state)} == set(state)
