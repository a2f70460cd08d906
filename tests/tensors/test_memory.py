"""Memory for arrays is asked for in large pages until they are dear, and is there without them too."""

from __future__ import annotations

import gc
import mmap
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wconv.tensors import dtypes, memory
from wconv.tensors.memory import LARGE, STEP, Memory

BFLOAT16 = dtypes.by_name("bfloat16")
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for its memory")


def resident() -> int:
    """Bytes of anonymous memory of this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if "RssAnon" in line)
    return int(line.split()[1]) << 10


@pytest.mark.parametrize("count", [0, 1, 1000, LARGE // 2 - 1, LARGE // 2, LARGE + 12_345])
def test_arrays_can_be_written_to(count: int) -> None:
    room = Memory()
    array = room.empty(count, BFLOAT16)
    assert (array.size, array.dtype, array.ndim) == (count, BFLOAT16.numpy, 1)
    for start in range(0, count, 700_001):
        room.bring_in(array[start : start + 700_001], array)
    array[:] = 3
    assert (array == 3).all()
    assert array.flags.writeable
    assert array.flags.aligned


@ON_LINUX
def test_what_was_brought_in_is_there_and_goes_with_its_array() -> None:
    room = Memory()
    before = resident()
    arrays = [room.empty(8 << 20, dtypes.by_name("uint8")) for _ in range(3)]
    assert resident() - before < 4 << 20
    room.bring_in(arrays[1], arrays[1])
    assert 7 << 20 < resident() - before < 12 << 20
    assert not arrays[1].any()
    kept = arrays[1][5:6]
    del arrays, room
    gc.collect()
    assert resident() - before > 7 << 20  # a view holds its array, and it alone
    del kept
    assert resident() - before < 4 << 20


class Noted:
    """Advice about mappings, by the name of the constant."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.given: list[int] = []
        monkeypatch.setattr(memory, "_advised", self.advised)

    def advised(self, mapping: mmap.mmap, advice: int) -> bool:
        self.given.append(advice)
        return True


@ON_LINUX
def test_large_pages_end_when_they_are_dear(monkeypatch: pytest.MonkeyPatch) -> None:
    noted, now = Noted(monkeypatch), [0.0]
    monkeypatch.setattr(time, "thread_time", lambda: now[0])
    room = Memory()
    cost = [0.1e-9]

    def populate(address: int, nbytes: int, advice: int) -> int:
        now[0] += nbytes * cost[0]
        return 0

    monkeypatch.setattr(room, "_advise", populate)
    arrays = [room.empty(LARGE, BFLOAT16) for _ in range(2)]
    room.bring_in(arrays[0][: STEP // 2], arrays[0])
    assert noted.given == [mmap.MADV_HUGEPAGE] * 2
    cost[0] = 2e-9
    small = np.empty(STEP, np.uint8)
    room.bring_in(small)  # not of this kind of memory
    assert noted.given == [mmap.MADV_HUGEPAGE] * 2
    room.bring_in(arrays[0][STEP // 2 : STEP], arrays[0])
    assert noted.given == [mmap.MADV_HUGEPAGE] * 2
    cost[0] = 0.1e-9
    for _ in range(10):  # what is cheap makes up for it
        room.bring_in(arrays[1], arrays[1])
    cost[0] = 2e-9
    room.bring_in(arrays[1][: STEP // 2], arrays[1])
    assert noted.given == [mmap.MADV_HUGEPAGE] * 2
    room.bring_in(arrays[1], arrays[1])
    room.empty(LARGE, BFLOAT16)
    assert noted.given == [*[mmap.MADV_HUGEPAGE] * 2, *[mmap.MADV_NOHUGEPAGE] * 3]


@ON_LINUX
@pytest.mark.parametrize("offset", [0, 24, 4096, 5000])
@pytest.mark.parametrize("nbytes", [memory.SMALL, memory.SMALL + 100, STEP])
def test_only_pages_of_the_array_are_asked_for(
    offset: int, nbytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, asked = Memory(), []
    whole = np.empty(STEP + 16384, np.uint8)
    part = whole[offset : offset + nbytes]
    monkeypatch.setattr(room, "_advise", lambda *arguments: asked.append(arguments))
    room.bring_in(part)
    (address, length, advice) = asked[0]
    start, page = part.ctypes.data, mmap.PAGESIZE
    assert address % page == length % page == 0
    assert start - page < address <= start
    assert start + nbytes - page < address + length <= start + nbytes
    assert advice == memory.POPULATE_WRITE
    room.bring_in(whole[: memory.SMALL - 1])
    assert len(asked) == 1


@pytest.mark.parametrize("lacking", ["system", "library", "call", "mapping", "advice", "much"])
def test_without_any_of_it_arrays_are_there(lacking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: Any, **more: Any) -> Any:
        raise OSError(12, "Cannot allocate memory")

    if lacking == "system":
        monkeypatch.setattr(sys, "platform", "darwin")
    elif lacking == "library":
        monkeypatch.setattr("ctypes.CDLL", fails)
    elif lacking == "mapping":
        monkeypatch.setattr(mmap, "mmap", fails)
    elif lacking == "advice":
        monkeypatch.setattr(mmap, "MADV_HUGEPAGE", 12_345, raising=False)
        monkeypatch.setattr(mmap, "MADV_NOHUGEPAGE", 12_345, raising=False)
    memory._linux_madvise.cache_clear()
    room = Memory(worthwhile=lacking != "much")
    memory._linux_madvise.cache_clear()
    if lacking == "call":
        monkeypatch.setattr(room, "_advise", lambda *arguments: -1)
    array = room.empty(LARGE, BFLOAT16)
    for _ in range(2):
        room.bring_in(array, array)
    array[:] = 1
    assert (array == 1).all()
