"""Entries of a plan as arrays in memory, in place of a file."""

from __future__ import annotations

import bisect
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

from wconv.tensors.base import Array
from wconv.tensors.borrowed import keeping
from wconv.tensors.casts import NONE, Overflow
from wconv.tensors.memory import LARGE, Memory
from wconv.writing.buffers import Buffers, add_overflows
from wconv.writing.chunks import CHUNK, WorkUnit, outputs_together, shard_offsets, work_units
from wconv.writing.plan import Entry, Shard

Room = Callable[[Entry], Array | None]
"""Gives the 1-D array that an entry is to be read into; None where any will do."""

PART = 8 << 20
"""Bytes that a thread reads or computes before it takes what is next."""

_Lost = dict[str, Overflow]


class _Work(NamedTuple):
    """A unit, and where its targets' elements go."""

    unit: WorkUnit
    outs: list[Array]
    asked: bool


@dataclass(slots=True)
class _Job:
    """Entries that are computed together, each to an array of its own.

    Attributes:
        asked: large pages were asked for, for all of them.
    """

    entries: Sequence[Entry]
    arrays: list[Array]
    asked: bool

    def units(self) -> Iterator[_Work]:
        """All work, in units."""
        shard = Shard("", b"", tuple(self.entries), sum(entry.nbytes for entry in self.entries))
        offsets = shard_offsets(shard)
        for unit in work_units(shard):
            outs = []
            for target in unit.targets:
                at = bisect.bisect_right(offsets, target.offset, hi=len(self.entries)) - 1
                start = (target.offset - offsets[at]) // target.dtype.itemsize
                outs.append(self.arrays[at][start : start + target.count])
            yield _Work(unit, outs, self.asked)


@dataclass(slots=True)
class _Group:
    """Jobs that are begun together; threads do parts of them.

    Attributes:
        stream: what their bytes are inflated of.
    """

    jobs: list[_Job]
    stream: object | None
    parts: list[Future[_Lost]] = field(default_factory=list)

    def results(self) -> Iterator[tuple[Entry, Array, Overflow]]:
        """Waits for all parts."""
        lost: _Lost = {}
        for part in self.parts:
            add_overflows(lost, part.result())
        for job in self.jobs:
            for entry, array in zip(job.entries, job.arrays, strict=True):
                yield entry, array.reshape(entry.shape), lost.get(entry.name, NONE)


def read(
    entries: Sequence[Entry], jobs: int | None = None, room: Room = lambda entry: None
) -> Iterator[tuple[Entry, Array, Overflow]]:
    """Each entry, as an array of its dtype and shape as a file would hold it, and what it lost.

    Those that are outputs of one node are computed in one pass. Threads are a few passes ahead of the one
    that takes the arrays: what is read ahead grows with their number, not with the model.

    Args:
        jobs: threads; as many as there are cores when absent.
        room: is called in the thread that takes the arrays.

    Raises:
        FormatError: a source ends early.
        OutputError: what is computed of finite values is not finite.
    """
    local, memory = threading.local(), Memory()

    def run(units: Iterable[_Work], before: Sequence[Future[_Lost]]) -> _Lost:
        for one in before:
            one.result()
        if not hasattr(local, "buffers"):
            local.buffers = Buffers()
        lost: _Lost = {}
        with keeping():
            for unit, outs, asked in units:
                for out in outs:
                    memory.bring_in(out, asked=asked)
                add_overflows(lost, local.buffers.compute(unit, outs)[1])
        return lost

    threads = jobs or os.cpu_count() or 1
    with ThreadPoolExecutor(threads, "wconv-read") as pool:
        ahead: deque[_Group] = deque()
        try:
            for passes in _passes(entries):
                group = _begun(passes, room, memory)
                before: Sequence[Future[_Lost]] = ()
                if group.stream is not None:
                    # two threads on one stream would each inflate all of it
                    before = next((one.parts for one in reversed(ahead) if one.stream == group.stream), ())
                group.parts += [pool.submit(run, units, before) for units in _parts(group)]
                ahead.append(group)
                if len(ahead) > threads:
                    yield from ahead[0].results()
                    ahead.popleft()
            while ahead:
                yield from ahead[0].results()
                ahead.popleft()
        finally:
            for waiting in ahead:
                for part in waiting.parts:
                    part.cancel()


def _begun(passes: list[list[Entry]], room: Room, memory: Memory) -> _Group:
    jobs = []
    for together in passes:
        arrays = []
        asked = True
        for entry in together:
            array = room(entry)
            if array is None:
                array = memory.empty(entry.tensor.size, entry.dtype)
                asked &= array.nbytes >= LARGE
            else:
                asked &= memory.adopt(array)
            arrays.append(array)
        jobs.append(_Job(together, arrays, asked))
    streams = (entry.tensor.stream for together in passes for entry in together)
    return _Group(jobs, next((one for one in streams if one is not None), None))


def _parts(group: _Group) -> Iterator[Iterable[_Work]]:
    """The work of a group as threads take it: all at once where it is little, or read of a stream."""
    if len(group.jobs) > 1 or group.stream is not None:
        yield (work for job in group.jobs for work in job.units())
        return
    part: list[_Work] = []
    size = 0
    for work in group.jobs[0].units():
        part.append(work)
        size += work.unit.nbytes
        if size >= PART:
            yield part
            part, size = [], 0
    if part:
        yield part


def _passes(entries: Sequence[Entry]) -> Iterator[list[list[Entry]]]:
    """What is begun at once: entries, each alone or with the other outputs of its node."""
    passes = outputs_together(entries)
    few: list[list[Entry]] = []
    size = 0
    for at in range(len(entries)):
        together = [entries[number] for number in passes.get(at, [at])]
        if not together:
            continue
        nbytes = sum(one.nbytes for one in together)
        if few and nbytes >= CHUNK:  # which threads share
            yield few
            few, size = [], 0
        few.append(together)
        size += nbytes
        if size >= CHUNK:
            yield few
            few, size = [], 0
    if few:
        yield few
