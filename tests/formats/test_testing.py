"""wconv's own readers pass the test kit, and readers with one fault each do not.

Covers `testing/`.
"""

from __future__ import annotations

import doctest
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import wconv
from tests.hostile import good
from wconv import testing
from wconv.errors import FormatError
from wconv.formats import safetensors
from wconv.tensors.lazy import LazyTensor
from wconv.testing import readers, tables

FILES = good.files()
FUZZ = 50


@pytest.mark.parametrize("name", FILES)
def test_every_reader_of_the_registry(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(FILES[name])
    arrays = {key: tensor.numpy() for key, tensor in testing.read_registered(str(path)).items()}
    testing.check_opens(testing.read_registered, path, arrays)
    testing.check_truncated(testing.read_registered, path)
    testing.check_fuzzed(testing.read_registered, path, count=FUZZ)


@pytest.mark.parametrize("name", ["safetensors", "npz"])
def test_lies_about_sizes(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(FILES[name])
    testing.check_sizes(testing.read_registered, path)


def plain(path: str) -> Mapping[str, LazyTensor]:
    return safetensors.open_file(path).tensors


def lenient(path: str) -> Mapping[str, LazyTensor]:
    """Takes a file that ends early for one without tensors."""
    try:
        return plain(path)
    except FormatError:
        return {}


def careless(path: str) -> Mapping[str, LazyTensor]:
    """Looks at a length before it is known to be there."""
    data = Path(path).read_bytes()
    return plain(path) if data[-1] < 256 else {}


def greedy(path: str) -> Mapping[str, LazyTensor]:
    """Takes as much memory as the file asks for."""
    length = int.from_bytes(Path(path).read_bytes()[:8], "little")
    bytearray(min(length, 2 * readers.MEMORY))
    return plain(path)


def silent(path: str) -> Mapping[str, LazyTensor]:
    """Does not say which file it is that it refuses."""
    try:
        return plain(path)
    except FormatError:
        raise FormatError("the file is damaged") from None


def backwards(path: str) -> Mapping[str, LazyTensor]:
    return {name: tensor.reshape(tensor.shape[::-1]) for name, tensor in plain(path).items()}


@pytest.mark.parametrize(
    ("reader", "sentence"),
    [
        (lenient, "with other tensors than the whole file"),
        (careless, "IndexError"),
        (greedy, "bytes of memory"),
        (silent, "does not name the file"),
        (backwards, "has the shape"),
    ],
)
def test_a_bad_reader_is_noticed(reader: readers.Reader, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    arrays = {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}
    wconv.save(arrays, path)
    testing.check_reader(plain, path, arrays, fuzz=20)
    with pytest.raises(AssertionError, match=sentence):
        testing.check_reader(reader, path, arrays, fuzz=20)


@pytest.mark.parametrize("module", [readers, tables], ids=lambda module: module.__name__)
def test_the_examples_run(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed
