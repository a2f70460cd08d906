"""`torch.jit.load` gives the names and the values that torch gives, for scripted and for traced modules."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

import wconv.torch as shim
from tests.oracles import oracle
from wconv.errors import FormatError

pytestmark = pytest.mark.oracle


def module(torch: Any) -> Any:
    """Parameters of two names, buffers, tensors that are neither, modules in modules."""
    from tests.oracle.torch import script_module

    return script_module.made(torch)


@pytest.fixture(params=["scripted", "traced"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    torch = oracle("torch")
    made = module(torch)
    if request.param == "scripted":
        torch.jit.script(made).save(str(tmp_path / "module.pt"))
    else:
        torch.jit.trace(made, torch.ones(2)).save(str(tmp_path / "module.pt"))
    return tmp_path / "module.pt"


def told(loaded: Any) -> Any:
    """All that has a name, and its values."""
    return {
        "state": [(name, str(t.dtype), t.tolist()) for name, t in loaded.state_dict().items()],
        "parameters": [(name, t.requires_grad) for name, t in loaded.named_parameters()],
        "buffers": [name for name, _ in loaded.named_buffers()],
        "modules": [name for name, _ in loaded.named_modules()],
        "children": [name for name, _ in loaded.named_children()],
        "training": loaded.training,
    }


def test_names_and_values_are_torchs(path: Path) -> None:
    torch = oracle("torch")
    wanted, found = torch.jit.load(str(path)), shim.jit.load(path)
    assert told(found) == told(wanted)
    assert isinstance(found, shim.nn.Module)
    with open(path, "rb") as file:
        assert told(shim.jit.load(file)) == told(wanted)
    assert told(shim.jit.load(io.BytesIO(path.read_bytes()))) == told(wanted)


def test_a_module_is_not_run(path: Path) -> None:
    with pytest.raises(NotImplementedError, match="code is not run"):
        shim.jit.load(path)(shim.ones(2))


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    torch = oracle("torch")
    torch.save({"x": torch.ones(1)}, tmp_path / "state.pt")
    with pytest.raises(FormatError, match="no TorchScript archive"):
        shim.jit.load(tmp_path / "state.pt")
    (tmp_path / "text.pt").write_text("nothing")
    with pytest.raises(FormatError, match="no TorchScript archive"):
        shim.jit.load(tmp_path / "text.pt")
