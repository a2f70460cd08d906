"""`wconv inspect model.pt --stub`: the skeleton takes the converted weights and computes what torch does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from tests.oracle.mlx.layers import CASES
from tests.oracle.mlx.test_module_layers import randomise
from tests.oracles import oracle
from wconv.consumers.mlx_nn.stub import stub

pytestmark = pytest.mark.oracle

CELLS = {name for name in CASES if "Cell" in name}
"""Layers of one step, which MLX has for sequences alone."""


def made(path: Path, tmp_path: Path) -> Any:
    """The skeleton of a file, with its converted weights."""
    opened = wconv.open(path)
    names: dict[str, Any] = {}
    exec(compile(stub(opened.tensors, opened.modules), "stub.py", "exec"), names)
    wconv.convert(path, tmp_path / "weights.safetensors")
    model = names["make_model"]()
    model.load_weights(os.fspath(tmp_path / "weights.safetensors"), strict=True)
    model.eval()
    return model


def first(output: Any) -> Any:
    return first(output[0]) if isinstance(output, tuple) else output


@pytest.mark.parametrize("name", sorted(CASES.keys()))
def test_a_layer_computes_the_same(name: str, tmp_path: Path) -> None:
    torch, mx = oracle("torch"), oracle("mlx.core")
    case = CASES[name]
    module = randomise(torch, case.torch(torch.nn, oracle("transformers.pytorch_utils")))
    inputs = case.inputs()
    expected = case.pick(module(*map(torch.from_numpy, inputs))).detach().numpy()
    torch.save(module, tmp_path / "layer.pt")
    model = made(tmp_path / "layer.pt", tmp_path)
    given = [mx.array(np.moveaxis(one, 1, -1) if case.images else one) for one in inputs]
    output = np.array(first(case.call(mx, model, given) if case.call and name in CELLS else model(*given)))
    output = np.moveaxis(output, -1, 1) if case.images else output
    np.testing.assert_allclose(output, expected, rtol=2e-5, atol=2e-5)


def test_a_sequence_of_layers_is_complete(tmp_path: Path) -> None:
    torch, mx = oracle("torch"), oracle("mlx.core")
    nn = torch.nn
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.GELU(approximate="tanh"), nn.Dropout(0.5)),
        nn.MaxPool2d(2),
        nn.LeakyReLU(0.3),
        nn.ELU(0.7),
        nn.AvgPool2d((2, 1)),
        nn.Identity(),
        nn.GroupNorm(2, 8),
        nn.SiLU(),
    )
    randomise(torch, model)
    torch.save(model, tmp_path / "model.pt")
    inputs = np.random.default_rng(0).standard_normal((2, 3, 16, 20), np.float32)
    expected = model(torch.from_numpy(inputs)).detach().numpy()
    ours = made(tmp_path / "model.pt", tmp_path)
    output = np.moveaxis(np.array(ours(mx.array(np.moveaxis(inputs, 1, -1)))), -1, 1)
    np.testing.assert_allclose(output, expected, rtol=2e-5, atol=2e-5)


def test_what_mlx_does_not_have_says_what_to_write(tmp_path: Path) -> None:
    torch, mx = oracle("torch"), oracle("mlx.core")
    torch.save(torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Flatten()), tmp_path / "model.pt")
    model = made(tmp_path / "model.pt", tmp_path)
    with pytest.raises(NotImplementedError, match=r"Flatten: MLX has channels last"):
        model(mx.zeros((2, 4)))
