"""What a thread does with a unit of work: reads or computes, casts and writes it, in buffers of its own."""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wconv.errors import ComputedOverflowError, OutputError
from wconv.tensors import casts
from wconv.tensors.base import Array
from wconv.tensors.casts import NONE, Overflow
from wconv.tensors.dtypes import DType
from wconv.tensors.kernels import Scratch
from wconv.tensors.lazy import FileTensor
from wconv.tensors.losses import count_lost
from wconv.writing.chunks import WRITE, OutputRange, StepRange, TensorRange, WorkUnit
from wconv.writing.page_cache import PageAdvice, WriteBehind

STREAMED = 512 << 10
"""Bytes that are read, cast and written at once: with what becomes of them they fit into a core's cache."""

WORTH_COPYING = 64 << 10
"""Bytes of a piece from which on the system is asked to copy it."""


PAGE, LINE = 4096, 64
"""Bytes of a page and of a line of the cache, within which buffers begin as the files' bytes do.

Where a buffer begins 8 or 16 bytes beyond that, as those that numpy makes do, some processors copy out of a
file at a half or a sixth of the speed, and into one at two thirds.
"""


class Buffers:
    """One thread's memory: inputs, outputs and the kernels' scratch, grown to the largest unit seen."""

    def __init__(self) -> None:
        self._sources: list[NDArray[np.uint8]] = []
        self._targets: list[NDArray[np.uint8]] = []
        self._scratch = Scratch()
        self._write_behind = WriteBehind()
        self.checksums: list[int] = []
        """CRC-32 of what the last unit wrote, by targets, where its file holds one."""

    def run(self, unit: WorkUnit, fd: int, pages: PageAdvice) -> dict[str, Overflow]:
        """Reads, casts and writes one unit; says which entries overflowed.

        Args:
            fd: of the output.
            pages: of the same file.

        Raises:
            FormatError: a source ends early.
            OutputError: what is computed of finite values is not finite.
            OSError: the output cannot be written.
        """
        self.checksums.clear()
        clock = self._write_behind.clock
        began = clock()
        if _copied(unit, fd):
            target = unit.targets[0]
            self._write_behind.wrote(pages, target.offset, target.nbytes, clock() - began)
            return {}
        if (block := _block(unit)) is not None:
            return self._stream(unit.targets[0], block, fd, pages)
        results, overflows = self.compute(unit)
        for target, result in zip(unit.targets, results, strict=True):
            self._write(target, fd, pages, result)
        return overflows

    def _stream(
        self, target: OutputRange, block: TensorRange, fd: int, pages: PageAdvice
    ) -> dict[str, Overflow]:
        """Casts a tensor's elements in steps, each of which stays in the cache from its read to its write."""
        step = STREAMED // max(target.source.itemsize, target.dtype.itemsize)
        width = target.dtype.itemsize
        lost = NONE
        clock = self._write_behind.clock
        spent = 0.0
        for at in range(0, target.count, step):
            count = min(step, target.count - at)
            source = _buffer(self._sources, 0, count, target.source)
            result = _buffer(self._targets, 0, count, target.dtype, target.offset)
            block.tensor.read_into(block.start + at, block.start + at + count, source)
            overflow = casts.cast(source, result, self._scratch)
            if overflow.count:
                lost = lost.plus(overflow)
            began = clock()
            put(fd, result.view(np.uint8).data, target.offset + at * width)
            spent += clock() - began
        self._write_behind.wrote(pages, target.offset, target.nbytes, spent)
        return {target.spans[0][0]: lost} if lost.count else {}

    def compute(
        self, unit: WorkUnit, outs: Sequence[Array] | None = None
    ) -> tuple[list[Array], dict[str, Overflow]]:
        """Reads and casts one unit, into `outs` where they are given; says which entries overflowed.

        The arrays, one for each target, are buffers that the next unit is computed in. Raises as `run` does.
        """
        given = outs if outs is not None else [None] * len(unit.targets)
        values = [
            out
            if out is not None and target.source is target.dtype
            else _buffer(
                self._sources,
                at,
                target.count,
                target.source,
                target.offset if target.source is target.dtype else 0,
            )
            for at, (target, out) in enumerate(zip(unit.targets, given, strict=True))
        ]
        lost = _compute(unit, values)
        results: list[Array] = []
        for at, (target, source, out) in enumerate(zip(unit.targets, values, given, strict=True)):
            if target.source is target.dtype:
                results.append(source)
                continue
            result = out
            if result is None:
                result = _buffer(self._targets, at, target.count, target.dtype, target.offset)
            overflow = casts.cast(source, result, self._scratch)
            if overflow.count:
                add_overflows(lost, self._attribute(target, source, result, overflow))
            results.append(result)
        return results, lost

    def check(self, unit: WorkUnit, fd: int) -> None:
        """Reads what an earlier run wrote of a unit, for its checksums; raises OSError."""
        self.checksums.clear()
        for target in unit.targets:
            data = _buffer(self._targets, 0, target.count, target.dtype).view(np.uint8).data
            done = 0
            while done < len(data):
                count = os.preadv(fd, [data[done:]], target.offset + done)
                if count == 0:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                done += count
            self.checksums.append(zlib.crc32(data))

    def _write(self, target: OutputRange, fd: int, pages: PageAdvice, values: Array) -> None:
        raw = values.view(np.uint8).data
        if target.entry >= 0:
            self.checksums.append(zlib.crc32(raw))
        clock = self._write_behind.clock
        began = clock()
        put(fd, raw, target.offset)
        self._write_behind.wrote(pages, target.offset, len(raw), clock() - began)

    def _attribute(
        self, target: OutputRange, values: Array, result: Array, overflow: Overflow
    ) -> dict[str, Overflow]:
        """Which entries of a joined unit overflowed: each is cast once more by itself."""
        if len(target.spans) == 1:
            return {target.spans[0][0]: overflow}
        found: dict[str, Overflow] = {}
        at = 0
        for name, length in target.spans:
            part = slice(at, at + length)
            lost = casts.cast(values[part], result[part], self._scratch)
            if lost.count:
                found[name] = lost
            at += length
        return found


