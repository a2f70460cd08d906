"""A training checkpoint continues in MLX: the next step there is torch's next step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from tests.oracles import oracle
from wconv.errors import LayoutError

pytestmark = pytest.mark.oracle

CLASSES = 3


def torch_model(torch: Any) -> Any:
    """A convolution, a transposed one, norms, linear layers: axes that move, and buffers."""
    nn = torch.nn
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.Tanh(),
        nn.ConvTranspose2d(4, 3, 2, bias=False),
        nn.Flatten(),
        nn.Linear(3 * 6 * 6, 8),
        nn.LayerNorm(8),
        nn.Linear(8, CLASSES),
    )


def mlx_model(nn: Any, mx: Any) -> Any:
    class Flatten(nn.Module):  # type: ignore[misc]
        def __call__(self, x: Any) -> Any:
            return mx.flatten(mx.transpose(x, (0, 3, 1, 2)), 1)  # torch's order of elements

    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm(4),
        nn.Tanh(),
        nn.ConvTranspose2d(4, 3, 2, bias=False),
        Flatten(),
        nn.Linear(3 * 6 * 6, 8),
        nn.LayerNorm(8),
        nn.Linear(8, CLASSES),
    )


def batches(count: int) -> list[tuple[Any, Any]]:
    random = np.random.default_rng(7)
    return [
        (random.standard_normal((4, 2, 5, 5), np.float32), random.standard_normal((4, CLASSES), np.float32))
        for _ in range(count)
    ]


def torch_step(torch: Any, model: Any, optimizer: Any, batch: tuple[Any, Any]) -> None:
    """One step on the mean squared error, with the norms in evaluation, as in MLX below."""
    model.eval()
    optimizer.zero_grad()
    x, y = map(torch.from_numpy, batch)
    ((model(x) - y) ** 2).mean().backward()
    optimizer.step()


def mlx_step(model: Any, optimizer: Any, batch: tuple[Any, Any], extra: Callable[[Any, Any], Any]) -> None:
    mx, nn = oracle("mlx.core"), oracle("mlx.nn")
    x, y = mx.array(np.moveaxis(batch[0], 1, -1)), mx.array(batch[1])
    model.eval()
    gradients = nn.value_and_grad(model, lambda: ((model(x) - y) ** 2).mean())()[1]
    optimizer.update(model, extra(gradients, model))
    mx.eval(model.parameters(), optimizer.state)


def saved(torch: Any, tmp_path: Path, model: Any, optimizer: Any, form: str) -> Path:
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}
    if form == "lightning":
        weights = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
        state = {"state_dict": weights, "optimizer_states": [optimizer.state_dict()], "global_step": 3}
    elif form == "module":
        state = {"model": model, "optimizer_state_dict": optimizer.state_dict()}
    torch.save(state, tmp_path / "checkpoint.pt")
    return tmp_path / "checkpoint.pt"


def unchanged(gradients: Any, model: Any) -> Any:
    return gradients


def decayed(gradients: Any, model: Any) -> Any:
    """Adam's weight decay, which MLX leaves to the caller."""
    from mlx.utils import tree_map

    return tree_map(lambda gradient, weight: gradient + 0.1 * weight, gradients, model.trainable_parameters())


ADAM = {"lr": 3e-3, "betas": (0.8, 0.95), "eps": 1e-3}
MLX_ADAM = {"learning_rate": 3e-3, "betas": [0.8, 0.95], "eps": 1e-3, "bias_correction": True}
OPTIMIZERS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any], Callable[[Any, Any], Any]]] = {
    "Adam": ("Adam", ADAM, "Adam", MLX_ADAM, unchanged),
    "Adam with decay": ("Adam", ADAM | {"weight_decay": 0.1}, "Adam", MLX_ADAM, decayed),
    "AdamW": ("AdamW", ADAM | {"weight_decay": 0.1}, "AdamW", MLX_ADAM | {"weight_decay": 0.1}, unchanged),
    "SGD": ("SGD", {"lr": 0.05}, "SGD", {"learning_rate": 0.05}, unchanged),
    "SGD with momentum": (
        "SGD",
        {"lr": 0.05, "momentum": 0.9, "dampening": 0.2, "weight_decay": 0.01},
        "SGD",
        {"learning_rate": 0.05, "momentum": 0.9, "dampening": 0.2, "weight_decay": 0.01},
        unchanged,
    ),
    "SGD with Nesterov momentum": (
        "SGD",
        {"lr": 0.05, "momentum": 0.9, "nesterov": True},
        "SGD",
        {"learning_rate": 0.05, "momentum": 0.9, "nesterov": True},
        unchanged,
    ),
}


