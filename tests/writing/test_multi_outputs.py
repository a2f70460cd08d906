"""Nodes with several outputs: one pass over the source writes them all, wherever they stand in a file.

Covers `tensors/multi.py`.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

import wconv
from tests.making import write_file
from wconv.errors import ComputedOverflowError, OutputError
from wconv.tensors import dtypes
from wconv.tensors.casts import NONE, Overflow
from wconv.tensors.dtypes import DType
from wconv.tensors.graph import leaves, rebuilt
from wconv.tensors.lazy import Array, LazyTensor, Shape, from_array
from wconv.tensors.multi import MultiNode
from wconv.writing import chunks, writer
from wconv.writing.arrays import read
from wconv.writing.file_formats import torch_shard
from wconv.writing.plan import Entry, Shard, make, safetensors_shard

F16, F32, BOOL = (dtypes.by_name(name) for name in ("float16", "float32", "bool"))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SignMagnitude(MultiNode):
    """A matrix as magnitudes, signs and the largest magnitude of each row; a step is a row."""

    parent: LazyTensor
    pause: float = 0.0

    @property
    def results(self) -> tuple[tuple[DType, Shape], ...]:
        shape = self.parent.shape
        return (F32, shape), (BOOL, shape), (F32, (shape[0],))

    @property
    def steps(self) -> int:
        return self.parent.shape[0]

    def read_into(self, first_step: int, last_step: int, outs: Sequence[Array | None]) -> None:
        time.sleep(self.pause)
        rows = self.parent.read(first_step, last_step).astype(np.float32)
        magnitude, sign, largest = outs
        if magnitude is not None:
            np.abs(rows.reshape(-1), out=magnitude)
        if sign is not None:
            sign[:] = np.signbit(rows.reshape(-1))
        if largest is not None:
            np.max(np.abs(rows), axis=1, out=largest)
        if np.isnan(rows).any():
            raise ComputedOverflowError("it is no number")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Counted(LazyTensor):
    """An array that notes how many elements are read of it at a time."""

    array: Array
    dtype: DType
    shape: Shape
    counts: list[int] = field(default_factory=list)

    def read_into(self, start: int, stop: int, out: Array) -> None:
        self.counts.append(stop - start)
        out[:] = self.array.reshape(-1)[start:stop]


def values(shape: tuple[int, ...], seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def expected(array: Array, name: str) -> dict[str, Array]:
    magnitude = np.abs(array)
    return {
        f"{name}.magnitude": magnitude,
        f"{name}.sign": np.signbit(array),
        f"{name}.largest": magnitude.max(axis=1),
    }


def outputs(tensor: LazyTensor, name: str, pause: float = 0.0) -> list[Entry]:
    magnitude, sign, largest = SignMagnitude(tensor, pause).outputs
    return [
        Entry(f"{name}.magnitude", magnitude, F32),
        Entry(f"{name}.sign", sign, BOOL),
        Entry(f"{name}.largest", largest, F32),
    ]


def counted(shape: tuple[int, ...], seed: int = 0) -> Counted:
    return Counted(values(shape, seed), F32, shape)


def partial(path: Path) -> Path:
    (path / "output").mkdir(parents=True)
    return path


def safetensors(entries: list[Entry]) -> Shard:
    return safetensors_shard("x.safetensors", entries, {})


def archive(entries: list[Entry]) -> Shard:
    return torch_shard("x.pt", entries, {})


@pytest.fixture(params=[safetensors, archive])
def shard_of(request: pytest.FixtureRequest) -> Callable[[list[Entry]], Shard]:
    made: Callable[[list[Entry]], Shard] = request.param
    return made


def check(found: dict[str, Array], wanted: dict[str, Array]) -> None:
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].shape == array.shape, name
        assert found[name].tobytes() == array.tobytes(), name


@pytest.mark.parametrize("jobs", [1, 3])
def test_one_pass_writes_all_outputs(
    jobs: int, shard_of: Callable[[list[Entry]], Shard], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 4096)
    sources = {f"w{at}": counted((64 + at, 50), at) for at in range(3)}
    entries = [entry for name, source in sources.items() for entry in outputs(source, name)]
    norms = {f"norm{at}": values((1, 7), at) for at in range(4)}
    entries += [Entry(name, from_array(array), F32) for name, array in norms.items()]
    entries.sort(key=lambda entry: entry.name[::-1])  # in no order of theirs
    shard, path = shard_of(entries), partial(tmp_path / "p")
    (written,) = writer.write([shard], path, jobs=jobs)
    assert written.nbytes == shard.nbytes
    file = path / "output" / shard.filename
    wanted = {name: array for key, one in sources.items() for name, array in expected(one.array, key).items()}
    check(wconv.load(file), wanted | norms)
    for source in sources.values():
        assert sum(source.counts) == source.size
        assert max(source.counts) * 4 <= 4096
    if shard.archive is not None:
        assert zipfile.ZipFile(file).testzip() is None


def test_small_tensors_and_empty_ones(shard_of: Callable[[list[Entry]], Shard], tmp_path: Path) -> None:
    arrays = {f"w{at}": values((1, 1 + at % 3), at) for at in range(200)}
    entries = [entry for name, array in arrays.items() for entry in outputs(from_array(array), name)]
    empty = outputs(from_array(np.empty((0, 5), np.float32)), "none")
    shard, path = shard_of(entries + empty), partial(tmp_path / "p")
    writer.write([shard], path)
    wanted = {name: array for key, one in arrays.items() for name, array in expected(one, key).items()}
    found = wconv.load(path / "output" / shard.filename)
    for entry in empty:
        assert found.pop(entry.name).shape == entry.shape
    check(found, wanted)


def test_an_output_alone_reads_any_range_and_nothing_else() -> None:
    source = counted((9, 7))
    for output, wanted in zip(
        SignMagnitude(source).outputs, expected(source.array, "").values(), strict=True
    ):
        assert (output.dtype.numpy, output.shape) == (wanted.dtype, wanted.shape)
        for start, stop in ((0, output.size), (3, 5), (1, output.size - 1), (4, 4)):
            assert output.read_range(start, stop).tolist() == wanted.reshape(-1)[start:stop].tolist()
    source.counts.clear()
    SignMagnitude(source).outputs[1].read_range(8, 12)
    assert source.counts == [7]


def test_outputs_without_the_rest_are_written_alone(tmp_path: Path) -> None:
    source = counted((30, 8))
    entries = outputs(source, "w")[:2]
    path = partial(tmp_path / "p")
    writer.write([safetensors(entries)], path)
    wanted = expected(source.array, "w")
    del wanted["w.largest"]
    check(wconv.load(path / "output" / "x.safetensors"), wanted)
    assert sum(source.counts) == 2 * source.size


def test_an_output_that_is_cast_or_reshaped_is_one_still(tmp_path: Path) -> None:
    source = counted((30, 8))
    node = SignMagnitude(source)
    magnitude, sign, largest = node.outputs
    entries = [
        Entry("magnitude", magnitude.cast("float16"), F16),
        Entry("sign", sign.reshape((-1,)), BOOL),
        Entry("twice", largest.cast("float16").cast("float32"), F32),
        Entry("largest", largest, F16),
    ]
    path = partial(tmp_path / "p")
    writer.write([safetensors(entries)], path)
    found = wconv.load(path / "output" / "x.safetensors")
    rows = np.abs(source.array)
    assert found["magnitude"].tobytes() == rows.astype(np.float16).tobytes()
    assert found["largest"].tobytes() == rows.max(axis=1).astype(np.float16).tobytes()
    assert found["twice"].tobytes() == rows.max(axis=1).astype(np.float16).astype(np.float32).tobytes()
    assert found["sign"].shape == (240,)
    assert sum(source.counts) == 2 * source.size


def test_a_plan_keeps_the_outputs_of_a_node_in_one_shard() -> None:
    entries: list[Entry] = []
    for at in range(6):
        entries += outputs(counted((10, 10), at), f"w{at}")
        entries.append(Entry(f"n{at}", from_array(values((40,), at)), F32))
    apart = [*entries[::2], *entries[1::2]]
    plan = make(apart, {}, max_shard_size=1000)
    assert len(plan.shards) > 5
    assert sorted(entry.name for entry in plan.entries) == sorted(entry.name for entry in entries)
    for shard in plan.shards:
        nodes = {entry.name.partition(".")[0] for entry in shard.entries if "." in entry.name}
        assert len([entry for entry in shard.entries if "." in entry.name]) == 3 * len(nodes)
        assert shard.data_bytes <= 1000
    assert len(make(apart, {}, max_shard_size=10).shards) == 12
    alone = make([entry for entry in entries if "." not in entry.name], {}, max_shard_size=400)
    assert [len(shard.entries) for shard in alone.shards] == [2, 2, 2]


def test_casts_count_for_the_tensor_that_they_are_of(tmp_path: Path) -> None:
    array = np.array([[1.0, 1e6], [2.0, 3e5]], np.float32)
    magnitude, sign, largest = SignMagnitude(from_array(array)).outputs
    entries = [Entry("m", magnitude, F16), Entry("s", sign, BOOL), Entry("l", largest, F16)]
    (written,) = writer.write([safetensors(entries)], partial(tmp_path / "p"))
    assert written.overflows == {"m": Overflow(2, 1e6), "l": Overflow(2, 1e6)}
    before = SignMagnitude(from_array(array).cast("float16")).outputs
    entries = [Entry(name, one, one.dtype) for name, one in zip("msl", before, strict=True)]
    (written,) = writer.write([safetensors(entries)], partial(tmp_path / "q"))
    assert written.overflows == {"m": Overflow(2, 1e6)}
    nan = outputs(from_array(np.full((1, 2), np.nan, np.float32)), "w")
    with pytest.raises(OutputError, match=r"^w\.magnitude: it is no number"):
        writer.write([safetensors(nan)], partial(tmp_path / "r"))


def test_arrays_are_read_in_one_pass_too() -> None:
    source = counted((30, 8))
    entries = [*outputs(source, "w"), Entry("n", from_array(values((3,))), F32)]
    found = list(read(entries[::-1]))
    assert all(lost == NONE for _, _, lost in found)
    check(
        {entry.name: array for entry, array, _ in found},
        expected(source.array, "w") | {"n": values((3,))},
    )
    assert sum(source.counts) == source.size


def plan_of(directory: Path, pause: float = 0.0) -> tuple[Shard, ...]:
    opened = wconv.open(directory / "source.safetensors")
    entries = [entry for name, tensor in opened.items() for entry in outputs(tensor, name, pause)]
    return tuple(
        one
        for suffix, made in ((".safetensors", safetensors_shard), (".pt", torch_shard))
        for one in make(
            entries,
            {},
            max_shard_size=3 << 20,
            names=lambda count, suffix=suffix: [f"{number}{suffix}" for number in range(count)],  # type: ignore[misc]
            shard=made,
        ).shards
    )


@pytest.fixture
def source(tmp_path: Path) -> dict[str, Array]:
    arrays = {f"w{at}": values((100, 1000 + at), at) for at in range(12)}
    write_file(tmp_path / "source.safetensors", arrays)
    return {name: array for key, one in arrays.items() for name, array in expected(one, key).items()}


def results(directory: Path, suffix: str) -> dict[str, Array]:
    return {
        name: array
        for file in sorted((directory / "output").glob(f"*{suffix}"))
        for name, array in wconv.load(file).items()
    }


def test_tasks_of_an_executor_write_in_one_pass(source: dict[str, Array], tmp_path: Path) -> None:
    shards = plan_of(tmp_path)
    assert len(shards) == 4
    (again,) = pickle.loads(pickle.dumps(shards[:1]))
    assert [len(unit.targets) for unit in chunks.work_units(again)] == [3] * (len(again.entries) // 3)
    path = partial(tmp_path / "p")
    with ProcessPoolExecutor(2) as pool:
        writer.write(shards, path, executor=pool)
    check(results(path, ".safetensors"), source)
    check(results(path, ".pt"), source)


ROOT = str(Path(__file__).parents[2])

KILLED = f"""
import sys
from pathlib import Path
sys.path.append({ROOT!r})
from tests.writing.test_multi_outputs import plan_of
from wconv.writing import chunks, journal, writer
chunks.CHUNK, journal.STEP = 64 << 10, 1 << 18
writer.write(plan_of(Path(sys.argv[1]), 0.002), Path(sys.argv[1]) / "p", jobs=2)
"""


def test_a_run_that_is_killed_goes_on_where_it_was(
    source: dict[str, Array], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = partial(tmp_path / "p")
    killed = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)])
    began = time.monotonic()
    while not any(log.stat().st_size > 200 for log in path.glob("*.log")):
        assert killed.poll() is None
        assert time.monotonic() - began < 60
        time.sleep(0.01)
    os.kill(killed.pid, 9)
    killed.wait()
    monkeypatch.setattr(chunks, "CHUNK", 64 << 10)
    shards = plan_of(tmp_path)
    assert writer.begun(path, shards)
    computed = 0
    read_into = SignMagnitude.read_into

    def noted(self: SignMagnitude, first: int, last: int, outs: Sequence[Array | None]) -> None:
        nonlocal computed
        computed += last - first
        read_into(self, first, last, outs)

    monkeypatch.setattr(SignMagnitude, "read_into", noted)
    seen: list[int] = []
    writer.write(shards, path, jobs=2, progress=seen.append)
    assert 0 < computed < 2 * 12 * 100
    assert seen == sorted(seen)
    check(results(path, ".safetensors"), source)
    check(results(path, ".pt"), source)
    for file in (path / "output").glob("*.pt"):
        assert zipfile.ZipFile(file).testzip() is None


def test_a_graph_is_walked_and_rebuilt_by_parents() -> None:
    base = counted((4, 6))
    other = counted((4, 6), 1)
    magnitude = SignMagnitude(base.cast("float16").transpose((1, 0))).outputs[0]
    joined = magnitude.slice(0, 0, 3)
    assert list(leaves(joined)) == [base]
    assert rebuilt(joined, lambda node: None) is joined
    swapped = rebuilt(joined, lambda node: other if node is base else None)
    assert list(leaves(swapped)) == [other]
    assert (
        swapped.numpy().tolist() == np.abs(other.array.astype(np.float16).T[:3].astype(np.float32)).tolist()
    )
    with pytest.raises(ValueError, match="Counted has 0 parents"):
        base.with_parents(other)
