"""One row makes a format: its files are told, opened, found in directories, and known by their names.

Covers `formats/format.py`.
"""

from __future__ import annotations

import struct
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import wconv
from tests.making import random
from wconv import testing
from wconv.checkpoints import hints, variants, weights_files
from wconv.errors import FormatError, WconvError
from wconv.formats import registry
from wconv.formats.contents import Contents
from wconv.formats.format import Candidate, Format
from wconv.tensors import dtypes
from wconv.tensors.lazy import Array
from wconv.writing import file_formats, targets

MAGIC = b"TOY1"


def read_toy(candidate: Candidate, allow_inflation: bool) -> Contents:
    """A toy: the magic number, how many float32 values there are, the values."""
    source = candidate.source
    (count,) = struct.unpack("<I", source.read(4, 4))
    if 8 + 4 * count != source.size:
        raise FormatError(f"{source.where} is a damaged toy: it should have {count:,} values")
    return Contents("toy", {"w": source.tensor(8, dtypes.by_name("float32"), count, swap=False)})


TOY = Format(
    "toy",
    lambda candidate: candidate.start.startswith(MAGIC),
    read_toy,
    suffixes=(".toy",),
    directory=("*.toy",),
    shards=".toy",
    begins=lambda start: start.startswith(MAGIC),
)


@pytest.fixture
def with_toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "FORMATS", (*registry.FORMATS, TOY))


def write_toy(path: Path, array: Array) -> Path:
    path.write_bytes(MAGIC + struct.pack("<I", array.size) + array.tobytes())
    return path


@pytest.mark.usefixtures("with_toy")
def test_a_new_format_is_one_row(tmp_path: Path) -> None:
    array = random((5,), np.float32)
    path = write_toy(tmp_path / "model.toy", array)
    testing.check_reader(testing.read_registered, path, {"w": array}, fuzz=100)
    for source in (path, tmp_path):
        opened = wconv.open(source)
        assert opened.format == "toy"
        assert np.array_equal(opened["w"].numpy(), array)
    assert weights_files.is_weights("model.toy")
    assert targets.holds_weights(path)
    path.write_bytes(path.read_bytes()[:9])
    assert targets.holds_weights(path)
    output = wconv.convert(write_toy(tmp_path / "other.toy", array), tmp_path / "x.safetensors").output
    assert np.array_equal(wconv.load(output)["w"], array)


@pytest.mark.usefixtures("with_toy")
def test_names_of_a_new_format_are_known(tmp_path: Path) -> None:
    assert "hub" not in hints.missing_source(Path("someone/model.toy"))
    assert variants.of_variant(["a.fp16.toy", "a.toy"], "fp16") == ["a.fp16.toy"]
    with pytest.raises(WconvError, match="is no kind of file that is written"):
        file_formats.choose_format(None, "model.toy")
    name = "model-00001-of-00001.toy"
    write_toy(tmp_path / name, random((3,), np.float32))
    (tmp_path / "model.toy.index.json").write_text(f'{{"weight_map": {{"w": "{name}"}}}}')
    write_toy(tmp_path / "zzz.toy", random((3,), np.float32))
    assert wconv.open(tmp_path).files == (tmp_path / name,)


def test_without_its_row_it_is_no_format(tmp_path: Path) -> None:
    path = write_toy(tmp_path / "model.toy", random((5,), np.float32))
    with pytest.raises(FormatError, match="of no kind that wconv knows"):
        wconv.open(path)


def test_which_weights_of_a_directory_are_preferred() -> None:
    assert registry.directory_patterns() == (
        "model.safetensors",
        "diffusion_pytorch_model.safetensors",
        "*.safetensors",
        "pytorch_model.bin",
        "diffusion_pytorch_model.bin",
        "*.bin",
        "*.pt",
        "*.pth",
        "*.ckpt",
        "*.npz",
    )


def test_what_is_written_is_read_by_its_name() -> None:
    for written in file_formats.FORMATS.values():
        assert set(written.suffixes) <= set(written.read_as.suffixes)


def test_bfloat16_survives(tmp_path: Path) -> None:
    arrays = {"a": random((3, 2), ml_dtypes.bfloat16), "b": random((0, 4), ml_dtypes.bfloat16)}
    wconv.save(arrays, tmp_path / "x.safetensors")
    testing.check_opens(testing.read_registered, tmp_path / "x.safetensors", arrays)
