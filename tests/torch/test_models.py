"""`load_model` and `save_model` of `safetensors.torch`, on modules that hold names.

Covers `torch/safetensors_models.py`, `torch/modules.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import wconv.torch as shim
from wconv.torch.safetensors_torch import load_file, load_model, safe_open, save_file, save_model

ZOO = Path(__file__).parents[2] / "fixtures" / "torch"


class Tied(shim.nn.Module):
    """Two parameters and one of them under a second name."""

    def __init__(self, fill: float = 1) -> None:
        super().__init__()
        self.body = shim.nn.Module()
        self.body.weight = shim.nn.Parameter(shim.full((2, 3), float(fill)))
        self.bias = shim.nn.Parameter(shim.full((3,), float(fill)))
        self.head = self.body.weight


def test_of_names_that_share_memory_one_is_written_and_the_others_are_metadata(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_model(Tied(2), path, metadata={"format": "pt"})
    with safe_open(path) as file:
        assert file.keys() == ["bias", "body.weight"]
        assert file.metadata() == {"format": "pt", "head": "body.weight"}


def test_a_module_is_filled_whichever_name_the_file_kept(tmp_path: Path) -> None:
    for kept in ("head", "body.weight"):
        path = tmp_path / f"{kept}.safetensors"
        save_file({kept: shim.full((2, 3), 7.0), "bias": shim.zeros(3)}, path)
        model = Tied()
        assert load_model(model, path) == (set(), [])
        assert model.head is model.body.weight
        assert model.head.tolist() == [[7.0] * 3] * 2
        assert model.bias.tolist() == [0.0] * 3


def test_names_that_do_not_fit_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"head": shim.zeros(2, 3), "other": shim.zeros(1)}, path)
    with pytest.raises(RuntimeError, match=r'Missing key\(s\).*"bias"[\s\S]*Unexpected key\(s\).*"other"'):
        load_model(Tied(), path)
    assert load_model(Tied(), path, strict=False) == ({"bias"}, ["other"])


def test_parts_of_one_memory_without_the_whole_are_refused(tmp_path: Path) -> None:
    model = shim.nn.Module()
    model.register_buffer("part", shim.arange(8.0)[:4])
    with pytest.raises(RuntimeError, match="covering the entire storage"):
        save_model(model, tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


def test_what_is_not_contiguous_is_made_so_or_refused(tmp_path: Path) -> None:
    model = shim.nn.Module()
    model.register_buffer("turned", shim.arange(6.0).reshape(2, 3).t())
    save_model(model, tmp_path / "model.safetensors")
    assert load_file(tmp_path / "model.safetensors")["turned"].tolist() == [[0, 3], [1, 4], [2, 5]]
    with pytest.raises(ValueError, match="not contiguous"):
        save_model(model, tmp_path / "other.safetensors", force_contiguous=False)


def test_a_pickled_module_gives_its_weights_by_their_paths() -> None:
    found = shim.load(ZOO / "whole_module.bin")
    assert isinstance(found, shim.nn.Module)
    state = found.state_dict()
    assert state
    assert all(isinstance(value, shim.Tensor) for value in state.values())
    halves = found.half().state_dict()
    assert {str(value.dtype) for value in halves.values()} <= {"torch.float16", "torch.int64"}
    with pytest.raises(AttributeError):
        _ = found.nothing_of_that_name
