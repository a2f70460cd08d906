"""Units of work: what one thread reads, casts and writes at a time, made lazily from a shard's entries.

A unit is about 2 MiB: with less, threads spend their time handing the interpreter lock over; more
falls out of the cache. Small neighbours with the same dtypes are joined into one, and pieces that follow
each other in a source file become one read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from wconv.tensors.dtypes import DType
from wconv.tensors.lazy import FileTensor, LazyTensor
from wconv.tensors.multi import MultiNode, may_hold_outputs, output_of
from wconv.writing.plan import Entry, Shard
from wconv.writing.turns import in_turns

CHUNK = 2 << 20
"""Bytes of input or output in a unit, whichever is more, unless a tensor is read in larger blocks."""

WRITE = 512 << 10
"""Bytes of one write, and what its end in the file is a multiple of.

The system takes as large pages as a write fills: of many small ones each costs work, and the largest,
of 2 MiB, are dear where a machine's host takes free memory back.
"""

MOST_JOINED = 4096
"""Tensors that are joined into one unit: their names take memory too."""


@dataclass(frozen=True, slots=True)
class TensorRange:
    """Elements `start` to `stop` of a tensor; `name`: of its entry, unless it is the bytes of several."""

    tensor: LazyTensor
    start: int
    stop: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class OutputRange:
    """Consecutive bytes of the output file, all of one dtype.

    Attributes:
        offset: in the output file.
        count: elements.
        source: the dtype in which they are read or computed.
        dtype: the one in which they are written.
        spans: the entries' names and how many elements each has here, to attribute what overflows.
        entry: number of its one entry, of which the file holds a checksum; -1 where it holds none.
    """

    offset: int
    count: int
    source: DType
    dtype: DType
    spans: tuple[tuple[str, int], ...]
    entry: int = -1

    @property
    def nbytes(self) -> int:
        return self.count * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class StepRange:
    """Steps `first` to `last` of a node with several outputs.

    Attributes:
        order: for each output of the node the number of its target.
    """

    node: MultiNode
    first: int
    last: int
    order: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WorkUnit:
    """What is computed at once: one target's bytes out of pieces, or those of several by one node.

    Attributes:
        number: among the shard's units.
    """

    targets: tuple[OutputRange, ...]
    work: tuple[TensorRange, ...] | StepRange
    number: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes that it writes."""
        return sum(target.nbytes for target in self.targets)

    @property
    def has_checksums(self) -> bool:
        """The file holds a checksum of what it writes."""
        return self.targets[0].entry >= 0


def work_units(shard: Shard) -> Iterator[WorkUnit]:
    """All work of a shard, in the order of first targets' bytes; it is the same in every run of a plan.

    What is inflated of several streams takes turns.
    """
    archive = shard.archive
    passes = outputs_together(shard.entries)
    work = _joined(shard, passes) if archive is None else _apart(shard, archive.offsets, passes)
    for number, unit in enumerate(in_turns(work, _stream)):
        yield replace(unit, number=number)


def _stream(unit: WorkUnit) -> object | None:
    """What a unit's first elements are inflated of."""
    if isinstance(unit.work, StepRange):
        return next((parent.stream for parent in unit.work.node.parents), None)
    return unit.work[0].tensor.stream


def _joined(shard: Shard, passes: dict[int, list[int]]) -> Iterator[WorkUnit]:
    """The work of a shard whose entries follow each other."""
    offsets = shard_offsets(shard) if passes else ()
    offset = len(shard.header)
    joined: _Joiner | None = None
    taken = 0
    for at, entry in enumerate(shard.entries):
        if at < taken:
            continue
        if joined is not None and not passes:
            taken = joined.add_following(shard.entries, at)
            if taken > at:
                offset = joined.offset + joined.count * joined.target.itemsize
                continue
        tensor = entry.uncast
        size = tensor.size
        chunk = _chunk(tensor, entry.dtype)
        together = passes.get(at)
        if joined is not None and (together is not None or size >= chunk):
            yield joined.unit()
            joined = None
        if together is not None:
            yield from _cut_together(shard, together, offsets)
        elif size >= chunk:
            yield from _cut(entry, tensor, offset, chunk)
        elif size:
            if joined is not None and not joined.takes(tensor, entry.dtype, size):
                yield joined.unit()
                joined = None
            if joined is None:
                joined = _Joiner(offset, tensor.dtype, entry.dtype, chunk)
            joined.add(entry.name, tensor, size)
        offset += size * entry.dtype.itemsize
    if joined is not None:
        yield joined.unit()


def _apart(shard: Shard, offsets: Sequence[int], passes: dict[int, list[int]]) -> Iterator[WorkUnit]:
    """The work of a shard whose entries do not follow each other."""
    for at, (entry, offset) in enumerate(zip(shard.entries, offsets, strict=True)):
        tensor = entry.uncast
        together = passes.get(at)
        if together is not None:
            yield from _cut_together(shard, together, offsets)
            continue
        for unit in _cut(entry, tensor, offset, _chunk(tensor, entry.dtype)):
            yield WorkUnit((replace(unit.targets[0], entry=at),), unit.work)


def shard_offsets(shard: Shard) -> Sequence[int]:
    """Where each entry begins in a file of entries that follow each other."""
    return list(accumulate((entry.nbytes for entry in shard.entries), initial=len(shard.header)))


