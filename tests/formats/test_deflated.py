"""Deflated entries: any range from any thread, in bounded memory, each stream inflated once."""

from __future__ import annotations

import gc
import random
import threading
import weakref
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
import wconv.torch as torch
from wconv.formats import deflated
from wconv.formats.deflated import DeflatedSource
from wconv.formats.sources import FileSource, MemorySource
from wconv.tensors import dtypes, reading
from wconv.tensors.reading import read_all
from wconv.writing import arrays, chunks
from wconv.writing.plan import Entry

UINT8 = dtypes.by_name("uint8")
SIZE = 300_000


def content(seed: int, size: int = SIZE) -> bytes:
    """Bytes that deflate to about a half."""
    return random.Random(seed).randbytes(size // 2).hex().encode()[:size]


def packed(data: bytes) -> bytes:
    squeezer = zlib.compressobj(1, zlib.DEFLATED, -15)
    return squeezer.compress(data) + squeezer.flush()


class Counting(MemorySource):
    """A source that says what is read of it; `wait` is called each time."""

    __slots__ = ("reads", "wait")

    def __init__(self, data: bytes, wait: Callable[[], Any] = lambda: None) -> None:
        super().__init__(data, "counting")
        self.reads: list[int] = []
        self.wait = wait

    def _read(self, offset: int, count: int) -> bytes:
        self.reads.append(count)
        self.wait()
        return super()._read(offset, count)


@pytest.fixture(autouse=True)
def short_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deflated, "STEP", 4096)
    monkeypatch.setattr(deflated, "READ", 1000)


def source(data: bytes, wait: Callable[[], Any] = lambda: None) -> DeflatedSource:
    return DeflatedSource(Counting(packed(data), wait), len(data), "it")


@pytest.mark.parametrize("places", [2, 16, 1000])
@pytest.mark.parametrize("recent", [1, 50_000])
def test_any_range_is_what_was_deflated(places: int, recent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deflated, "PLACES", places)
    monkeypatch.setattr(deflated, "RECENT", recent)
    monkeypatch.setattr(deflated, "_kept", deflated._Kept())
    data = content(0)
    whole = source(data)
    chance = random.Random(1)
    for _ in range(60):
        start = chance.randrange(SIZE)
        stop = min(start + chance.randrange(30_000), SIZE)
        assert whole.read(start, stop - start) == data[start:stop]


def test_threads_read_any_ranges_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deflated, "STREAMS", 2)
    monkeypatch.setattr(deflated, "RECENT", 12_000)
    monkeypatch.setattr(deflated, "_kept", deflated._Kept())
    datas = [content(at, 60_000) for at in range(4)]
    sources = [source(data) for data in datas]

    def look(seed: int) -> bool:
        chance = random.Random(seed)
        which, start = chance.randrange(4), chance.randrange(50_000)
        return sources[which].read(start, 9000) == datas[which][start : start + 9000]

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(look, range(200)))


def test_what_is_kept_of_all_streams_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deflated, "RECENT", 50_000)
    monkeypatch.setattr(deflated, "_kept", deflated._Kept())
    sources = [source(content(at, 200_000)) for at in range(deflated.STREAMS + 5)]
    for one in sources:
        one.read(0, one.size)
    assert 9 <= sum(len(one._recent) for one in sources) <= 50_000 // 4096
    kept = [one._places for one in sources if one._places is not None]
    assert len(kept) <= deflated.STREAMS
    assert all(len(one._states) <= deflated.PLACES + 1 for one in kept)
    gone = weakref.ref(sources.pop())
    del one, kept
    gc.collect()
    assert gone() is None