def _compute(unit: WorkUnit, values: Sequence[Array]) -> dict[str, Overflow]:
    """Reads a unit's elements; says what casts within its tensors lost."""
    if isinstance(unit.work, StepRange):
        return _compute_steps(unit.work, unit.targets, values)
    lost: dict[str, Overflow] = {}
    casts.take_losses()
    at = 0
    for piece in unit.work:
        length = piece.stop - piece.start
        try:
            piece.tensor.read_into(piece.start, piece.stop, values[0][at : at + length])
        except ComputedOverflowError as error:
            raise OutputError(f"{piece.name}: {error}") from None
        at += length
        if casts.take_losses().count and piece.name:
            found = count_lost(piece.tensor, piece.start, piece.stop)
            if found.count:
                lost[piece.name] = lost.get(piece.name, NONE).plus(found)
    return lost


def _compute_steps(
    steps: StepRange, targets: Sequence[OutputRange], values: Sequence[Array]
) -> dict[str, Overflow]:
    """Computes several outputs at once; what casts before lost is told of the first."""
    casts.take_losses()
    name = targets[steps.order[0]].spans[0][0]
    try:
        steps.node.read_into(steps.first, steps.last, [values[at] for at in steps.order])
    except ComputedOverflowError as error:
        raise OutputError(f"{name}: {error}") from None
    lost = casts.take_losses()
    return {name: lost} if lost.count else {}


def put(fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Writes all of `data` (of bytes) at `offset`, which one call may do in part; raises OSError."""
    left = memoryview(data)
    while left:
        count = os.pwrite(fd, left[: WRITE - offset % WRITE], offset)
        left = left[count:]
        offset += count


def _block(unit: WorkUnit) -> TensorRange | None:
    """The elements of a file that a unit casts and does nothing else with; None where it does more."""
    target = unit.targets[0]
    if target.entry >= 0 or target.source is target.dtype or len(target.spans) > 1:
        return None
    if isinstance(unit.work, StepRange) or len(unit.work) > 1:
        return None
    return unit.work[0] if type(unit.work[0].tensor) is FileTensor else None


def _copied(unit: WorkUnit, fd: int) -> bool:
    """Copies a unit whose bytes stay as they are, unread; False where it is to be read and written."""
    target = unit.targets[0]
    if target.source is not target.dtype or target.entry >= 0 or isinstance(unit.work, StepRange):
        return False
    pieces = unit.work
    # one write of many small pieces is faster than many copies
    if target.nbytes < len(pieces) * WORTH_COPYING:
        return False
    at = target.offset
    for piece in pieces:
        nbytes = (piece.stop - piece.start) * target.dtype.itemsize
        if type(piece.tensor) is not FileTensor:
            return False
        if not piece.tensor.copy_range(piece.start, nbytes, fd, at, put):
            return False
        at += nbytes
    return True


def _buffer(buffers: list[NDArray[np.uint8]], at: int, count: int, dtype: DType, offset: int = 0) -> Array:
    """`count` elements of the buffer of that number, which is made anew where it is too small.

    Args:
        offset: in the file that they go to: they begin as they will there within a line of the cache.
    """
    nbytes = count * dtype.itemsize
    while len(buffers) <= at:
        buffers.append(np.empty(0, np.uint8))
    if buffers[at].size < nbytes + LINE:
        buffers[at] = _from_page(nbytes + LINE)
    first = offset % LINE
    if first % dtype.itemsize:
        first = 0
    return buffers[at][first : first + nbytes].view(dtype.numpy)


def _from_page(nbytes: int) -> NDArray[np.uint8]:
    """Memory that begins where a page does."""
    whole = np.empty(nbytes + PAGE, np.uint8)
    return whole[-whole.ctypes.data % PAGE :][:nbytes]


def add_overflows(total: dict[str, Overflow], found: dict[str, Overflow]) -> None:
    """Adds what one unit lost to what a shard lost so far."""
    for name, lost in found.items():
        total[name] = total.get(name, NONE).plus(lost)
