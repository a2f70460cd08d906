"""What torch writes today, and what it reads: wconv must agree with both."""

from __future__ import annotations

import importlib.util
import json
import random
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import wconv.formats
from tests.formats.test_torch import FIXTURES, check, spell
from tests.oracles import oracle

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def make() -> ModuleType:
    """The script that writes the fixtures."""
    oracle("torch")
    spec = importlib.util.spec_from_file_location("make", FIXTURES / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make"] = module
    spec.loader.exec_module(module)
    return module


def test_every_fixture_written_afresh_is_read_as_torch_has_it(make: ModuleType, tmp_path: Path) -> None:
    make.main(tmp_path)
    expected = json.loads((tmp_path / "expected.json").read_text(encoding="utf-8"))
    for name, values in expected.items():
        check(wconv.formats.open_file(str(tmp_path / f"{name}.bin")), values)


@pytest.mark.parametrize(
    "name", ["big_endian", "legacy_from_big_endian_machine", "legacy_storage_views", "tar", "no_checksums"]
)
def test_files_that_were_spelled_out_are_read_by_torch_too(make: ModuleType, name: str) -> None:
    torch = oracle("torch")
    path = FIXTURES / f"{name}.bin"
    held = torch.load(path, weights_only=False)
    contents = wconv.formats.open_file(str(path))
    assert set(contents.tensors) == set(held)
    for key, tensor in contents.tensors.items():
        assert spell(tensor) == make.spell(held[key]), key


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_any_view_of_a_storage_is_what_torch_has(
    make: ModuleType, tmp_path: Path, seed: int, legacy: bool
) -> None:
    torch = oracle("torch")
    chance = random.Random(seed)
    base = torch.arange(5000, dtype=torch.int32)
    views: dict[str, Any] = {}
    while len(views) < 25:
        shape = [chance.choice([1, 1, 2, 3, 5, 9]) for _ in range(chance.randint(0, 4))]
        stride = [chance.choice([0, 1, 2, 3, 7, 30, 111, 400]) for _ in shape]
        offset = chance.randint(0, 300)
        if offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True)) < 5000:
            views[str(len(views))] = torch.as_strided(base, shape, stride, offset)
    path = tmp_path / "views.pt"
    torch.save(views, path, _use_new_zipfile_serialization=not legacy)
    contents = wconv.formats.open_file(str(path))
    for name, view in views.items():
        tensor = contents.tensors[name]
        whole = view.contiguous().numpy()
        assert np.array_equal(tensor.numpy(), whole)
        start = chance.randint(0, tensor.size)
        stop = chance.randint(start, tensor.size)
        assert np.array_equal(tensor.read_range(start, stop), whole.reshape(-1)[start:stop])


def test_large_views_are_gathered_as_torch_does(tmp_path: Path) -> None:
    torch = oracle("torch")
    base = torch.randn(3000, 2500)
    views = {
        "transposed": base.t(),
        "columns": base[:, 5:1500:7],
        "diagonal": base.diagonal(),
        "column": base[:, 77],
        "rows": base[::3],
        "cube": base.view(30, 100, 2500).permute(1, 2, 0)[3:40, ::2],
        "half": base.half()[1:, 1:].t(),
    }
    torch.save(views, tmp_path / "large.pt")
    contents = wconv.formats.open_file(str(tmp_path / "large.pt"))
    for name, view in views.items():
        whole = view.contiguous().numpy().reshape(-1)
        tensor = contents.tensors[name]
        assert np.array_equal(tensor.numpy().reshape(-1), whole), name
        for start in range(0, tensor.size, tensor.size // 3 + 1):
            stop = min(start + 300_001, tensor.size)
            assert np.array_equal(tensor.read_range(start, stop), whole[start:stop]), name
