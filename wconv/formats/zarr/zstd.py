"""Bytes packed by Zstandard, unpacked by range: forward from where the last range ended.

A frame cannot be entered in its middle. What was unpacked last is kept, for all sources together and of
bounded size, so that threads which take neighbouring ranges in any order unpack everything once.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

from wconv.errors import FormatError, UnsafeError
from wconv.extras import require
from wconv.formats.sources import PartSource, Source
from wconv.tensors.array_cache import cleared
from wconv.tensors.dtypes import DType
from wconv.tensors.lazy import Array, LazyTensor, Shape, swap_bytes

STEP = 1 << 16
"""Bytes that are unpacked at once."""

KEPT = 128
"""Steps that are kept: 8 MiB."""

OPEN = 64
"""Frames that can be gone on with, of `LARGE` bytes or more, or more of smaller ones; others are begun again.

As many are needed as there are chunks side by side in a row of an array."""

LARGE = 1 << 20
"""Bytes that the decoder of a large frame takes, about."""

WINDOW = 8 << 20
"""Bytes back to which a frame may refer: what every decoder must support."""

RATIO = 131_072 // 3
"""Bytes that one packed byte can become at most: a block of 128 KiB takes four."""

JOB = "reading arrays of JAX"

_numbers = itertools.count()


def unpack(data: bytes, most: int, where: str) -> bytes:
    """What a frame holds.

    Raises:
        FormatError: it is damaged, or holds more than `most` bytes.
        WconvError: zstandard is not installed; the message names the extra.
    """
    zstandard = require("zstandard", JOB)
    reader = zstandard.ZstdDecompressor(max_window_size=WINDOW).stream_reader(data)
    try:
        found: bytes = reader.read(most + 1)
    except zstandard.ZstdError as error:
        raise FormatError(f"{where} is damaged: {error}; download it again") from None
    if len(found) > most:
        raise FormatError(f"{where} is damaged: it unpacks to more than {most:,} bytes")
    return found


class _Packed:
    """A source as the file object that the decoder reads."""

    def __init__(self, source: Source) -> None:
        self.source, self.at = source, 0

    def read(self, count: int) -> bytes:
        data = self.source.read(self.at, min(count, self.source.size - self.at))
        self.at += len(data)
        return data


class _Frames:
    """What was unpacked last, of all sources, and the frames that are being read. Its lock guards it."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.lock = threading.Lock()
        self.steps: OrderedDict[tuple[Any, int], bytes] = OrderedDict()
        self.readers: OrderedDict[Any, tuple[Any, int, int]] = OrderedDict()
        self.taken = 0

    def step(self, key: Any, index: int) -> bytes | None:
        with self.lock:
            found = self.steps.get((key, index))
            if found is not None:
                self.steps.move_to_end((key, index))
            return found

    def keep(self, key: Any, index: int, data: bytes) -> None:
        with self.lock:
            self.steps[key, index] = data
            while len(self.steps) > KEPT:
                self.steps.popitem(last=False)

    def take(self, key: Any) -> tuple[Any, int] | None:
        """A frame that is being read, and the step that comes next; it is the caller's now."""
        with self.lock:
            found = self.readers.pop(key, None)
            if found is None:
                return None
            self.taken -= found[2]
            return found[:2]

    def clear(self) -> None:
        with self.lock:
            self.steps.clear()
            self.readers.clear()
            self.taken = 0

    def give_back(self, key: Any, reader: Any, index: int, size: int) -> None:
        nbytes = min(size, LARGE)
        with self.lock:
            self.readers[key] = reader, index, nbytes
            self.taken += nbytes
            while self.taken > OPEN * LARGE:
                self.taken -= self.readers.popitem(last=False)[1][2]


_frames = _Frames()


def _all() -> _Frames:
    """A child process begins with its own: another thread may have held the lock."""
    global _frames
    if _frames.process != os.getpid():
        _frames = _Frames()
    return _frames


cleared(lambda: _all().clear())


class ZstdSource(Source):
    """A frame within another source.

    Args:
        packed: the frame.
        size: bytes that it holds.
    """

    __slots__ = ("_lock", "_process", "key", "packed")

    def __init__(self, packed: Source, size: int, where: str) -> None:
        if size > packed.size * RATIO + STEP:
            raise UnsafeError(f"{where} claims {size:,} bytes in {packed.size:,} packed ones: refused")
        self.packed, self.size, self.where = packed, size, where
        self.key = next(_numbers)
        self._lock, self._process = threading.Lock(), os.getpid()

    def __reduce__(self) -> tuple[Any, ...]:
        return ZstdSource, (self.packed, self.size, self.where)

    def _read(self, offset: int, count: int) -> bytes:
        out = bytearray(count)
        self.unpack_into(offset, memoryview(out))
        return bytes(out)

    def unpack_into(self, offset: int, out: memoryview) -> None:
        """Fills `out` with the unpacked bytes from `offset`.

        Raises:
            FormatError: the frame is damaged, or longer or shorter than was told.
        """
        if self._process != os.getpid():
            self._lock, self._process = threading.Lock(), os.getpid()
        done = 0
        while done < len(out):
            index, within = divmod(offset + done, STEP)
            part = self._step(index)[within : within + len(out) - done]
            out[done : done + len(part)] = part
            done += len(part)

    def _step(self, index: int) -> bytes:
        frames = _all()
        found = frames.step(self.key, index)
        if found is not None:
            return found
        with self._lock:
            found = frames.step(self.key, index)
            if found is not None:
                return found
            kept = frames.take(self.key)
            reader, at = kept if kept is not None and kept[1] <= index else (self._begin(), 0)
            while at <= index:
                found = self._next(reader, at)
                frames.keep(self.key, at, found)
                at += 1
            if at * STEP < self.size:
                frames.give_back(self.key, reader, at, self.size)
        assert found is not None
        return found

    def _begin(self) -> Any:
        zstandard = require("zstandard", JOB)
        decoder = zstandard.ZstdDecompressor(max_window_size=WINDOW)
        return decoder.stream_reader(_Packed(self.packed), read_size=1 << 16)

    def _next(self, reader: Any, index: int) -> bytes:
        wanted = min(STEP, self.size - index * STEP)
        last = index * STEP + wanted == self.size
        try:
            found: bytes = reader.read(wanted)
            more = reader.read(1) if last else b""
        except require("zstandard", JOB).ZstdError as error:
            raise FormatError(f"{self.where} is damaged: {error}; download it again") from None
        if len(found) < wanted:
            done = index * STEP + len(found)
            raise FormatError(f"{self.where} is truncated: it unpacks to {done:,} bytes of {self.size:,}")
        if more:
            raise FormatError(f"{self.where} is damaged: it goes on after its {self.size:,} bytes")
        return found

    def tensor(self, offset: int, dtype: DType, count: int, swap: bool) -> LazyTensor:
        return ZstdTensor(self, offset, dtype, (count,), swap)

    def part(self, offset: int, size: int) -> Source:
        return PartSource(self, offset, size)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ZstdTensor(LazyTensor):
    """Elements of a frame."""

    source: ZstdSource
    offset: int
    dtype: DType
    shape: Shape
    swap: bool

    def read_into(self, start: int, stop: int, out: Array) -> None:
        raw = out.view(np.uint8)
        self.source.unpack_into(self.offset + start * self.dtype.itemsize, memoryview(raw))  # type: ignore[arg-type]
        if self.swap:
            swap_bytes(raw, self.dtype)