def test_places_are_spread_over_all_of_a_stream() -> None:
    whole = source(content(0))
    whole.read(0, whole.size)
    assert whole._places is not None
    at = sorted(whole._places._states)
    assert max(after - before for before, after in pairwise(at)) <= 2 * SIZE // 4096 // 8
    before = len(whole.packed.reads)  # type: ignore[attr-defined]
    whole.read(SIZE // 2, 10)
    assert len(whole.packed.reads) - before < before / 4  # type: ignore[attr-defined]


def test_streams_are_inflated_at_once() -> None:
    barrier = threading.Barrier(2, timeout=20)
    waited = threading.local()

    def wait() -> None:
        if not hasattr(waited, "already"):  # each thread: until another one inflates, too
            waited.already = True
            barrier.wait()

    datas = [content(at, 60_000) for at in range(2)]
    sources = [source(data, wait) for data in datas]
    tensors = {str(at): one.tensor(0, UINT8, one.size, False) for at, one in enumerate(sources)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "PART", 4096)
        found = read_all(tensors, 2)
    assert [found[name].tobytes() for name in tensors] == datas


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_one_stream_is_inflated_once_whoever_reads_it(jobs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PART", 4096)
    monkeypatch.setattr(arrays, "PART", 4096)
    monkeypatch.setattr(chunks, "CHUNK", 4096)
    monkeypatch.setattr(arrays, "CHUNK", 4096)
    data = content(0)
    whole = source(data)
    tensors = {str(at): whole.tensor(at, UINT8, 50_000, False) for at in range(0, SIZE, 50_000)}
    found = read_all(tensors, jobs)
    assert b"".join(found[name].tobytes() for name in tensors) == data
    assert sum(whole.packed.reads) <= whole.packed.size + 20 * deflated.READ  # type: ignore[attr-defined]
    entries = [Entry(name, tensor, UINT8) for name, tensor in tensors.items()]
    again = source(data)
    entries = [Entry(name, again.tensor(int(name), UINT8, 50_000, False), UINT8) for name in tensors]
    assert b"".join(array.tobytes() for _, array, _ in arrays.read(entries, jobs)) == data
    assert sum(again.packed.reads) <= again.packed.size + 20 * deflated.READ  # type: ignore[attr-defined]


def test_a_stream_within_a_stream_is_part_of_it() -> None:
    inner = packed(content(0, 50_000))
    outer = source(inner + inner)
    ones = [
        DeflatedSource(outer.part(at * len(inner), len(inner)), 50_000, "inner").tensor(0, UINT8, 9, False)
        for at in range(2)
    ]
    assert ones[0].stream is ones[1].stream is outer
    assert ones[0].cast("int32").transpose((0,)).stream is outer
    assert MemorySource(b"", "").tensor(0, UINT8, 0, False).stream is None


def test_positions_are_those_of_the_packed_bytes(tmp_path: Path) -> None:
    data = packed(content(0, 50_000))
    (tmp_path / "a").write_bytes(bytes(100) + data + packed(packed(content(1, 50_000))))
    file = FileSource(str(tmp_path / "a"))
    first = DeflatedSource(file.part(100, len(data)), 50_000, "a")
    assert first.tensor(0, UINT8, 1, False).file_position == (file.path, 100)
    at = first.tensor(25_000, UINT8, 1, False).cast("int8").file_position[1]
    assert 100 + 0.4 * len(data) < at < 100 + 0.6 * len(data)
    outer = DeflatedSource(file.part(100 + len(data), file.size - 100 - len(data)), 50_000, "a")
    inner = DeflatedSource(outer.part(10, 20_000), 50_000, "a")
    assert 100 + len(data) < inner.tensor(0, UINT8, 1, False).file_position[1] < 200 + len(data)
    assert DeflatedSource(MemorySource(data, ""), 50_000, "a").position(9) == ("", 0)


def write_torch(path: Path, tensors: dict[str, Any]) -> Path:
    torch.save({name: torch.from_numpy(array) for name, array in tensors.items()}, path)
    return path


def zipped(path: Path, names: Callable[[str], bool]) -> Path:
    """The archive, with some of its members deflated."""
    target = path.with_suffix(".zipped.pt")
    with zipfile.ZipFile(path) as stored, zipfile.ZipFile(target, "w") as archive:
        for name in stored.namelist():
            archive.writestr(name, stored.read(name), 8 if names(name) else 0, 1)
    return target


@pytest.mark.parametrize("jobs", [1, 4])
@pytest.mark.parametrize("which", ["all", "some"])
def test_a_zipped_checkpoint_is_converted_as_a_stored_one(
    jobs: int, which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 8192)
    chance = np.random.default_rng(0)
    tensors = {
        f"layer.{at}.weight": chance.integers(0, 9, (100 + at, 70), np.int32).astype(np.float32)
        for at in range(12)
    }
    stored = write_torch(tmp_path / "model.pt", tensors)
    again = zipped(stored, lambda name: which == "all" or name[-1] in "13579")
    for path in (stored, again):
        wconv.convert(path, path.with_suffix(".safetensors"), dtype="float16", jobs=jobs)
    assert again.with_suffix(".safetensors").read_bytes() == stored.with_suffix(".safetensors").read_bytes()
    loaded = wconv.load(again)
    assert list(loaded) == list(wconv.load(stored))
    assert all(np.array_equal(loaded[name], tensors[name]) for name in tensors)


def test_a_damaged_stream_among_others_is_told(tmp_path: Path) -> None:
    stored = write_torch(tmp_path / "model.pt", {f"t{at}": np.arange(90_000.0) * at for at in range(1, 6)})
    again = zipped(stored, lambda name: True)
    raw = bytearray(again.read_bytes())
    with zipfile.ZipFile(again) as archive:
        third = [one for one in archive.infolist() if "/data/" in one.filename][2]
    # a block's kind that deflate does not have, near the end of it
    raw[third.header_offset + 30 + len(third.filename)] |= 6
    again.write_bytes(raw)
    for do in (wconv.load, lambda path: wconv.convert(path, tmp_path / "out.safetensors", jobs=4)):
        with pytest.raises(wconv.FormatError, match=r"damaged|truncated"):
            do(again)
    assert {path.name for path in tmp_path.iterdir()} == {"model.pt", "model.zipped.pt"}
