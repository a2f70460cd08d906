"""Shards come out complete, in any number of threads or processes, and count what casts lose.

Covers `writing/chunks.py`, `stores/durable.py`, `writing/buffers.py`, `writing/shard_file.py`.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import wconv
from tests.making import bits, random, write_directory
from wconv.errors import OutputError
from wconv.tensors import dtypes
from wconv.tensors.casts import Overflow
from wconv.tensors.lazy import from_array
from wconv.writing import chunks, writer
from wconv.writing.plan import Entry, Plan, make
from wconv.writing.shard_file import ShardFile

F16 = dtypes.by_name("float16")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Small and large tensors mixed, so that units are joined and cut."""
    shards = [
        {f"{shard}.{at}": random((1 + at * 37, 11), seed=at) for at in range(40)}
        | {f"{shard}.big": random((700, 1000), seed=99)}
        | {f"{shard}.f32": random((300,), np.float32), f"{shard}.ids": np.arange(50)}
        for shard in range(3)
    ]
    return write_directory(tmp_path / "model", shards)


def planned(model: Path, dtype: dtypes.DType | None) -> Plan:
    entries = [
        Entry(name, tensor, dtype if dtype and tensor.dtype.is_floating else tensor.dtype)
        for name, tensor in wconv.open(model).items()
    ]
    return make(entries, {"format": "pt"})


def out_of(tmp_path: Path) -> Path:
    (tmp_path / "partial" / "output").mkdir(parents=True)
    return tmp_path / "partial"


@pytest.mark.parametrize("jobs", [1, 2, 5])
@pytest.mark.parametrize("dtype", [None, F16])
def test_every_element_arrives(jobs: int, dtype: dtypes.DType | None, model: Path, tmp_path: Path) -> None:
    plan = planned(model, dtype)
    partial = out_of(tmp_path)
    seen: list[int] = []
    written = writer.write(plan.shards, partial, jobs=jobs, progress=seen.append)
    source, result = wconv.load(model), {}
    for shard in plan.shards:
        result.update(wconv.load(partial / "output" / shard.filename))
    assert source.keys() == result.keys()
    for name, array in source.items():
        floating = dtype is not None and array.dtype != np.int64
        assert bits(result[name]) == bits(array.astype(np.float16) if floating else array)
    assert [one.filename for one in written] == [shard.filename for shard in plan.shards]
    assert sum(one.nbytes for one in written) == plan.nbytes
    assert seen == sorted(seen)


def test_units_join_small_neighbours_and_cut_large_tensors(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 256 << 10)
    work = [unit.targets[0] for unit in chunks.work_units(planned(model, F16).shards[0])]
    assert max(len(target.spans) for target in work) > 10
    assert sum(1 for target in work if any(name.endswith("big") for name, _ in target.spans)) >= 2
    assert sum(target.count for target in work) == sum(
        entry.tensor.size for entry in planned(model, F16).shards[0].entries
    )
    assert all(target.count * target.source.itemsize <= chunks.CHUNK for target in work)


def test_joined_units_read_adjacent_bytes_once(model: Path) -> None:
    work = list(chunks.work_units(planned(model, F16).shards[0]))
    assert max(len(unit.targets[0].spans) / len(unit.work) for unit in work) > 10


@pytest.mark.parametrize("pool", [ProcessPoolExecutor, ThreadPoolExecutor])
def test_an_executor_gets_one_task_per_shard(pool: type, model: Path, tmp_path: Path) -> None:
    plan = planned(model, F16)
    here, there = out_of(tmp_path / "a"), out_of(tmp_path / "b")
    writer.write(plan.shards, here)
    with pool(2) as executor:
        writer.write(plan.shards, there, executor=executor)
    for shard in plan.shards:
        assert (here / "output" / shard.filename).read_bytes() == (
            there / "output" / shard.filename
        ).read_bytes()


@pytest.mark.parametrize("pieces", [1, 3])
def test_overflows_are_counted_for_each_tensor(pieces: int, tmp_path: Path) -> None:
    large = np.array([1.0, 7e4, -3e5, np.inf, np.nan, 65504, 65519, 65520], np.float32)
    entries = [
        Entry("fine", from_array(np.ones(9, np.float32)), F16),
        Entry("lost", from_array(np.tile(large, 40_000 * pieces)), F16),
        Entry("also", from_array(large), F16),
    ]
    (written,) = writer.write(make(entries, {}).shards, out_of(tmp_path))
    assert {name: lost.count for name, lost in written.overflows.items()} == {
        "lost": 120_000 * pieces,
        "also": 3,
    }
    assert written.overflows["lost"].largest == 3e5


