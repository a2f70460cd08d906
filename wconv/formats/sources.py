"""Where a container's bytes lie: in a file, in a part of one, or in memory (`deflated` has the packed ones).

A `Source` answers two questions: the bytes of a range now (`read`), and a range as a 1-D lazy tensor
(`tensor`). Readers never touch a file but through it, so an archive within an archive is read like any
other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from wconv.errors import FormatError, UnsafeError
from wconv.stores import files
from wconv.tensors.dtypes import DType
from wconv.tensors.lazy import ArrayTensor, FileTensor, LazyTensor, swap_bytes

READ_LIMIT = 512 << 20
"""Bytes that are ever read at once outside of tensors: a pickle's string, a directory, a JSON member."""


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

    @property
    def stream(self) -> object | None:
        """What has to be read from its beginning to have any of the bytes; None for nothing."""
        return None

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


class PartSource(Source):
    """A range of a source that is packed."""

    __slots__ = ("start", "whole")

    def __init__(self, whole: Source, start: int, size: int) -> None:
        self.whole = whole
        self.start = start
        self.size = size
        self.where = whole.where

    @property
    def stream(self) -> object | None:
        return self.whole.stream

    def _read(self, offset: int, count: int) -> bytes:
        return self.whole.read(self.start + offset, count)

    def tensor(self, offset: int, dtype: DType, count: int, swap: bool) -> LazyTensor:
        return self.whole.tensor(self.start + offset, dtype, count, swap)

    def part(self, offset: int, size: int) -> Source:
        return PartSource(self.whole, self.start + offset, size)


def as_source(data: Any, where: str) -> Source | None:
    """A byte string from a pickle as a source, whichever form it has; None when it is none."""
    if isinstance(data, Source):
        return data
    if isinstance(data, (bytes, bytearray)):
        return MemorySource(bytes(data), where)
    if isinstance(data, str) and data.isascii():
        return MemorySource(data.encode("ascii"), where)
    return None
