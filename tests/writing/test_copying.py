"""Bytes that stay as they are: copied by the system, written out of mapped pages, or read and written.

Covers `stores/copying.py`.
"""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from tests.making import random
from wconv.errors import FormatError
from wconv.formats.safetensors import make_header
from wconv.stores import copying
from wconv.stores.copying import BLOCK
from wconv.stores.files import SourceFile
from wconv.tensors import dtypes
from wconv.writing import buffers, page_cache
from wconv.writing.chunks import CHUNK, WRITE, work_units
from wconv.writing.plan import Entry, Shard, make
from wconv.writing.writer import Threads

SIZE = 3 * CHUNK // 2 + 1001


def file_of(path: Path, padding: int) -> Path:
    """Two tensors, the header of `padding` more bytes."""
    values = {"a": random((SIZE,), np.float16), "b": random((SIZE // 3,), np.float16, seed=1)}
    header = bytearray(make_header(((n, dtypes.by_name("float16"), v.shape) for n, v in values.items()), {}))
    length = len(header) - 8 + padding
    header[:8] = length.to_bytes(8, "little")
    path.write_bytes(bytes(header) + b" " * padding + b"".join(v.tobytes() for v in values.values()))
    return path


def padding_of(tmp_path: Path) -> int:
    """What makes the header of a source as long as that of its output."""
    source = file_of(tmp_path / "first.safetensors", 0)
    wconv.convert(source, tmp_path / "found.safetensors")
    lengths = [
        int.from_bytes(path.read_bytes()[:8], "little") for path in (source, tmp_path / "found.safetensors")
    ]
    return lengths[1] - lengths[0]


@pytest.mark.skipif(not hasattr(os, "copy_file_range"), reason="this system copies no ranges")
@pytest.mark.parametrize("failing", [None, errno.EXDEV, errno.EIO, 0])
def test_alike_blocks_are_copied_by_the_system_or_read_and_written(
    failing: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = file_of(tmp_path / "x.safetensors", padding_of(tmp_path) + BLOCK)
    asked: list[tuple[int, int]] = []
    copy = os.copy_file_range

    def noted(src: int, dst: int, count: int, start: int, at: int) -> int:
        asked.append((start, at))
        if failing == 0 and len(asked) > 2:
            return 0
        if failing and len(asked) > 2:
            raise OSError(failing, os.strerror(failing))
        return copy(src, dst, min(count, 700_001), start, at)

    monkeypatch.setattr(os, "copy_file_range", noted)
    monkeypatch.setattr(copying, "by_system", lambda src, dst, start, at, count: (start - at) % BLOCK == 0)
    wconv.convert(source, tmp_path / "o.safetensors")
    assert len(asked) > 2
    assert all((start - at) % BLOCK == 0 for start, at in asked)
    old, new = wconv.load(source), wconv.load(tmp_path / "o.safetensors")
    assert all(old[name].tobytes() == new[name].tobytes() for name in old)


@pytest.mark.parametrize("padding", [0, 8, BLOCK])
@pytest.mark.parametrize("maps", [True, False])
def test_others_are_written_out_of_mapped_pages_or_read_and_written(
    padding: int, maps: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = file_of(tmp_path / "x.safetensors", padding_of(tmp_path) + padding)
    monkeypatch.setattr(copying, "by_system", lambda *_: False)
    if not maps:
        monkeypatch.setattr(copying, "mapped", lambda *_: None)
    wconv.convert(source, tmp_path / "o.safetensors")
    old, new = wconv.load(source), wconv.load(tmp_path / "o.safetensors")
    assert all(old[name].tobytes() == new[name].tobytes() for name in old)


@pytest.mark.skipif(not hasattr(mmap, "MAP_POPULATE"), reason="this system maps no pages at once")
def test_a_file_that_is_cut_short_while_its_pages_are_mapped_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = file_of(tmp_path / "x.safetensors", 0)
    size = source.stat().st_size - CHUNK
    mapped = copying.mapped

    def cut(fd: int, offset: int, count: int) -> memoryview | None:
        pages = mapped(fd, offset, count)
        if offset + count > size:
            os.truncate(source, size)
        return pages

    monkeypatch.setattr(copying, "by_system", lambda *_: False)
    monkeypatch.setattr(copying, "mapped", cut)
    with pytest.raises(FormatError, match=r"truncated|changed since"):
        wconv.convert(source, tmp_path / "o.safetensors")
    assert not (tmp_path / "o.safetensors").exists()


@pytest.mark.skipif(not hasattr(mmap, "MAP_POPULATE"), reason="this system maps no pages at once")
@pytest.mark.parametrize("size", [9999, 5000, 0])
def test_zeros_beyond_a_new_end_are_not_taken_for_its_bytes(size: int, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x" * 10_000)

    def write(fd: int, data: memoryview, offset: int) -> None:
        os.truncate(tmp_path / "x", size)
        buffers.put(fd, data, offset)

    with (tmp_path / "y").open("wb") as target:
        source = SourceFile(str(tmp_path / "x"))
        assert not source.copy_range(1, 9999, target.fileno(), 8, write)


@pytest.mark.parametrize(("offset", "at", "count"), [(0, 8, 1 << 20), (8, 8, BLOCK), (5, 5, BLOCK + 4090)])
def test_the_system_is_asked_only_where_a_whole_block_begins_alike(offset: int, at: int, count: int) -> None:
    assert not copying.by_system(-1, -1, offset, at, count)


@pytest.mark.parametrize("shares", [True, False])
def test_whether_a_file_system_shares_blocks_is_asked_once(
    shares: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []

    def share(source: int, target: int, offset: int, at: int) -> bool:
        asked.append((offset, at))
        return shares

    monkeypatch.setattr(copying, "_shares", {})
    monkeypatch.setattr(copying, "_share_block", share)
    monkeypatch.setattr(os, "major", lambda device: 8)
    with (tmp_path / "x").open("wb") as file:
        found = [copying.by_system(file.fileno(), file.fileno(), 8, BLOCK + 8, 1 << 20) for _ in range(3)]
    assert found == [shares] * 3
    assert asked == [(BLOCK, 2 * BLOCK)]


def test_a_block_that_cannot_be_shared_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x" * BLOCK)
    (tmp_path / "y").write_bytes(b"y" * BLOCK)
    with (tmp_path / "x").open("rb") as source, (tmp_path / "y").open("r+b") as target:
        shared = copying._share_block(source.fileno(), target.fileno(), 0, 0)
    assert (tmp_path / "y").read_bytes() == (b"x" if shared else b"y") * BLOCK


@pytest.mark.parametrize("offset", [0, 8, 136, 1000, 4095])
def test_a_buffer_begins_within_a_line_as_its_bytes_in_the_file(offset: int) -> None:
    found: list[Any] = []
    dtype = dtypes.by_name("float16")
    for count in (10, 1 << 16, 10):
        begin = buffers._buffer(found, 0, count, dtype, offset).ctypes.data
        assert begin % buffers.LINE == (offset % buffers.LINE if offset % 2 == 0 else 0)
    assert (begin - offset % buffers.LINE) % buffers.PAGE == 0 or offset % 2


def test_threads_begin_with_the_largest_file(tmp_path: Path) -> None:
    sizes = {"a": 100, "b": 300, "c": 200, "d": 300}
    shards = []
    for name, size in sizes.items():
        source = tmp_path / f"{name}.npy"
        np.save(source, random((size,), np.float16))
        shards.append(Shard(f"{name}.safetensors", b"", (), size))
    waiting = Threads(shards, tmp_path, sync=False)._waiting
    assert [shard.filename[0] for shard in reversed(waiting)] == ["b", "d", "c", "a"]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_units_of_a_large_tensor_end_where_whole_pages_do(dtype: str, tmp_path: Path) -> None:
    source = wconv.open(file_of(tmp_path / "x.safetensors", 0))
    (shard,) = make([Entry(n, t, dtypes.by_name(dtype)) for n, t in source.items()], {}).shards
    targets = [target for unit in work_units(shard) for target in unit.targets]
    ends = [target.offset + target.nbytes for target in targets]
    assert [len(shard.header), *ends[:-1]] == [target.offset for target in targets]
    assert ends[-1] == shard.nbytes
    assert sum(end % WRITE == 0 for end in ends) == len(ends) - len(source)
    assert max(target.nbytes for target in targets) <= CHUNK


def test_what_other_programs_take_makes_no_write_dear(monkeypatch: pytest.MonkeyPatch) -> None:
    thread = page_cache.WriteBehind()
    assert thread.clock is page_cache.time.thread_time
    thread.active = True
    assert thread.clock is page_cache.time.perf_counter