def test_finished_shards_are_not_written_again(model: Path, tmp_path: Path) -> None:
    plan = planned(model, F16)
    partial = out_of(tmp_path)
    writer.write(plan.shards[:2], partial)
    before = {path.name: path.stat().st_mtime_ns for path in (partial / "output").iterdir()}
    writer.write(plan.shards, partial)
    after = {path.name: path.stat().st_mtime_ns for path in (partial / "output").iterdir()}
    assert len(after) == 3
    assert all(after[name] == time for name, time in before.items())


def test_a_finished_shard_remembers_what_it_lost(tmp_path: Path) -> None:
    shards = make([Entry("lost", from_array(np.array([1e6], np.float32)), F16)], {}).shards
    partial = out_of(tmp_path)
    writer.write(shards, partial)
    (again,) = writer.write(shards, partial)
    assert again.overflows["lost"].count == 1
    (partial / "model.safetensors.done").write_text("[]")
    assert writer.finished(partial, shards[0]) is None


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    shards = make([Entry("a", from_array(np.ones(1)), F16)], {}).shards
    with pytest.raises(OutputError, match="cannot be written"):
        writer.write(shards, tmp_path / "nowhere")


def test_a_full_disk_is_named(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: object, offset: int) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OutputError, match="No space left on device"):
        writer.write(planned(model, F16).shards, out_of(tmp_path))


def test_without_fallocate_files_are_the_same(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = planned(model, F16).shards
    with_it, without = out_of(tmp_path / "a"), out_of(tmp_path / "b")
    writer.write(shards, with_it)
    monkeypatch.delattr(writer.os, "posix_fallocate")
    writer.write(shards, without)
    name = shards[0].filename
    assert (with_it / "output" / name).read_bytes() == (without / "output" / name).read_bytes()


def test_large_grains_are_read_whole_and_stay_right(tmp_path: Path) -> None:
    values = random((600, 1300), ml_dtypes.bfloat16)
    entries = [Entry("t", from_array(values).transpose((1, 0)), F16)]
    writer.write(make(entries, {}).shards, out_of(tmp_path))
    result = wconv.load(tmp_path / "partial" / "output" / "model.safetensors")["t"]
    assert bits(result) == bits(values.T.astype(np.float16))


@pytest.mark.parametrize("size", [1, (512 << 10) // 4, (1 << 20) + 3, (3 << 20) // 4 + 1])
def test_what_overflows_is_counted_in_every_step_of_a_large_tensor(size: int, tmp_path: Path) -> None:
    values = random((size,), np.float32)
    lost = sorted({0, size // 3, size // 2, size - 1})
    values[lost] = np.array([7e4, -8e4, 9e4, 1e5], np.float32)[-len(lost) :]
    source = write_directory(tmp_path / "model", [{"a": values, "b": random((3,), np.float32)}])
    plan = planned(source, F16)
    (written,) = writer.write(plan.shards, out_of(tmp_path), jobs=2)
    result = wconv.load(tmp_path / "partial" / "output" / written.filename)
    with np.errstate(over="ignore"):
        assert bits(result["a"]) == bits(values.astype(np.float16))
    assert written.overflows == {"a": Overflow(len(lost), float(np.float32(1e5)))}


def test_threads_begin_with_the_largest_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [5, 400, 30, 900]
    source = write_directory(
        tmp_path / "model", [{f"{at}": random((size,))} for at, size in enumerate(sizes)]
    )
    entries = [Entry(name, tensor, tensor.dtype) for name, tensor in wconv.open(source).items()]
    shards = [shard for entry in entries for shard in make([entry], {}).shards]
    named = [replace(shard, filename=f"{at}.safetensors") for at, shard in enumerate(shards)]
    begun: list[int] = []
    monkeypatch.setattr(
        writer, "ShardFile", lambda shard, *rest: begun.append(shard.nbytes) or ShardFile(shard, *rest)
    )
    written = writer.write(named, out_of(tmp_path), jobs=1)
    assert begun == sorted(begun, reverse=True)
    assert [one.filename for one in written] == [shard.filename for shard in named]
