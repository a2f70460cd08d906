"""Bytes that are deflated within another source, inflated by range.

A deflate stream can only be read from its beginning, so it is inflated in steps, and the inflater's state is
kept at some of them: a range costs the inflating from the nearest one before it. Different streams are
inflated by different threads at once; what is kept for all of them together is bounded.
"""

from __future__ import annotations

import os
import threading
import weakref
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from wconv.errors import FormatError, UnsafeError
from wconv.formats.sources import FileSource, PartSource, Source
from wconv.stores import files
from wconv.tensors.dtypes import DType
from wconv.tensors.lazy import Array, LazyTensor, Shape, swap_bytes

RATIO = 1032
"""Bytes that one deflated byte can become at most (zlib's technical notes)."""

STEP = 1 << 20
"""Bytes that are inflated at once."""

READ = 1 << 16
"""Deflated bytes that are read at once."""

PLACES = 16
"""Places of a stream from which inflating can start again; each takes about 50 KB."""

_THREADS = os.cpu_count() or 1
STREAMS = max(8, 2 * _THREADS)
"""Streams of which such places are kept: as many as are read at once, and some."""

RECENT = max(12, 4 * _THREADS) * STEP
"""Inflated bytes of all streams that are kept: threads ask for neighbouring steps in any order."""

OVERHEAD = 1000
"""Bytes that it takes to keep a step, however short."""


_Key = TypeVar("_Key")


class _Places:
    """Where inflating of one stream can start again: bytes given to an inflater, and its state, by steps.

    They are evenly spread over what was inflated, the last one aside.
    """

    def __init__(self) -> None:
        self._states: dict[int, tuple[int, Any]] = {0: (0, zlib.decompressobj(-15))}
        self._spacing = 1
        self._newest = 0

    def before(self, index: int) -> int:
        """The nearest place at or before a step."""
        return max(at for at in self._states if at <= index)

    def start(self, index: int) -> tuple[int, Any]:
        """Bytes given, and an inflater that can be used up."""
        given, state = self._states[index]
        return given, state.copy()

    def add(self, index: int, given: int, state: Any) -> None:
        """Keeps one place more, and lets go of others."""
        if index in self._states:
            return
        if self._newest % self._spacing:
            del self._states[self._newest]
        self._states[index] = given, state
        self._newest = index
        while len(self._states) > PLACES:
            self._spacing *= 2
            self._states = {
                at: one for at, one in self._states.items() if at % self._spacing == 0 or at == index
            }


class _Latest(Generic[_Key]):
    """Keys of streams, the last used ones, which together cost so much at most."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._cost = 0
        self._noted: OrderedDict[_Key, tuple[int, weakref.ref[DeflatedSource]]] = OrderedDict()

    def note(
        self, key: _Key, cost: int, source: weakref.ref[DeflatedSource]
    ) -> Iterator[tuple[_Key, DeflatedSource]]:
        """Notes a key as the last one; the oldest, which are too many then, as far as their streams live."""
        self._cost += cost - self._noted.pop(key, (0, source))[0]
        self._noted[key] = cost, source
        while self._cost > self._most and len(self._noted) > 1:
            oldest, (cost, owner) = self._noted.popitem(last=False)
            self._cost -= cost
            if (other := owner()) is not None:
                yield oldest, other


class _Kept:
    """Which streams were read last, and which steps of them: others let go of what they keep."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._streams = _Latest[int](STREAMS)
        self._steps = _Latest[tuple[int, int]](RECENT)
        self._count = 0

    def number(self) -> int:
        """A number that no other stream has."""
        with self.lock:
            self._count += 1
            return self._count

    def inflated(self, source: DeflatedSource, index: int, count: int) -> None:
        """Notes that a stream keeps `count` bytes of a step, and a place."""
        mine = weakref.ref(source)
        with self.lock:
            if source.size > STEP:
                for _, other in self._streams.note(source.number, 1, mine):
                    other.forget_places()
            for (_, step), other in self._steps.note((source.number, index), count + OVERHEAD, mine):
                other.forget_step(step)


_kept = _Kept()


def _after_fork() -> None:
    """Another thread may have held the lock: a child begins with its own."""
    _kept.lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


