"""Where a container's bytes lie: in a file, in a part of one, in memory, or deflated.

A `Source` answers two questions: the bytes of a range now (`read`), and a range as a 1-D lazy tensor
(`tensor`). Readers never touch a file but through it, so an archive within an archive is read like any
other.
"""

from __future__ import annotations

import os
import threading
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from wconv.errors import FormatError, UnsafeError
from wconv.stores import files
from wconv.tensors.dtypes import DType
from wconv.tensors.lazy import Array, ArrayTensor, FileTensor, LazyTensor, Shape, swap_bytes

READ_LIMIT = 512 << 20
"""Bytes that are ever read at once outside of tensors: a pickle's string, a directory, a JSON member."""

DEFLATE_RATIO = 1032
"""Bytes that one deflated byte can become at most (zlib's technical notes)."""

SNAPSHOTS = 256
"""Places of a deflated entry from which inflating can start again; each costs about 50 KB when used."""


class Source(ABC):
    """A run of bytes of known size; `where` names it in errors."""

    __slots__ = ("size", "where")

    size: int
    where: str

    def read(self, offset: int, count: int) -> bytes:
        """`count` bytes from `offset`.

        Raises:
            FormatError: the range is not within the source.
            UnsafeError: it is larger than `READ_LIMIT`.
        """
        if offset < 0 or count < 0 or offset + count > self.size:
            raise FormatError(
                f"{self.where} is truncated or damaged: it ends at byte {self.size:,},"
                f" {offset + count:,} are needed; download it again"
            )
        if count > READ_LIMIT:
            raise UnsafeError(f"{self.where} asks for {count:,} bytes outside of its tensors: refused")
        return self._read(offset, count)

    @abstractmethod
    def _read(self, offset: int, count: int) -> bytes: ...

    @abstractmethod
    def tensor(self, offset: int, dtype: DType, count: int, swap: bool) -> LazyTensor:
        """`count` elements from `offset` as a 1-D tensor; the caller has checked the range."""

    @abstractmethod
    def part(self, offset: int, size: int) -> Source:
        """A range as a source of its own; the caller has checked it."""


class FileSource(Source):
    """A file, or `size` bytes of it from `start`."""

    __slots__ = ("path", "start")

    def __init__(self, path: str, start: int = 0, size: int | None = None) -> None:
        whole = files.source(path).size
        self.path = path
        self.start = start
        self.size = whole - start if size is None else size
        self.where = path
        if not 0 <= start <= start + self.size <= whole:
            raise FormatError(f"{path} is truncated: bytes {start:,} to {start + self.size:,} of {whole:,}")

    def _read(self, offset: int, count: int) -> bytes:
        return bytes(files.source(self.path).read(self.start + offset, count))

    def tensor(self, offset: int, dtype: DType, count: int, swap: bool) -> LazyTensor:
        return FileTensor(self.path, self.start + offset, dtype, (count,), swap)

    def part(self, offset: int, size: int) -> Source:
        return FileSource(self.path, self.start + offset, size)


class MemorySource(Source):
    """Bytes that a file held in a coded form."""

    __slots__ = ("data",)

    def __init__(self, data: bytes, where: str) -> None:
        self.data = data
        self.size = len(data)
        self.where = where

    def _read(self, offset: int, count: int) -> bytes:
        return self.data[offset : offset + count]

    def tensor(self, offset: int, dtype: DType, count: int, swap: bool) -> LazyTensor:
        raw = np.frombuffer(self.data, np.uint8, dtype.itemsize * count, offset)
        if swap:
            raw = raw.copy()
            swap_bytes(raw, dtype)
        return ArrayTensor(raw.view(dtype.numpy), dtype, (count,))

    def part(self, offset: int, size: int) -> Source:
        return MemorySource(self.data[offset : offset + size], self.where)


