"""Layers and training can be imported and named; whoever makes or calls one gets the error that names it.

Covers `torch/placeholders.py`, `torch/install.py`.
"""

from __future__ import annotations

import importlib.metadata
import sys

import pytest

import wconv.torch as shim

LINEAR = [
    [[0.04938792809844017, -0.4259566068649292], [0.22515933215618134, 0.2218763530254364]],
    [-0.37793222069740295, -0.10597917437553406],
]


@pytest.fixture(autouse=True)
def _in_torchs_place() -> object:
    with shim.installed():
        yield


def test_a_module_of_layers_can_be_imported_and_defined() -> None:
    import torch
    import torch.nn.functional as functional
    from torch import nn
    from torch.nn.modules.batchnorm import _BatchNorm
    from torch.optim.lr_scheduler import LRScheduler

    class Block(nn.Conv2d):
        def __init__(self, act: object = nn.ReLU()) -> None:
            super().__init__(3, 4, 2)

    @torch.jit.script
    def double(x: object) -> object:
        return x

    @torch.jit.unused
    def single(x: object) -> object:
        return x

    assert issubclass(Block, nn.Module)
    assert not isinstance(nn.Module(), (nn.Linear, _BatchNorm))
    assert double(3) == single(3) == 3
    for make in (Block, nn.Embedding, _BatchNorm, LRScheduler, functional.gelu, torch.linalg.svd):
        with pytest.raises(NotImplementedError, match="not offered by wconv"):
            make()


def test_a_linear_layer_is_filled_as_torch_fills_it() -> None:
    """The values are those of torch 2.13, `manual_seed(7)`."""
    from torch import nn

    shim.manual_seed(7)
    model = nn.Linear(2, 2)
    assert model.state_dict().keys() == {"weight", "bias"}
    assert model.weight.tolist() == LINEAR[0]
    assert model.bias.tolist() == LINEAR[1]
    assert nn.Linear(3, 1, bias=False).bias is None


def test_layers_without_weights_hold_none() -> None:
    from torch import nn

    model = nn.Sequential(nn.ReLU(), nn.Dropout(0.5), nn.Identity())
    assert list(model.state_dict()) == []
    with pytest.raises(NotImplementedError, match=r"nn\.Module\.forward"):
        model[0](1)


@pytest.mark.parametrize(
    "line", ["from torch.nn import Lineer", "import torch.nn.lineer", "import torch.onnx"]
)
def test_a_name_that_nothing_stands_for_cannot_be_imported(line: str) -> None:
    with pytest.raises(ImportError, match=r"not offered|cannot import"):
        exec(line)


def test_the_version_that_packages_look_up_is_the_shims_within_the_block_only() -> None:
    assert importlib.metadata.version("torch") == shim.__version__
    assert importlib.metadata.version("numpy") == sys.modules["numpy"].__version__


def test_no_other_process_and_no_accelerator_is_there() -> None:
    import torch.distributed

    assert not torch.distributed.is_available()
    assert not torch.accelerator.is_available()
    assert torch.accelerator.current_accelerator() is None
