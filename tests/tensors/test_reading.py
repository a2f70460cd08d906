"""Tensors that threads read are those that one after another would be. Covers `tensors/reading.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import wconv
from wconv.errors import FormatError
from wconv.stores import files
from wconv.tensors import dtypes, reading
from wconv.tensors.lazy import FileTensor, from_array
from wconv.tensors.reading import read_all


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_all_shapes_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, jobs: int) -> None:
    monkeypatch.setattr(reading, "PART", 64)
    rng = np.random.default_rng(0)
    shapes = [(), (0,), (1,), (7, 3), (64,), (5, 0, 2), (33, 17), *((3,) for _ in range(40))]
    wanted = {f"t{at}": rng.standard_normal(shape).astype(np.float32) for at, shape in enumerate(shapes)}
    save_file(wanted, tmp_path / "a.safetensors")
    tensors = dict(wconv.open(tmp_path / "a.safetensors"))
    tensors["computed"] = tensors["t6"].transpose((1, 0)).cast("float16")
    tensors["held"] = from_array(np.arange(100))
    found = read_all(tensors, jobs)
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        assert found[name].shape == tensor.shape
        assert found[name].dtype == tensor.dtype.numpy
        assert found[name].tobytes() == tensor.numpy().tobytes()


def test_what_a_thread_finds_is_raised(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(reading, "PART", 64)
    path = tmp_path / "short"
    path.write_bytes(bytes(1000))
    tensor = FileTensor(files.stamped(str(path)), 0, dtypes.by_name("float32"), (300,))
    with pytest.raises(FormatError, match="truncated"):
        read_all({"a": tensor}, 2)


def test_deflated_members_are_read_by_several_threads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(reading, "PART", 64)
    wanted = {f"a{at}": np.arange(500, dtype=np.int32) * at for at in range(6)}
    np.savez_compressed(tmp_path / "a.npz", **wanted)
    found = wconv.load(tmp_path / "a.npz")
    for name, array in wanted.items():
        assert np.array_equal(found[name], array)
