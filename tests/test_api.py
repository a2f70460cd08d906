"""`load`, `load_mlx` and `save`: whole checkpoints as arrays, dtypes kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open

import wconv
from tests.making import bits, random
from wconv.errors import FormatError, OutputError, WconvError

ARRAYS: dict[str, Any] = {
    "bf": random((3, 4)),
    "half": random((3,), np.float16),
    "e4": random((2, 2), ml_dtypes.float8_e4m3fn),
    "e5": random((2, 2), ml_dtypes.float8_e5m2),
    "whole": np.arange(6).reshape(2, 3),
    "mask": np.array([True, False]),
    "scalar": np.array(1.5, np.float32),
    "empty": np.zeros((0, 3), np.float32),
    "complex": np.array([1 + 2j], np.complex64),
}


def test_save_and_load_keep_every_dtype_and_bit(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    wconv.save(ARRAYS, path, {"stage": "text encoder"})
    loaded = wconv.load(path)
    assert {name: bits(array) for name, array in loaded.items()} == {
        name: bits(a) for name, a in ARRAYS.items()
    }
    assert wconv.open(path).metadata == {"stage": "text encoder"}
    assert os.listdir(tmp_path) == ["x.safetensors"]


def test_save_streams_lazy_tensors_and_transposed_arrays(tmp_path: Path) -> None:
    wconv.save(ARRAYS, tmp_path / "x.safetensors")
    opened = wconv.open(tmp_path / "x.safetensors")
    wconv.save({"t": opened["bf"].transpose((1, 0)), "n": ARRAYS["whole"].T}, tmp_path / "y.safetensors")
    loaded = wconv.load(tmp_path / "y.safetensors")
    assert bits(loaded["t"]) == bits(ARRAYS["bf"].T)
    assert bits(loaded["n"]) == bits(ARRAYS["whole"].T)


def test_save_replaces_a_file_only_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    wconv.save({"a": ARRAYS["bf"]}, path)
    before = path.read_bytes()
    with pytest.raises(WconvError):
        wconv.save({"a": ARRAYS["bf"], "b": np.array(["text"])}, path)
    assert path.read_bytes() == before
    wconv.save({"c": ARRAYS["half"]}, path)
    assert list(wconv.open(path)) == ["c"]
    assert os.listdir(tmp_path) == ["x.safetensors"]


def test_a_source_can_be_saved_over_itself(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    wconv.save({"a": ARRAYS["bf"], "b": ARRAYS["half"]}, path)
    opened = wconv.open(path)
    wconv.save({"b": opened["b"]}, path)
    assert bits(wconv.load(path)["b"]) == bits(ARRAYS["half"])


def test_a_tensor_of_a_file_that_was_replaced_never_reads_other_bytes(tmp_path: Path) -> None:
    """The old file's while it is held open, and an error afterwards."""
    path = tmp_path / "x.safetensors"
    wconv.save({"a": ARRAYS["bf"]}, path)
    opened = wconv.open(path)
    wconv.load(path)
    wconv.save({"a": ARRAYS["half"], "b": ARRAYS["whole"]}, path)
    assert bits(opened["a"].numpy()) == bits(ARRAYS["bf"])
    assert bits(wconv.load(path)["a"]) == bits(ARRAYS["half"])
    with pytest.raises(FormatError, match="changed since"):
        opened["a"].numpy()


@pytest.mark.parametrize("value", ["text", object(), [object()], {"a": 1}])
def test_what_is_no_tensor_is_refused_by_name(value: object, tmp_path: Path) -> None:
    with pytest.raises(WconvError, match=r"weird|numpy dtype"):
        wconv.save({"weird": value}, tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


def test_save_writes_safetensors_only(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"\.safetensors"):
        wconv.save(ARRAYS, tmp_path / "x.gguf")


def test_transformers_finds_the_format_it_asks_for(tmp_path: Path) -> None:
    wconv.save(ARRAYS, tmp_path / "x.safetensors")
    with safe_open(tmp_path / "x.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}


def test_load_mlx_gives_what_mx_load_gives(tmp_path: Path) -> None:
    mx = pytest.importorskip("mlx.core")
    path = tmp_path / "x.safetensors"
    arrays = {name: array for name, array in ARRAYS.items() if name != "e5"}
    wconv.save(arrays, path)
    ours, theirs = wconv.load_mlx(path), mx.load(str(path))
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        if name != "e4":
            assert ours[name].dtype == array.dtype
            assert ours[name].shape == array.shape
            assert mx.array_equal(ours[name], array), name
    wconv.save({**ours, "e4": ARRAYS["e4"]}, tmp_path / "y.safetensors")
    assert bits(wconv.load(tmp_path / "y.safetensors")["bf"]) == bits(ARRAYS["bf"])


def test_load_mlx_casts_and_substitutes(tmp_path: Path) -> None:
    mx = pytest.importorskip("mlx.core")
    path = tmp_path / "x.safetensors"
    wconv.save({"e5": ARRAYS["e5"], "d": np.ones(2), "i": ARRAYS["whole"]}, path)
    assert {name: array.dtype for name, array in wconv.load_mlx(path).items()} == {
        "e5": mx.bfloat16,
        "d": mx.float32,
        "i": mx.int64,
    }
    assert wconv.load_mlx(path, dtype="float16")["e5"].dtype == mx.float16


def test_what_is_no_tensor_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(WconvError, match="ragged is a list, no tensor"):
        wconv.save({"ragged": [[1], [1, 2]]}, tmp_path / "a.safetensors")
    assert not os.listdir(tmp_path)