@pytest.mark.parametrize("named", [False, True], ids=["numbered", "named"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_next_step_is_torchs(name: str, named: bool, tmp_path: Path) -> None:
    torch, mx, nn, optim = oracle("torch"), oracle("mlx.core"), oracle("mlx.nn"), oracle("mlx.optimizers")
    kind, arguments, mlx_kind, mlx_arguments, extra = OPTIMIZERS[name]
    model = torch_model(torch)
    parameters = model.named_parameters() if named else model.parameters()
    optimizer = getattr(torch.optim, kind)(parameters, **arguments)
    *before, last, after = batches(5)
    for batch in before:
        torch_step(torch, model, optimizer, batch)

    report = wconv.convert(
        saved(torch, tmp_path, model, optimizer, "module"), tmp_path / "out", optimizer=True
    )
    assert any(f"mlx.optimizers.{mlx_kind}(" in note for note in report.notes)
    resumed, theirs = mlx_model(nn, mx), getattr(optim, mlx_kind)(**mlx_arguments | {"learning_rate": 9.0})
    resumed.load_weights(str(tmp_path / "out" / "model.safetensors"))
    theirs.state = _unflattened(tmp_path / "out" / "optimizer.safetensors")
    expected_names = {path for path, _ in _flat(theirs.state)}
    for batch in (last, after):
        torch_step(torch, model, optimizer, batch)
        mlx_step(resumed, theirs, batch, extra)
        assert_same_weights(torch, mx, model, resumed, tmp_path)
    if "momentum" in name or kind != "SGD":
        assert expected_names == {path for path, _ in _flat(theirs.state)}


def assert_same_weights(torch: Any, mx: Any, model: Any, resumed: Any, tmp_path: Path) -> None:
    """Torch's weights, laid out for MLX, against those that MLX has stepped to."""
    torch.save(model, tmp_path / "next.pt")
    wconv.convert(tmp_path / "next.pt", tmp_path / "next.safetensors", overwrite=True)
    expected = mx.load(str(tmp_path / "next.safetensors"))
    stepped = dict(_flat(resumed.parameters()))
    assert expected.keys() == stepped.keys()
    for name, tensor in expected.items():
        np.testing.assert_allclose(
            np.array(stepped[name]), np.array(tensor), rtol=1e-5, atol=1e-6, err_msg=name
        )


def _unflattened(path: Path) -> Any:
    from mlx.utils import tree_unflatten

    return tree_unflatten(list(oracle("mlx.core").load(str(path)).items()))


def _flat(tree: Any) -> list[tuple[str, Any]]:
    from mlx.utils import tree_flatten

    return list(tree_flatten(tree))


@pytest.mark.parametrize("form", ["plain", "lightning"])
def test_state_dicts_of_training_programs(form: str, tmp_path: Path) -> None:
    """Without classes names and shapes are torch's own; the moments have the same as the weights."""
    torch, mx = oracle("torch"), oracle("mlx.core")
    model = torch_model(torch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for batch in batches(2):
        torch_step(torch, model, optimizer, batch)
    wconv.convert(saved(torch, tmp_path, model, optimizer, form), tmp_path / "out", optimizer=True)
    weights = mx.load(str(tmp_path / "out" / "model.safetensors"))
    state = mx.load(str(tmp_path / "out" / "optimizer.safetensors"))
    assert int(state.pop("step")) == 2
    assert float(state.pop("learning_rate")) == pytest.approx(1e-3)
    prefix = "model." if form == "lightning" else ""
    for name, parameter in model.named_parameters():
        kept = optimizer.state[parameter]
        assert weights[prefix + name].shape == tuple(parameter.shape)
        np.testing.assert_array_equal(np.array(state.pop(f"{prefix}{name}.m")), kept["exp_avg"].numpy())
        np.testing.assert_array_equal(np.array(state.pop(f"{prefix}{name}.v")), kept["exp_avg_sq"].numpy())
    assert not state


def test_groups_with_options_of_their_own_are_a_multi_optimizer(tmp_path: Path) -> None:
    torch, mx, nn, optim = oracle("torch"), oracle("mlx.core"), oracle("mlx.nn"), oracle("mlx.optimizers")
    model = torch_model(torch)
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=3e-3)
    *before, last = batches(4)
    for batch in before:
        torch_step(torch, model, optimizer, batch)
    wconv.convert(saved(torch, tmp_path, model, optimizer, "module"), tmp_path / "out", optimizer=True)
    resumed = mlx_model(nn, mx)
    resumed.load_weights(str(tmp_path / "out" / "model.safetensors"))
    theirs = optim.MultiOptimizer(
        [
            optim.AdamW(learning_rate=9.0, weight_decay=0.1, bias_correction=True),
            optim.AdamW(learning_rate=9.0, weight_decay=0.0, bias_correction=True),
        ],
        [lambda name, weight: weight.ndim > 1],
    )
    theirs.state = _unflattened(tmp_path / "out" / "optimizer.safetensors")
    torch_step(torch, model, optimizer, last)
    mlx_step(resumed, theirs, last, unchanged)
    assert_same_weights(torch, mx, model, resumed, tmp_path)


def test_biases_that_mlx_adds_up_have_no_state_there(tmp_path: Path) -> None:
    torch = oracle("torch")
    model = torch.nn.Sequential(torch.nn.LSTM(3, 4))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(5, 3))[0].sum().backward()
    optimizer.step()
    source = saved(torch, tmp_path, model, optimizer, "module")
    with pytest.raises(LayoutError, match=r"sum of 0\.bias_ih_l0 and 0\.bias_hh_l0, each"):
        wconv.convert(source, tmp_path / "out", optimizer=True)
