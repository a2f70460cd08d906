"""What is written for torch loads in torch: weights only, mapped or read, and in transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from tests.making import random, write_file
from tests.oracle.mlx_lm import language, language_moe
from tests.oracle.tiny import save
from tests.oracle.transformers.test_way_back import assert_same_model, model
from tests.oracles import oracle
from tests.writing.test_file_formats import ARRAYS, FIXTURE
from wconv.formats.zip import write as zip_write

pytestmark = pytest.mark.oracle


def torch_bits(tensor: Any) -> bytes:
    torch = oracle("torch")
    return bytes(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())


def check(path: Path, arrays: dict[str, Any]) -> None:
    torch = oracle("torch")
    for mapped in (False, True):
        state = torch.load(path, weights_only=True, mmap=mapped)
        assert state.keys() == arrays.keys()
        for name, array in arrays.items():
            tensor = state[name]
            assert str(tensor.dtype) == f"torch.{array.dtype}"
            assert tuple(tensor.shape) == array.shape
            assert torch_bits(tensor) == array.tobytes(), name


def test_torch_loads_a_single_file(tmp_path: Path) -> None:
    source = write_file(tmp_path / "x.safetensors", ARRAYS)
    check(wconv.convert(source, tmp_path / "x.pt").output, ARRAYS)


def test_torch_loads_what_is_told_in_64_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_write, "LIMIT", 1000)
    monkeypatch.setattr(zip_write, "_size_fields", lambda value: 0xFFFFFFFF if value >= 1000 else value)
    arrays = {"large": random((700, 1000)), "small": np.arange(3)}
    source = write_file(tmp_path / "x.safetensors", arrays)
    check(wconv.convert(source, tmp_path / "x.pt").output, arrays)


def test_torch_loads_every_numbered_file(tmp_path: Path) -> None:
    out = wconv.convert(FIXTURE, tmp_path / "out", format="pt", max_shard_size="100KB").output
    arrays = wconv.load(FIXTURE)
    files = sorted(out.glob("*.bin"))
    assert len(files) > 2
    for path in files:
        check(path, {name: arrays[name] for name in wconv.open(path)})


@pytest.mark.parametrize("tiny", [language.PLAIN[0], language_moe.MODELS[2]], ids=str)
def test_transformers_loads_the_bin_files_of_an_mlx_model(tiny: Any, tmp_path: Path) -> None:
    source = save(tiny, tmp_path / "m")
    there = wconv.convert(source).output
    back = wconv.convert(there, format="pt", max_shard_size="60KB").output
    assert not list(back.glob("*.safetensors"))
    assert_same_model(model(tiny, source), model(tiny, back), tiny)
