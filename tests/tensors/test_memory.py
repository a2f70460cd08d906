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
        room.bring_in(array[start : start + 700_001], asked=array.nbytes >= LARGE)
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
    room.bring_in(arrays[1], asked=True)
    if room._advise is None:
        pytest.skip("a system older than Linux 5.14")
    assert 7 << 20 < resident() - before < 12 << 20
    assert not arrays[1].any()
    kept = arrays[1][5:6]
    del arrays, room
    gc.collect()
    assert resident() - before > 7 << 20  # a view holds its array, and it alone
    del kept
    assert resident() - before < 4 << 20


class Paged:
    """A system whose memory costs so many seconds a byte, and what was asked of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.given: list[int] = []
        self.cost = 0.1e-9
        self.now = 0.0
        monkeypatch.setattr(time, "thread_time", lambda: self.now)
        monkeypatch.setattr(memory, "_linux_madvise", lambda: self)

    def __call__(self, address: int, nbytes: int, advice: int) -> int:
        if advice == memory.POPULATE_WRITE:
            self.now += nbytes * self.cost
        else:
            self.given.append(advice)
        return 0


@ON_LINUX
def test_large_pages_end_when_they_are_dear(monkeypatch: pytest.MonkeyPatch) -> None:
    system = Paged(monkeypatch)
    room = Memory()
    arrays = [room.empty(LARGE, BFLOAT16) for _ in range(3)]
    asked = [mmap.MADV_HUGEPAGE] * 3
    room.bring_in(arrays[0][: STEP // 2], asked=True)
    assert system.given == asked
    system.cost = 2e-9
    for _ in range(10):  # not of this kind of memory
        room.bring_in(np.empty(STEP, np.uint8), asked=False)
    room.bring_in(arrays[0][STEP // 2 : STEP], asked=True)
    assert system.given == asked
    system.cost = 0.1e-9
    for _ in range(10):  # what is cheap makes up for it
        room.bring_in(arrays[1], asked=True)
    system.cost = 2e-9
    room.bring_in(arrays[1][: STEP // 2], asked=True)
    assert system.given == asked
    del arrays[2]
    room.bring_in(arrays[1], asked=True)
    room.empty(LARGE, BFLOAT16)
    assert system.given == asked + [mmap.MADV_NOHUGEPAGE] * 3


@ON_LINUX
def test_only_large_arrays_of_others_are_adopted(monkeypatch: pytest.MonkeyPatch) -> None:
    system = Paged(monkeypatch)
    room = Memory()
    assert not room.adopt(np.empty(memory.OWN - 1, np.uint8))
    assert system.given == []
    assert room.adopt(np.empty(memory.OWN, np.uint8))
    assert system.given == [mmap.MADV_HUGEPAGE]


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
    room.bring_in(part, asked=False)
    (address, length, advice) = asked[0]
    start, page = part.ctypes.data, mmap.PAGESIZE
    assert address % page == length % page == 0
    assert start - page < address <= start
    assert start + nbytes - page < address + length <= start + nbytes
    assert advice == memory.POPULATE_WRITE
    room.bring_in(whole[: memory.SMALL - 1], asked=False)
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
    memory._linux_madvise.cache_clear()
    room = Memory(worthwhile=lacking != "much")
    memory._linux_madvise.cache_clear()
    if lacking == "call":
        monkeypatch.setattr(room, "_advise", lambda *arguments: -1)
    array = room.empty(LARGE, BFLOAT16)
    for _ in range(2):
        room.bring_in(array, asked=True)
    array[:] = 1
    assert (array == 1).all()