class DeflatedSource(Source):
    """A raw deflate stream within another source, inflated by range.

    It is inflated in segments. The inflater's state at the start of each is kept once it was reached, so that
    a range costs the inflating of the segments that it touches, and memory is two segments.
    """

    __slots__ = ("_lock", "_process", "_recent", "_states", "_step", "packed")

    def __init__(self, packed: Source, size: int, where: str) -> None:
        if size > packed.size * DEFLATE_RATIO + 64:
            raise UnsafeError(f"{where} claims {size:,} bytes in {packed.size:,} deflated ones: refused")
        self.packed = packed
        self.size = size
        self.where = where
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._step = max(1 << 20, -(-size // SNAPSHOTS))
        self._states: list[tuple[int, Any]] = [(0, zlib.decompressobj(-15))]
        self._recent: dict[int, bytes] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return DeflatedSource, (self.packed, self.size, self.where)

    def _read(self, offset: int, count: int) -> bytes:
        out = bytearray(count)
        self.inflate_into(offset, memoryview(out))
        return bytes(out)

    def inflate_into(self, offset: int, out: memoryview) -> None:
        """Fills `out` with the inflated bytes from `offset`.

        Raises:
            FormatError: the stream is damaged, or longer or shorter than the directory says.
        """
        done = 0
        while done < len(out):
            index, within = divmod(offset + done, self._step)
            if self._process != os.getpid():
                self._after_fork()
            with self._lock:
                part = self._segment(index)[within : within + len(out) - done]
            out[done : done + len(part)] = part
            done += len(part)

    def _after_fork(self) -> None:
        """Another thread may have held the lock: a child begins with its own. States are never changed."""
        self._lock, self._process = threading.Lock(), os.getpid()

    def _segment(self, index: int) -> bytes:
        """The inflated bytes from `index` steps on, one step of them."""
        found = self._recent.get(index)
        if found is None:
            for reached in range(min(index, len(self._states) - 1), index + 1):
                found = self._inflate(reached)
            if len(self._recent) > 1:
                del self._recent[next(iter(self._recent))]
            assert found is not None
            self._recent[index] = found
        return found

    def _inflate(self, index: int) -> bytes:
        """One segment from its start's state; the state after it is kept."""
        taken, kept = self._states[index]
        inflater = kept.copy()
        wanted = min(self._step, self.size - index * self._step)
        blocks: list[bytes] = []
        while wanted:
            pending = inflater.unconsumed_tail
            if not pending:
                pending = self.packed.read(taken, min(1 << 16, self.packed.size - taken))
                taken += len(pending)
            try:
                block = inflater.decompress(pending, wanted)
            except zlib.error as error:
                raise FormatError(f"{self.where} is damaged: {error}; download it again") from None
            if not block and (inflater.eof or not pending):
                done = index * self._step + sum(map(len, blocks))
                raise FormatError(
                    f"{self.where} is truncated: it inflates to {done:,} bytes of {self.size:,}"
                )
            wanted -= len(block)
            blocks.append(block)
        if (index + 1) * self._step >= self.size:
            self._check_end(inflater, taken)
        elif len(self._states) == index + 1:
            self._states.append((taken, inflater))
        return b"".join(blocks)

    def _check_end(self, inflater: Any, taken: int) -> None:
        """The stream must end where the directory says; `taken` bytes of it were given to the inflater."""
        while not inflater.eof:
            pending = inflater.unconsumed_tail
            if not pending:
                pending = self.packed.read(taken, min(1 << 16, self.packed.size - taken))
                taken += len(pending)
            try:
                more = inflater.decompress(pending, 1)
            except zlib.error as error:
                raise FormatError(f"{self.where} is damaged: {error}; download it again") from None
            if more or not (pending or inflater.eof):
                what = "goes on after" if more else "is cut off at"
                raise FormatError(f"{self.where} is damaged: it {what} its {self.size:,} bytes")

    def tensor(self, offset: int, dtype: DType, count: int, swap: bool) -> LazyTensor:
        return Inflated(self, offset, dtype, (count,), swap)

    def part(self, offset: int, size: int) -> Source:
        return PartSource(self, offset, size)


class PartSource(Source):
    """A range of a deflated source."""

    __slots__ = ("start", "whole")

    def __init__(self, whole: Source, start: int, size: int) -> None:
        self.whole = whole
        self.start = start
        self.size = size
        self.where = whole.where

    def _read(self, offset: int, count: int) -> bytes:
        return self.whole.read(self.start + offset, count)

    def tensor(self, offset: int, dtype: DType, count: int, swap: bool) -> LazyTensor:
        return self.whole.tensor(self.start + offset, dtype, count, swap)

    def part(self, offset: int, size: int) -> Source:
        return PartSource(self.whole, self.start + offset, size)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Inflated(LazyTensor):
    """Elements of a deflated entry."""

    source: DeflatedSource
    offset: int
    dtype: DType
    shape: Shape
    swap: bool

    def read_into(self, start: int, stop: int, out: Array) -> None:
        raw = out.view(np.uint8)
        self.source.inflate_into(self.offset + start * self.dtype.itemsize, memoryview(raw))  # type: ignore[arg-type]
        if self.swap:
            swap_bytes(raw, self.dtype)


def as_source(data: Any, where: str) -> Source | None:
    """A byte string from a pickle as a source, whichever form it has; None when it is none."""
    if isinstance(data, Source):
        return data
    if isinstance(data, (bytes, bytearray)):
        return MemorySource(bytes(data), where)
    if isinstance(data, str) and data.isascii():
        return MemorySource(data.encode("ascii"), where)
    return None
