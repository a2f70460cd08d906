"""Tensors of two values to a byte are saved as safetensors saves them, read back, and never computed on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
import wconv.torch as shim
from tests.making import raw_safetensors
from tests.oracles import oracle
from wconv.torch import safetensors_torch

NAME = "float4_e2m1fn_x2"


def pairs(torch: Any) -> Any:
    return torch.arange(8, dtype=torch.uint8).reshape(2, 4).view(getattr(torch, NAME))


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    given = {"a": pairs(shim), "b": shim.ones(3), "empty": pairs(shim)[:0]}
    safetensors_torch.save_file(given, path)
    for found in (safetensors_torch.load_file(path), safetensors_torch.load(path.read_bytes())):
        assert {name: (str(t.dtype), tuple(t.shape)) for name, t in found.items()} == {
            name: (str(t.dtype), tuple(t.shape)) for name, t in given.items()
        }
        assert found["a"].view(shim.uint8).tolist() == pairs(shim).view(shim.uint8).tolist()
    values = wconv.load(path)["a"]
    assert values.shape == (2, 8)
    assert values.view(np.uint8)[0].tolist() == [0, 0, 1, 0, 2, 0, 3, 0]


@pytest.mark.oracle
def test_the_file_is_that_of_safetensors_and_each_reads_the_others(tmp_path: Path) -> None:
    torch = oracle("torch")
    from safetensors.torch import load_file, save_file

    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    safetensors_torch.save_file({"a": pairs(shim)}, ours)
    save_file({"a": pairs(torch)}, theirs)
    assert ours.read_bytes() == theirs.read_bytes()
    assert load_file(ours)["a"].view(torch.uint8).tolist() == pairs(torch).view(torch.uint8).tolist()


def test_what_no_file_can_say_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="without axes"):
        safetensors_torch.save({"a": shim.tensor(3, dtype=shim.uint8).view(getattr(shim, NAME))})
    odd = raw_safetensors(
        tmp_path / "odd", {"a": {"dtype": "F4", "shape": [2, 3], "data_offsets": [0, 3]}}, b"abc"
    )
    with pytest.raises(TypeError, match="no pairs"):
        safetensors_torch.load(odd.read_bytes())
    odd.unlink()
    with pytest.raises(RuntimeError, match="cannot be saved for torch"):
        shim.save({"a": pairs(shim)}, tmp_path / "x.pt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.float(),
        lambda x: x + x,
        lambda x: -x,
        lambda x: x.sum(),
        lambda x: x.tolist(),
        lambda x: x[0, 0].item(),
        lambda x: shim.zeros(2, 4).copy_(x),
        lambda x: shim.ones(2).to(x.dtype),
        lambda x: x.bool(),
    ],
)
def test_nothing_is_computed_with_half_bytes(call: Any) -> None:
    with pytest.raises(NotImplementedError, match="two values to a byte"):
        call(pairs(shim))


def test_what_needs_no_values_works() -> None:
    x = pairs(shim)
    assert x.clone()[1].view(shim.uint8).tolist() == [4, 5, 6, 7]
    assert shim.cat([x, x]).shape == (4, 4)
    assert x.T.contiguous().view(shim.uint8).tolist() == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert "dtype=torch.float4_e2m1fn_x2" in repr(x)
    with pytest.raises(TypeError, match=r"view\(torch\.uint8\)"):
        x.numpy()