def outputs_together(entries: Sequence[Entry]) -> dict[int, list[int]]:
    """The entries that are computed together, by their numbers.

    For the first entry of a node, all outputs of which are entries here, the numbers of those in the order
    of its outputs; nothing for the others. An output that is here twice, or without the rest, goes alone.
    """
    if not may_hold_outputs(entry.tensor for entry in entries):
        return {}
    found: dict[int, dict[int, int]] = {}
    for at, entry in enumerate(entries):
        output = output_of(entry.uncast)
        if output is not None and output.size:
            found.setdefault(id(output.node), {}).setdefault(output.index, at)
    passes: dict[int, list[int]] = {}
    for places in found.values():
        numbers = [places[index] for index in sorted(places)]
        node = output_of(entries[numbers[0]].uncast)
        if node is not None and len(numbers) == len(node.node.results):
            passes.update((number, []) for number in numbers)
            passes[min(numbers)] = numbers
    return passes


def _cut_together(shard: Shard, numbers: Sequence[int], offsets: Sequence[int]) -> Iterator[WorkUnit]:
    """The work of entries that are all outputs of one node, in the order of those; none for no entries."""
    entries = [shard.entries[at] for at in numbers]
    first = output_of(entries[0].uncast) if entries else None
    if first is None:
        return
    node = first.node
    chunk = max(CHUNK // max(node.step_nbytes, 1) // node.block_size, 1) * node.block_size
    in_file = sorted(range(len(entries)), key=lambda index: offsets[numbers[index]])
    order = tuple(in_file.index(index) for index in range(len(entries)))
    sizes = node.step_sizes
    for start in range(0, node.steps, chunk):
        stop = min(start + chunk, node.steps)
        targets = tuple(
            OutputRange(
                offsets[numbers[index]] + start * sizes[index] * entries[index].dtype.itemsize,
                (stop - start) * sizes[index],
                node.results[index][0],
                entries[index].dtype,
                ((entries[index].name, (stop - start) * sizes[index]),),
                -1 if shard.archive is None else numbers[index],
            )
            for index in in_file
        )
        yield WorkUnit(targets, StepRange(node, start, stop, order))


def _chunk(tensor: LazyTensor, target: DType) -> int:
    """Elements in a unit of this tensor: a multiple of what is cheapest read together."""
    elements = CHUNK // max(tensor.dtype.itemsize, target.itemsize)
    if type(tensor) is FileTensor or isinstance(tensor, FileTensor):
        return elements
    block_size = tensor.block_size
    return max(elements // block_size, 1) * block_size


def _cut(entry: Entry, tensor: LazyTensor, offset: int, chunk: int) -> Iterator[WorkUnit]:
    size, width = tensor.size, entry.dtype.itemsize
    beyond = offset % WRITE
    aligns = type(tensor) is FileTensor and chunk * width % WRITE == 0 and beyond % width == 0
    ends = range(chunk - beyond // width if aligns else chunk, size + chunk, chunk)
    for start, end in pairwise((0, *ends)) if size else ():
        stop = min(end, size)
        spans = ((entry.name, stop - start),)
        target = OutputRange(offset + start * width, stop - start, tensor.dtype, entry.dtype, spans)
        yield WorkUnit((target,), (TensorRange(tensor, start, stop, entry.name),))


class _Joiner:
    """Collects small tensors whose output bytes follow each other."""

    def __init__(self, offset: int, source: DType, target: DType, limit: int) -> None:
        self.offset = offset
        self.source = source
        self.target = target
        self.limit = limit
        self.count = 0
        self.pieces: list[TensorRange] = []
        self.spans: list[tuple[str, int]] = []
        self._run: FileTensor | None = None
        self._run_size = 0
        self._run_end = 0

    def takes(self, tensor: LazyTensor, target: DType, size: int) -> bool:
        same = tensor.dtype is self.source and target is self.target
        return same and self.count + size <= self.limit and len(self.spans) < MOST_JOINED

    def add(self, name: str, tensor: LazyTensor, size: int) -> None:
        self.spans.append((name, size))
        self.count += size
        if type(tensor) is not FileTensor and not isinstance(tensor, FileTensor):
            self._end_run()
            self.pieces.append(TensorRange(tensor, 0, size, name))
            return
        run = self._run
        if (
            run is None
            or tensor.offset != self._run_end
            or tensor.path != run.path
            or tensor.swap != run.swap
        ):
            self._end_run()
            self._run = tensor
            self._run_size = 0
        self._run_size += size
        self._run_end = tensor.offset + size * tensor.dtype.itemsize

    def add_following(self, entries: Sequence[Entry], at: int) -> int:
        """Adds those from number `at` on whose bytes follow in the same file; returns the first that is left.

        It is `takes` and `add` for what nearly all small tensors are, of which there are tens of thousands.
        """
        run, source, target, spans = self._run, self.source, self.target, self.spans
        if run is None or target.bits < 8:
            return at
        path, swap, end, before, width = run.path, run.swap, self._run_end, self.count, source.itemsize
        count, most = before, min(len(entries), at + MOST_JOINED - len(spans))
        while at < most:
            entry = entries[at]
            tensor = entry.tensor
            if type(tensor) is not FileTensor or tensor.offset != end or tensor.path != path:
                break
            if tensor.dtype is not source or entry.dtype is not target or tensor.swap != swap:
                break
            size = entry.nbytes // target.itemsize
            if not size or count + size > self.limit:
                break
            spans.append((entry.name, size))
            count += size
            end += size * width
            at += 1
        self._run_size += count - before
        self.count, self._run_end = count, end
        return at

    def _end_run(self) -> None:
        """Makes one piece of the tensors whose bytes follow each other in a file."""
        if self._run is not None:
            both = replace(self._run, shape=(self._run_size,))
            self.pieces.append(TensorRange(both, 0, self._run_size))
            self._run = None

    def unit(self) -> WorkUnit:
        self._end_run()
        target = OutputRange(self.offset, self.count, self.source, self.target, tuple(self.spans))
        return WorkUnit((target,), tuple(self.pieces))
