"""Weights written for torch: a valid zip of the source's bytes, planned, resumed and spread like others.

Covers `writing/crc32.py`.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import wconv
from tests.making import bits, random, write_directory, write_file
from wconv.cli.program import main
from wconv.errors import OutputError, WconvError
from wconv.formats.torch import write as torch_write
from wconv.formats.zip import write as zip_write
from wconv.tensors.lazy import from_array
from wconv.writing import crc32, shard_file

FIXTURE = Path(__file__).parent.parents[1] / "fixtures" / "qwen2_5_vl"
ARRAYS: dict[str, Any] = {
    "double": random((3, 5), np.float64),
    "brain": random((700, 1000)),
    "half": random((4,), np.float16),
    "scalar": np.array(2.5, np.float32),
    "empty": np.zeros((0, 3), np.float32),
    "whole": np.arange(7),
    "mask": np.array([True, False]),
    "small": random((3, 3), ml_dtypes.float8_e5m2),
    "unsigned": np.arange(5, dtype=np.uint32),
}


def check_zip(path: Path) -> dict[str, zipfile.ZipInfo]:
    """Every checksum fits, and every storage is aligned, stored and followed by the next entry."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        entries = {info.filename: info for info in archive.infolist()}
    raw = path.read_bytes()
    at = 0
    for info in entries.values():
        assert info.header_offset == at
        begin = at + 30 + sum(int.from_bytes(raw[at + k : at + k + 2], "little") for k in (26, 28))
        assert begin % 64 == 0
        assert info.compress_type == zipfile.ZIP_STORED
        at = begin + info.file_size
    return entries


def same(path: Path, arrays: dict[str, Any]) -> None:
    loaded = wconv.load(path)
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (loaded[name].dtype, loaded[name].shape) == (array.dtype, array.shape), name
        assert bits(loaded[name]) == bits(array), name


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "model.bin"])
def test_a_single_file_goes_there_and_comes_back(name: str, tmp_path: Path) -> None:
    source = write_file(tmp_path / "model.safetensors", ARRAYS)
    report = wconv.convert(source, tmp_path / name)
    check_zip(report.output)
    same(report.output, ARRAYS)
    assert "weights_only=True" in report.command
    assert not (tmp_path / "model.bin.index.json").exists()
    back = wconv.convert(report.output, tmp_path / "back.safetensors", layout="hf").output
    substituted = {"double": np.float32, "small": ml_dtypes.bfloat16}
    same(back, {key: array.astype(substituted.get(key, array.dtype)) for key, array in ARRAYS.items()})


def test_the_file_is_the_one_that_saving_writes(tmp_path: Path) -> None:
    source = write_file(tmp_path / "x.safetensors", ARRAYS)
    streamed = wconv.convert(source, tmp_path / "x.pt").output
    order = list(wconv.open(streamed))
    saved = tmp_path / "saved" / "x.pt"
    saved.parent.mkdir()
    torch_write.save({name: from_array(ARRAYS[name]) for name in order}, saved)
    assert saved.read_bytes() == streamed.read_bytes()


def test_a_directory_gets_numbered_files_and_an_index(tmp_path: Path) -> None:
    report = wconv.convert(FIXTURE, tmp_path / "out", format="pt", max_shard_size="100KB")
    files = sorted(path.name for path in report.output.glob("*.bin"))
    assert files == [f"pytorch_model-{at:05d}-of-{len(files):05d}.bin" for at in range(1, len(files) + 1)]
    for name in files:
        check_zip(report.output / name)
    index = json.loads((report.output / "pytorch_model.bin.index.json").read_text())
    assert set(index["weight_map"].values()) == set(files)
    assert index["metadata"]["total_size"] == sum(array.nbytes for array in wconv.load(FIXTURE).values())
    assert not list(report.output.glob("*safetensors*"))
    same(report.output, wconv.load(FIXTURE))
    assert (report.output / "tokenizer.json").exists()


def test_a_small_directory_gets_one_file_without_an_index(tmp_path: Path) -> None:
    model = write_directory(tmp_path / "m", [{"a": random((3, 3))}], {"model_type": "llama"})
    report = wconv.convert(model, format="pt")
    assert report.output == tmp_path / "m-HF"
    assert sorted(path.name for path in report.output.iterdir()) == ["config.json", "pytorch_model.bin"]


def test_an_mlx_model_is_laid_back_for_torch(tmp_path: Path) -> None:
    there = wconv.convert(FIXTURE, tmp_path / "m-MLX").output
    report = wconv.convert(there, format="pt")
    assert report.output == tmp_path / "m-HF"
    same(report.output, wconv.load(FIXTURE))
    kept = wconv.convert(FIXTURE, tmp_path / "kept", format="pt", layout="mlx-vlm")
    assert any(name.startswith("vision_tower.") for name in wconv.open(kept.output))


def test_values_are_cast_and_what_overflows_is_told(tmp_path: Path) -> None:
    big = np.array([1e6, 1.0], np.float32)
    source = write_file(tmp_path / "x.safetensors", {"big": big, "rest": random((4,), np.float32)})
    report = wconv.convert(source, tmp_path / "x.pt", dtype="float16")
    assert set(report.overflows) == {"big"}
    check_zip(report.output)
    assert {str(array.dtype) for array in wconv.load(report.output).values()} == {"float16"}


