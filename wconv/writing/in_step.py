"""Several outputs of one source, written in the order of the source's bytes, so that each is read once.

Of the shards of all outputs, the one is worked on whose next unit lies first in the source. So all that is
made of a place in the source is made at about the same time, while `stores.shared` still keeps it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wconv.errors import FormatError, OutputError, WconvError
from wconv.stores import shared, stopping
from wconv.tensors.base import LazyTensor
from wconv.tensors.borrowed import keeping
from wconv.tensors.graph import leaves
from wconv.writing.buffers import Buffers
from wconv.writing.chunks import StepRange, WorkUnit, work_units
from wconv.writing.plan import Shard
from wconv.writing.shard_file import ShardFile, Written, cannot_write, finished
from wconv.writing.writer import Threads, count_threads

Position = tuple[int, float]
"""A file, by its number, and a place in it."""

MOST_BESIDE = 8
"""Tensors that others are computed of element by element (weights, scales, …); of more, one after another."""


@dataclass(slots=True, eq=False)
class StepOutput:
    """One of several outputs.

    Attributes:
        directory: the partial directory.
        written: its finished shards by name.
        error: why it will not be finished.
    """

    shards: Sequence[Shard]
    directory: Path
    written: dict[str, Written] = field(default_factory=dict)
    error: WconvError | None = None


def write_in_step(
    outputs: Sequence[StepOutput],
    *,
    jobs: int | None = None,
    progress: Callable[[int], None] = lambda count: None,
    sync: bool = True,
) -> None:
    """Writes the shards of all outputs; says in each what became of it.

    One that cannot be written ends alone; a source that cannot be read ends all.

    Raises:
        FormatError: a source ends early.
        KeyboardInterrupt: once the threads have stopped.
    """
    todo: list[tuple[StepOutput, Shard]] = []
    for output in outputs:
        for shard in output.shards:
            found = finished(output.directory, shard)
            if found is not None:
                output.written[shard.filename] = found
            else:
                todo.append((output, shard))
    before = sum(one.nbytes for output in outputs for one in output.written.values())
    threads = _InStep(todo, sync=sync)
    count = count_threads(jobs, sum(shard.nbytes for _, shard in todo))
    with shared.reading_once(max(shared.KEPT, 8 * shared.BLOCK * count)):
        threads.run(count, lambda done: progress(before + done))
    for output, file in threads.files:
        if output.error is None:
            output.written[file.shard.filename] = file.written()


class _InStep(Threads):
    """Threads that take the unit that lies first in the source."""

    def __init__(self, todo: Sequence[tuple[StepOutput, Shard]], *, sync: bool) -> None:
        super().__init__([shard for _, shard in todo], Path(), sync=sync)
        self.files: list[tuple[StepOutput, ShardFile]] = []
        ranks: dict[str, int] = {}
        self._queue: list[tuple[Position, int, StepOutput, Shard | ShardFile]] = []
        for number, (output, shard) in enumerate(todo):
            first = min(
                (_place(entry.tensor.file_position, ranks) for entry in shard.entries), default=(0, 0.0)
            )
            self._queue.append((first, number, output, shard))
        heapq.heapify(self._queue)
        self._ranks = ranks
        self._units: dict[int, InSourceOrder] = {}

    def _work(self) -> None:
        stopping.stops_with(self._stop)
        buffers = Buffers()
        try:
            with keeping():
                while not self._stop.is_set() and (taken := self._take()) is not None:
                    output, file, unit = taken
                    try:
                        file.unit_done(unit, file.run(unit, buffers), buffers.checksums)
                        self._bytes += unit.nbytes
                    except OSError as error:
                        output.error = output.error or cannot_write(file.part, error)
                    except FormatError:
                        raise
                    except WconvError as error:
                        output.error = output.error or error
        except BaseException as error:
            self._fail(error)

    def _take(self) -> tuple[StepOutput, ShardFile, WorkUnit] | None:
        with self._lock:
            while self._queue:
                _, number, output, file = heapq.heappop(self._queue)
                if output.error is not None:
                    continue
                if isinstance(file, Shard):
                    try:
                        order = self._units[number] = InSourceOrder(file, self._ranks)
                        file = ShardFile(file, output.directory, self._syncer, units=order)
                    except OutputError as error:
                        output.error = error
                        continue
                    self._started.append(file)
                    self.files.append((output, file))
                try:
                    unit = file.next_unit()
                except (OSError, OutputError) as error:
                    output.error = error if isinstance(error, OutputError) else cannot_write(file.part, error)
                    continue
                if unit is None:
                    del self._units[number]
                    continue
                heapq.heappush(self._queue, (self._units[number].position, number, output, file))
                return output, file, unit
            return None


class InSourceOrder:
    """The units of a shard in the order of the source's bytes, as far as that can be told beforehand.

    In a file, tensors of one width follow each other; each such run is in the source's order already.

    Attributes:
        position: of the next unit.
    """

    def __init__(self, shard: Shard, ranks: dict[str, int]) -> None:
        widths = {entry.dtype.itemsize for entry in shard.entries} if shard.archive is None else {0}
        runs = [_run(shard, width if len(widths) > 1 else 0, ranks) for width in sorted(widths)]
        self._merged = heapq.merge(*runs, key=lambda pair: pair[0])
        self._next = next(self._merged, None)
        self.position: Position = self._next[0] if self._next is not None else (0, 0.0)

    def __iter__(self) -> Iterator[WorkUnit]:
        return self

    def __next__(self) -> WorkUnit:
        if self._next is None:
            raise StopIteration
        unit = self._next[1]
        self._next = next(self._merged, None)
        if self._next is not None:
            self.position = self._next[0]
        return unit


def _run(shard: Shard, width: int, ranks: dict[str, int]) -> Iterator[tuple[Position, WorkUnit]]:
    """The units whose elements have so many bytes, each with its place; all units for 0."""
    places: dict[int, list[tuple[Position, int]]] = {}
    for unit in work_units(shard):
        if width in (0, unit.targets[0].dtype.itemsize):
            yield _position(unit, ranks, places), unit


def _position(
    unit: WorkUnit, ranks: dict[str, int], places: dict[int, list[tuple[Position, int]]]
) -> Position:
    """Where a unit begins in the source."""
    if isinstance(unit.work, StepRange):
        tensors: tuple[LazyTensor, ...] = unit.work.node.parents
        share = unit.work.first / max(unit.work.node.steps, 1)
        key = id(unit.work.node)
    else:
        piece = unit.work[0]
        tensors, share, key = (piece.tensor,), piece.start / max(piece.tensor.size, 1), id(piece.tensor)
    found = places.get(key)
    if found is None:
        places.clear()
        found = places[key] = [(_place(leaf.file_position, ranks), leaf.nbytes) for leaf in leaves(*tensors)]
    if not found:
        return (0, 0.0)
    at = share * len(found) if len(found) > MOST_BESIDE else share
    number = min(int(at), len(found) - 1)
    (rank, offset), nbytes = found[number]
    return rank, offset + (at - number) * nbytes


def _place(position: tuple[str, int], ranks: dict[str, int]) -> Position:
    path, offset = position
    return ranks.setdefault(path, len(ranks)), float(offset)
