"""Units of work: what one thread reads, casts and writes at a time, made lazily from a shard's entries.

A unit is about 2 MiB: with less, threads spend their time handing the interpreter lock over; more
falls out of the cache. Small neighbours with the same dtypes are joined into one, and pieces that follow
each other in a source file become one read.
"""

from __future__ import annotations

import errno
import os
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wconv.errors import ComputedOverflowError, OutputError
from wconv.stores.files import CALL
from wconv.tensors import casts
from wconv.tensors.casts import NONE, Overflow
from wconv.tensors.dtypes import DType
from wconv.tensors.kernels import Scratch
from wconv.tensors.lazy import Array, LazyTensor, Stored
from wconv.tensors.losses import exactly
from wconv.tensors.nodes import Cast
from wconv.writing.page_cache import Behind, Pages
from wconv.writing.plan import Entry, Shard

CHUNK = 2 << 20
"""Bytes of input or output in a unit, whichever is more, unless a tensor's grain is larger."""

MOST_JOINED = 4096
"""Tensors that are joined into one unit: their names take memory too."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Elements `start` to `stop` of a tensor; `name`: of its entry, unless it is the bytes of several."""

    tensor: LazyTensor
    start: int
    stop: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class Unit:
    """Consecutive output bytes that come from pieces of one dtype.

    Attributes:
        offset: in the output file.
        count: elements.
        spans: the entries' names and how many elements each has here, to attribute what overflows.
        entry: number of its one entry, of which the file holds a checksum; -1 where it holds none.
        number: among the shard's units.
    """

    offset: int
    count: int
    source: DType
    target: DType
    pieces: tuple[Piece, ...]
    spans: tuple[tuple[str, int], ...]
    entry: int = -1
    number: int = 0


def units(shard: Shard) -> Iterator[Unit]:
    """All work of a shard, in the order of its bytes; the same in every run of the same plan."""
    archive = shard.archive
    for number, unit in enumerate(_apart(shard, archive.offsets) if archive is not None else _joined(shard)):
        yield replace(unit, number=number)


def _joined(shard: Shard) -> Iterator[Unit]:
    """The work of a shard whose entries follow each other."""
    offset = len(shard.header)
    joined: _Joiner | None = None
    for entry in shard.entries:
        tensor = _uncast(entry)
        size = tensor.size
        chunk = _chunk(tensor, entry.dtype)
        if size >= chunk:
            if joined is not None:
                yield joined.unit()
                joined = None
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


def _apart(shard: Shard, offsets: Sequence[int]) -> Iterator[Unit]:
    """The work of a shard whose entries do not follow each other."""
    for at, (entry, offset) in enumerate(zip(shard.entries, offsets, strict=True)):
        tensor = _uncast(entry)
        for unit in _cut(entry, tensor, offset, _chunk(tensor, entry.dtype)):
            yield replace(unit, entry=at)


def _uncast(entry: Entry) -> LazyTensor:
    """The tensor before a last cast to the entry's dtype, so that the unit casts and counts."""
    tensor = entry.tensor
    if isinstance(tensor, Cast) and tensor.dtype is entry.dtype:
        return tensor.parent
    return tensor