def test_processes_write_the_same_files(tmp_path: Path) -> None:
    one = wconv.convert(FIXTURE, tmp_path / "one", format="pt", max_shard_size="100KB").output
    with ProcessPoolExecutor(2) as pool:
        two = wconv.convert(
            FIXTURE, tmp_path / "two", format="pt", max_shard_size="100KB", executor=pool
        ).output
    for path in one.glob("*.bin"):
        assert path.read_bytes() == (two / path.name).read_bytes()


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = wconv.convert(FIXTURE, tmp_path / "whole", format="pt", max_shard_size="100KB").output
    ends = shard_file.ShardFile._complete
    finished: list[str] = []

    def failing(output: Any) -> None:
        if len(finished) == 2:
            raise OutputError("stop")
        finished.append(output.shard.filename)
        ends(output)

    monkeypatch.setattr(shard_file.ShardFile, "_complete", failing)
    with pytest.raises(OutputError, match="stop"):
        wconv.convert(FIXTURE, tmp_path / "out", format="pt", max_shard_size="100KB", jobs=1)
    monkeypatch.undo()
    report = wconv.convert(FIXTURE, tmp_path / "out", format="pt", max_shard_size="100KB", resume=True)
    assert sorted(report.resumed) == sorted(finished)
    for path in whole.glob("*.bin"):
        assert path.read_bytes() == (report.output / path.name).read_bytes()


def test_another_format_does_not_continue_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = wconv.prepare(FIXTURE, tmp_path / "out", format="pt")
    second = wconv.prepare(FIXTURE, tmp_path / "out", layout="hf")
    assert first.parameters != second.parameters


@pytest.mark.parametrize(
    ("output", "format", "message"),
    [
        ("x.pt", "safetensors", r"x\.pt is the name of a pt file, and --format says safetensors"),
        ("x.safetensors", "pt", "is the name of a safetensors file"),
        ("x", "gguf", "'gguf' is no format of weights: one of safetensors, pt"),
    ],
)
def test_a_format_that_is_none_is_refused(output: str, format: str, message: str, tmp_path: Path) -> None:
    source = write_file(tmp_path / "m.safetensors", {"a": random((2,))})
    with pytest.raises(WconvError, match=message):
        wconv.convert(source, tmp_path / output, format=format)


def test_the_command_writes_what_it_is_asked_for(tmp_path: Path) -> None:
    source = write_file(tmp_path / "m.safetensors", {"a": random((2, 2))})
    done = CliRunner().invoke(main, [str(source), "--format", "pt", "--quiet"])
    assert done.exit_code == 0, done.output
    same(tmp_path / "m.pt", {"a": random((2, 2))})
    again = CliRunner().invoke(main, [str(source), "-o", str(tmp_path / "m.pt"), "--quiet"])
    assert again.exit_code == 1
    over = CliRunner().invoke(main, [str(source), "-o", str(tmp_path / "m.pt"), "--overwrite", "--quiet"])
    assert over.exit_code == 0


def test_large_files_are_told_of_in_64_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_write, "LIMIT", 1000)
    monkeypatch.setattr(zip_write, "ENTRIES_LIMIT", 4)
    monkeypatch.setattr(zip_write, "_size_fields", lambda value: 0xFFFFFFFF if value >= 1000 else value)
    monkeypatch.setattr(zip_write, "_count_fields", lambda count: 0xFFFF if count >= 4 else count)
    source = write_file(tmp_path / "x.safetensors", ARRAYS)
    report = wconv.convert(source, tmp_path / "x.pt")
    check_zip(report.output)
    same(report.output, ARRAYS)


def test_a_large_file_is_arranged_in_64_bits() -> None:
    """The records of a file of 12 GiB, without the file."""
    sizes = {"x/data/0": 5 << 30, "x/data/1": 100, "x/data/2": 7 << 30}
    arranged = zip_write.arrange([("x/data.pkl", b"p")], sizes.items(), b"3\n")
    assert arranged.offsets[1] >= 5 << 30
    assert all(offset % 64 == 0 for offset in arranged.offsets)
    ends = [at + len(data) for at, data in arranged.pieces]
    assert ends[:-1] == list(arranged.offsets)
    assert [at for at, _ in arranged.pieces][1:] == [
        offset + size for offset, size in zip(arranged.offsets, sizes.values(), strict=True)
    ]
    assert ends[-1] == arranged.nbytes
    tail = bytes(list(arranged.pieces)[-1][1])
    assert b"PK\x06\x06" in tail
    assert (7 << 30).to_bytes(8, "little") in tail


@given(st.lists(st.binary(max_size=300), max_size=8), st.randoms(use_true_random=False))
def test_checksums_of_pieces_are_those_of_the_whole(parts: list[bytes], shuffle: Any) -> None:
    pieces, at = [], 0
    for part in parts:
        pieces.append((at, len(part), zlib.crc32(part)))
        at += len(part)
    shuffle.shuffle(pieces)
    assert crc32.whole(pieces) == zlib.crc32(b"".join(parts))
