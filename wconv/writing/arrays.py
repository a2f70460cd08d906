"""Entries of a plan as arrays in memory, in place of a file."""

from __future__ import annotations

import bisect
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from wconv.tensors.base import Array
from wconv.tensors.borrowed import keeping
from wconv.tensors.casts import NONE, Overflow
from wconv.writing.buffers import Buffers, add_overflows
from wconv.writing.chunks import CHUNK, outputs_together, shard_offsets, work_units
from wconv.writing.plan import Entry, Shard

Room = Callable[[Entry], Array | None]
"""Gives the 1-D array that an entry is to be read into; None where any will do."""


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
    local = threading.local()

    def run(passes: list[list[Entry]], rooms: list[Array | None]) -> list[tuple[Entry, Array, Overflow]]:
        if not hasattr(local, "buffers"):
            local.buffers = Buffers()
        with keeping():
            left = iter(rooms)
            return [
                one
                for together in passes
                for one in _read(together, [next(left) for _ in together], local.buffers)
            ]

    threads = jobs or os.cpu_count() or 1
    with ThreadPoolExecutor(threads, "wconv-read") as pool:
        ahead: deque[Future[list[tuple[Entry, Array, Overflow]]]] = deque()
        try:
            for passes in _passes(entries):
                rooms = [room(entry) for together in passes for entry in together]
                ahead.append(pool.submit(run, passes, rooms))
                if len(ahead) > threads:
                    yield from ahead.popleft().result()
            while ahead:
                yield from ahead.popleft().result()
        finally:
            for waiting in ahead:
                waiting.cancel()


def _passes(entries: Sequence[Entry]) -> Iterator[list[list[Entry]]]:
    """What a thread takes at once: entries, each alone or with the other outputs of its node."""
    passes = outputs_together(entries)
    few: list[list[Entry]] = []
    size = 0
    for at in range(len(entries)):
        together = [entries[number] for number in passes.get(at, [at])]
        if not together:
            continue
        few.append(together)
        size += sum(one.nbytes for one in together)
        if size >= CHUNK:
            yield few
            few, size = [], 0
    if few:
        yield few


def _read(
    entries: Sequence[Entry], rooms: Sequence[Array | None], buffers: Buffers
) -> list[tuple[Entry, Array, Overflow]]:
    shard = Shard("", b"", tuple(entries), sum(entry.nbytes for entry in entries))
    arrays = [
        np.empty(entry.tensor.size, entry.dtype.numpy) if given is None else given
        for entry, given in zip(entries, rooms, strict=True)
    ]
    offsets = shard_offsets(shard)
    lost: dict[str, Overflow] = {}
    for unit in work_units(shard):
        outs = []
        for target in unit.targets:
            at = bisect.bisect_right(offsets, target.offset, hi=len(entries)) - 1
            start = (target.offset - offsets[at]) // target.dtype.itemsize
            outs.append(arrays[at][start : start + target.count])
        add_overflows(lost, buffers.compute(unit, outs)[1])
    return [
        (entry, array.reshape(entry.shape), lost.get(entry.name, NONE))
        for entry, array in zip(entries, arrays, strict=True)
    ]
