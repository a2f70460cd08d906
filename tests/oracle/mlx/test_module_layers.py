"""A pickled or scripted layer, laid out with no table, computes in mlx.nn what it computes in torch."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from tests.oracle.mlx.layers import CASES, Case
from tests.oracles import oracle
from wconv.consumers.mlx_nn.layer_types import LAYERS

pytestmark = pytest.mark.oracle


def randomise(torch: Any, module: Any) -> Any:
    """Gives every parameter and buffer random values, so that none is missed for being zero or one."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if tensor.dtype.is_floating_point:
                tensor.copy_(torch.rand_like(tensor) + 0.5 if "var" in name else torch.randn_like(tensor))
    return module.eval()


def save(torch: Any, module: Any, path: Path, how: str, inputs: list[Any]) -> None:
    if how == "pickled":
        torch.save(module, path)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.jit.script(module) if how == "scripted" else torch.jit.trace(module, tuple(inputs))
        made.save(path)


def mlx_output(case: Case, model: Any, inputs: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    mx = oracle("mlx.core")
    given = [mx.array(np.moveaxis(one, 1, -1) if case.images else one) for one in inputs]
    output = np.array(case.call(mx, model, given) if case.call else model(*given))
    return np.moveaxis(output, -1, 1) if case.images else output


WAYS = [
    (name, how)
    for name, case in CASES.items()
    for how in ("pickled", "scripted", "traced")
    if how != "scripted" or case.scripted
]


@pytest.mark.parametrize(("name", "how"), WAYS)
def test_a_layer_computes_the_same(name: str, how: str, tmp_path: Path) -> None:
    torch, nn = oracle("torch"), oracle("mlx.nn")
    case = CASES[name]
    module = randomise(torch, case.torch(torch.nn, oracle("transformers.pytorch_utils")))
    inputs = case.inputs()
    expected = case.pick(module(*map(torch.from_numpy, inputs))).detach().numpy()
    save(torch, module, tmp_path / "layer.pt", how, [torch.from_numpy(one) for one in inputs])

    constants = r"^CONSTANTS\."  # of traced code: no tensors of the layer
    report = wconv.convert(tmp_path / "layer.pt", tmp_path / "layer.safetensors", exclude=constants)
    assert report.layout == "mlx.nn"
    assert not report.unchanged
    model = case.mlx(nn)
    model.load_weights(os.fspath(tmp_path / "layer.safetensors"), strict=True)
    model.eval()
    np.testing.assert_allclose(mlx_output(case, model, inputs), expected, rtol=2e-5, atol=2e-5)


def test_every_row_of_the_table_is_compared() -> None:
    torch = oracle("torch")
    hub = oracle("transformers.pytorch_utils")
    compared = {
        f"{type(part).__module__}.{type(part).__qualname__}"
        for case in CASES.values()
        for part in case.torch(torch.nn, hub).modules()
    }
    assert compared >= set(LAYERS)


def test_every_layer_of_torch_with_tensors_and_a_counterpart_is_in_the_table() -> None:
    torch, nn = oracle("torch"), oracle("mlx.nn")
    known = {path.rpartition(".")[2] for path in LAYERS}
    shared = {name for name in dir(torch.nn) if name in dir(nn) and isinstance(getattr(nn, name), type)}
    without_tensors = {name for name in shared if not _has_parameters(torch.nn, name)}
    transformers = {name for name in shared if name.startswith("Transformer")}  # MLX's have other parts
    assert shared - without_tensors - transformers - {"Module", "Sequential"} <= known


def _has_parameters(nn: Any, name: str) -> bool:
    for arguments in ((), (4,), (4, 4), (4, 4, 4)):
        try:
            return bool(list(getattr(nn, name)(*arguments).parameters()))
        except TypeError:
            continue
    return False
