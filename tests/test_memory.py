"""Memory does not grow with the model: whole processes, watched from outside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.measure import peak_anonymous, python
from tests.making import random, write_directory

MEGABYTE = 10**6


def peak(*words: object) -> int:
    found = peak_anonymous(python("-m", "wconv", *words, "--quiet", "-j", 2))
    if found is None:
        pytest.skip("there is no /proc here to read memory from")
    return found


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 MB in two shards."""
    block = random((4096, 1024))
    shards = [{f"{shard}.{at}": block for at in range(12)} for shard in range(2)]
    return write_directory(tmp_path_factory.mktemp("large") / "model", shards)


@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
def test_two_jobs_take_at_most_48_megabytes(dtype: str, model: Path, tmp_path: Path) -> None:
    assert peak(model, "-o", tmp_path / "o", "--dtype", dtype) < 48 * MEGABYTE


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50,000 small tensors."""
    small = np.ones((4, 8), np.float32)
    names = [f"model.layers.{at // 50}.block.{at % 50}.weight" for at in range(50_000)]
    return write_directory(tmp_path_factory.mktemp("many") / "model", [dict.fromkeys(names, small)])


def test_fifty_thousand_tensors_take_at_most_100_megabytes(many: Path, tmp_path: Path) -> None:
    assert peak(many, "-o", tmp_path / "o", "--dtype", "float16") < 100 * MEGABYTE


def test_fifty_thousand_tensors_for_torch_take_at_most_110_megabytes(many: Path, tmp_path: Path) -> None:
    assert peak(many, "-o", tmp_path / "o", "--format", "pt") < 110 * MEGABYTE
