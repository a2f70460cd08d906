"""What a conversion opened and computed does not outlive it.

Covers `tensors/array_cache.py`.
"""

from __future__ import annotations

import gc
import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from tests.making import random, write_directory, write_file
from wconv.lora import deltas
from wconv.tensors import array_cache


def opened_files(below: Path) -> list[str]:
    """The files below a directory that this process has open."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if target.startswith(str(below)):
            found.append(target)
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_directory(tmp_path / "model", [{"a.weight": random((6, 4))}, {"b.weight": random((6, 4))}])


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no list of open files")
def test_no_file_stays_open(source: Path, tmp_path: Path) -> None:
    report = wconv.convert(source, tmp_path / "out")
    assert report.tensors_written == 2
    assert not opened_files(tmp_path)
    pytest.importorskip("mlx.core")
    wconv.load_mlx(source)
    assert not opened_files(tmp_path)


def test_no_array_of_an_adapter_stays(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays: list[Any] = []
    single = deltas.single

    def watched(array: Any) -> Any:
        made = single(array.copy())
        arrays.append(weakref.ref(made))
        return made

    monkeypatch.setattr(deltas, "single", watched)
    tensors = {"a.lora_A.weight": random((2, 4), np.float32), "a.lora_B.weight": random((6, 2), np.float32)}
    lora = write_file(tmp_path / "lora.safetensors", tensors)
    wconv.convert(source, tmp_path / "out", layout="hf", merge_lora=[str(lora)])
    gc.collect()
    assert arrays
    assert not [one for one in arrays if one() is not None]


def test_a_cache_of_arrays_can_be_emptied() -> None:
    read: list[int] = []

    @array_cache.array_cache(2)
    def array(number: int) -> int:
        read.append(number)
        return number

    assert [array(1), array(1)] == [1, 1]
    array_cache.clear()
    array(1)
    assert read == [1, 1]