class DeflatedSource(Source):
    """A raw deflate stream within another source, inflated by range.

    Attributes:
        number: of all streams.
    """

    __slots__ = ("__weakref__", "_lock", "_places", "_process", "_recent", "number", "packed")

    def __init__(self, packed: Source, size: int, where: str) -> None:
        if size > packed.size * RATIO + 64:
            raise UnsafeError(f"{where} claims {size:,} bytes in {packed.size:,} deflated ones: refused")
        self.packed = packed
        self.size = size
        self.where = where
        self.number = _kept.number()
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._places: _Places | None = None
        self._recent: dict[int, bytes] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return DeflatedSource, (self.packed, self.size, self.where)

    @property
    def stream(self) -> object:
        """The outermost stream that it is in; all of a file elsewhere, which is fetched in order."""
        packed = self.packed
        if isinstance(packed, FileSource) and files.remote_of(packed.path) is not None:
            return packed.path
        return packed.stream or self

    def position(self, offset: int) -> tuple[str, int]:
        """File, and about where in it the bytes from `offset` on are packed; ("", 0) in no file."""
        packed: Source = self.packed
        share = offset * packed.size // max(self.size, 1)
        while isinstance(packed, PartSource):
            share += packed.start
            packed = packed.whole
        if isinstance(packed, DeflatedSource):
            return packed.position(share)
        return (packed.path, packed.start + share) if isinstance(packed, FileSource) else ("", 0)

    def forget_places(self) -> None:
        """Starts from the beginning next time. Any thread may call it."""
        self._places = None

    def forget_step(self, index: int) -> None:
        """Lets go of a step's bytes. Any thread may call it."""
        self._recent.pop(index, None)

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
            index, within = divmod(offset + done, STEP)
            if self._process != os.getpid():
                self._after_fork()
            with self._lock:
                part = memoryview(self._step(index))[within : within + len(out) - done]
            out[done : done + len(part)] = part
            done += len(part)

    def _after_fork(self) -> None:
        """Another thread may have held the lock: a child begins with its own. States are never changed."""
        self._lock, self._process = threading.Lock(), os.getpid()

    def _step(self, index: int) -> bytes:
        """The inflated bytes from `index` steps on, one step of them."""
        found = self._recent.get(index)
        if found is not None:
            return found
        places = self._places or _Places()
        if self.size > STEP:
            self._places = places
        for reached in range(places.before(index), index + 1):
            found = self._recent[reached] = self._inflate(places, reached)
            _kept.inflated(self, reached, len(found))
        assert found is not None
        return found

    def _inflate(self, places: _Places, index: int) -> bytes:
        """One step from its start's state; the state after it is kept."""
        given, inflater = places.start(index)
        wanted = min(STEP, self.size - index * STEP)
        blocks: list[bytes] = []
        while wanted:
            pending = inflater.unconsumed_tail
            if not pending:
                pending = self.packed.read(given, min(READ, self.packed.size - given))
                given += len(pending)
            try:
                block = inflater.decompress(pending, wanted)
            except zlib.error as error:
                raise FormatError(f"{self.where} is damaged: {error}; download it again") from None
            if not block and (inflater.eof or not pending):
                done = index * STEP + sum(map(len, blocks))
                raise FormatError(
                    f"{self.where} is truncated: it inflates to {done:,} bytes of {self.size:,}"
                )
            wanted -= len(block)
            blocks.append(block)
        if (index + 1) * STEP >= self.size:
            self._check_end(inflater, given)
        else:
            places.add(index + 1, given, inflater)
        return b"".join(blocks)

    def _check_end(self, inflater: Any, given: int) -> None:
        """The stream must end where the directory says; `given` bytes of it were given to the inflater."""
        while not inflater.eof:
            pending = inflater.unconsumed_tail
            if not pending:
                pending = self.packed.read(given, min(READ, self.packed.size - given))
                given += len(pending)
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


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Inflated(LazyTensor):
    """Elements of a deflated entry."""

    source: DeflatedSource
    offset: int
    dtype: DType
    shape: Shape
    swap: bool

    @property
    def file_position(self) -> tuple[str, int]:
        return self.source.position(self.offset)

    @property
    def stream(self) -> object:
        return self.source.stream

    def read_into(self, start: int, stop: int, out: Array) -> None:
        raw = out.view(np.uint8)
        self.source.inflate_into(self.offset + start * self.dtype.itemsize, memoryview(raw))  # type: ignore[arg-type]
        if self.swap:
            swap_bytes(raw, self.dtype)