def _chunk(tensor: LazyTensor, target: DType) -> int:
    """Elements in a unit of this tensor: a multiple of its grain."""
    elements = CHUNK // max(tensor.dtype.itemsize, target.itemsize)
    if isinstance(tensor, Stored):
        return elements
    grain = tensor.grain
    return max(elements // grain, 1) * grain


def _cut(entry: Entry, tensor: LazyTensor, offset: int, chunk: int) -> Iterator[Unit]:
    size, width = tensor.size, entry.dtype.itemsize
    for start in range(0, size, chunk):
        stop = min(start + chunk, size)
        yield Unit(
            offset + start * width,
            stop - start,
            tensor.dtype,
            entry.dtype,
            (Piece(tensor, start, stop, entry.name),),
            ((entry.name, stop - start),),
        )


class _Joiner:
    """Collects small tensors whose output bytes follow each other."""

    def __init__(self, offset: int, source: DType, target: DType, limit: int) -> None:
        self.offset = offset
        self.source = source
        self.target = target
        self.limit = limit
        self.count = 0
        self.pieces: list[Piece] = []
        self.spans: list[tuple[str, int]] = []
        self._run: Stored | None = None
        self._run_size = 0
        self._run_end = 0

    def takes(self, tensor: LazyTensor, target: DType, size: int) -> bool:
        same = tensor.dtype is self.source and target is self.target
        return same and self.count + size <= self.limit and len(self.spans) < MOST_JOINED

    def add(self, name: str, tensor: LazyTensor, size: int) -> None:
        self.spans.append((name, size))
        self.count += size
        if not isinstance(tensor, Stored):
            self._end_run()
            self.pieces.append(Piece(tensor, 0, size, name))
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

    def _end_run(self) -> None:
        """Makes one piece of the tensors whose bytes follow each other in a file."""
        if self._run is not None:
            both = replace(self._run, shape=(self._run_size,))
            self.pieces.append(Piece(both, 0, self._run_size))
            self._run = None

    def unit(self) -> Unit:
        self._end_run()
        return Unit(self.offset, self.count, self.source, self.target, tuple(self.pieces), tuple(self.spans))


class Buffers:
    """One thread's memory: an input, an output and the kernels' scratch, grown to the largest unit seen."""

    def __init__(self) -> None:
        self._source = np.empty(0, np.uint8)
        self._target = np.empty(0, np.uint8)
        self._scratch = Scratch()
        self._behind = Behind()
        self.checksum = 0
        """CRC-32 of what the last unit wrote, where its file holds one."""

    def run(self, unit: Unit, fd: int, pages: Pages) -> dict[str, Overflow]:
        """Reads, casts and writes one unit; says which entries overflowed.

        Args:
            fd: of the output.
            pages: of the same file.

        Raises:
            FormatError: a source ends early.
            OutputError: what is computed of finite values is not finite.
            OSError: the output cannot be written.
        """
        result, overflows = self.compute(unit)
        self._write(unit, fd, pages, result)
        return overflows

    def compute(self, unit: Unit, out: Array | None = None) -> tuple[Array, dict[str, Overflow]]:
        """Reads and casts one unit, into `out` where it is given; says which entries overflowed.

        The array is a buffer that the next unit is computed in. Raises as `run` does.
        """
        same = unit.target is unit.source
        if same and out is not None:
            values = out
        else:
            self._source = source = _at_least(self._source, unit.count * unit.source.itemsize)
            values = source[: unit.count * unit.source.itemsize].view(unit.source.numpy)
        hidden = _fill(unit, values)
        if same:
            return values, hidden
        if out is None:
            self._target = target = _at_least(self._target, unit.count * unit.target.itemsize)
            out = target[: unit.count * unit.target.itemsize].view(unit.target.numpy)
        overflow = casts.cast(values, out, self._scratch)
        if overflow.count:
            add_overflows(hidden, self._attribute(unit, values, out, overflow))
        return out, hidden

    def check(self, unit: Unit, fd: int) -> None:
        """Reads what an earlier run wrote of a unit, for its checksum; raises OSError."""
        nbytes = unit.count * unit.target.itemsize
        self._target = target = _at_least(self._target, nbytes)
        done = 0
        while done < nbytes:
            count = os.preadv(fd, [target.data[done:nbytes]], unit.offset + done)
            if count == 0:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            done += count
        self.checksum = zlib.crc32(target.data[:nbytes])

    def _write(self, unit: Unit, fd: int, pages: Pages, values: Array) -> None:
        raw = values.view(np.uint8).data
        if unit.entry >= 0:
            self.checksum = zlib.crc32(raw)
        began = time.perf_counter()
        put(fd, raw, unit.offset)
        self._behind.wrote(pages, unit.offset, len(raw), time.perf_counter() - began)

    def _attribute(self, unit: Unit, values: Array, result: Array, overflow: Overflow) -> dict[str, Overflow]:
        """Which entries of a joined unit overflowed: each is cast once more by itself."""
        if len(unit.spans) == 1:
            return {unit.spans[0][0]: overflow}
        found: dict[str, Overflow] = {}
        at = 0
        for name, length in unit.spans:
            part = slice(at, at + length)
            lost = casts.cast(values[part], result[part], self._scratch)
            if lost.count:
                found[name] = lost
            at += length
        return found


def read(entry: Entry, buffers: Buffers) -> tuple[Array, Overflow]:
    """An entry as an array of its dtype and shape, as a file would hold it, and what it lost.

    Raises:
        FormatError: a source ends early.
        OutputError: what is computed of finite values is not finite.
    """
    out = np.empty(entry.tensor.size, entry.dtype.numpy)
    lost: dict[str, Overflow] = {}
    for unit in units(Shard(entry.name, b"", (entry,), entry.nbytes)):
        start = unit.offset // entry.dtype.itemsize
        _, found = buffers.compute(unit, out[start : start + unit.count])
        add_overflows(lost, found)
    return out.reshape(entry.shape), lost.get(entry.name, NONE)


def _fill(unit: Unit, values: Array) -> dict[str, Overflow]:
    """Reads a unit's elements; says what casts within its tensors lost."""
    lost: dict[str, Overflow] = {}
    casts.take_losses()
    at = 0
    for piece in unit.pieces:
        length = piece.stop - piece.start
        try:
            piece.tensor.fill(piece.start, piece.stop, values[at : at + length])
        except ComputedOverflowError as error:
            raise OutputError(f"{piece.name}: {error}") from None
        at += length
        if casts.take_losses().count and piece.name:
            found = exactly(piece.tensor, piece.start, piece.stop)
            if found.count:
                lost[piece.name] = lost.get(piece.name, NONE).plus(found)
    return lost


def put(fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Writes all of `data` (of bytes) at `offset`, which one call may do in part; raises OSError."""
    left = memoryview(data)
    while left:
        count = os.pwrite(fd, left[:CALL], offset)
        left = left[count:]
        offset += count


def _at_least(buffer: NDArray[np.uint8], nbytes: int) -> NDArray[np.uint8]:
    return buffer if buffer.size >= nbytes else np.empty(nbytes, np.uint8)


def add_overflows(total: dict[str, Overflow], found: dict[str, Overflow]) -> None:
    """Adds what one unit lost to what a shard lost so far."""
    for name, lost in found.items():
        total[name] = total.get(name, NONE).plus(lost)
