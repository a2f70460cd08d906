"""Files elsewhere, read by range: what `files.SourceFile` is for local ones.

What is read piece by piece is fetched ahead, several pieces at a time, into a cache of bounded size; what is
read here and there is fetched as it is asked for. So headers cost kilobytes and streams run at full speed.
Where somebody said what will be read (`expect`), nothing else is fetched, and nothing twice.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from wconv.errors import FormatError
from wconv.stores import digests, held, stopping
from wconv.stores.digests import OrderedDigest
from wconv.stores.expected import Expected, Extent, Read
from wconv.stores.held import Held
from wconv.stores.ranges import Ranges
from wconv.stores.spans import AHEAD, FIRST, REQUESTS, SPAN, Span, SpanCache
from wconv.stores.stand_ins import Remote

TICK = 0.2
"""Seconds after which a reader that waits asks whether it still should."""

STEP = 1 << 20
"""Bytes of what is held on the disk that a digest takes in at once."""


class Filler(Protocol):
    """What brings bytes of one file, from wherever it is."""

    def fill(self, offset: int, buffer: memoryview) -> None:
        """Fills a buffer from `offset`. Raises `FormatError`."""


def _filler(remote: Remote) -> Filler:
    if remote.url.lower().startswith(("https://", "http://")):
        from wconv.stores.http_file import ReaderOfServer

        return ReaderOfServer(remote)
    from wconv.stores.store_file import ReaderOfStore

    return ReaderOfStore(remote)


class FileState:
    """What this process knows of one file, whoever reads it.

    Attributes:
        digest: of the file's beginning; None where nobody says what the whole one's is.
        held: what of it is on this disk.
        fetched: bytes that came.
    """

    def __init__(self, remote: Remote) -> None:
        self.remote = remote
        self.filler = _filler(remote)
        self.digest = OrderedDigest(remote.etag, remote.size) if digests.kind(remote.etag) else None
        self.held: Held | None = None
        self.fetched = 0
        self.lock = threading.Lock()
        self._holding = 0
        if remote.keep:
            self.held = held.to_stay(remote.keep, remote.size)

    def hold(self, again: Ranges, directory: str | None) -> None:
        """Has ranges held on this disk until `let_go`. Raises `OutputError`: it has no room."""
        with self.lock:
            self._holding += 1
            if self.held is None:
                self.held = held.for_a_while(Ranges(), directory)
            self.held.want(again)

    def let_go(self) -> None:
        """Ends what `hold` began."""
        with self.lock:
            self._holding -= 1
            if not self._holding and not self.stays:
                self.held = None

    @property
    def stays(self) -> bool:
        """Whether what is held is for the hub's cache."""
        return self.held is not None and self.held.wanted is None


_cache = SpanCache()
_states: dict[Remote, FileState] = {}
_expected: list[Expected] = []
_state_lock = threading.Lock()


def _after_fork() -> None:
    """What a parent's threads were fetching never arrives in the child."""
    global _cache, _states, _expected, _state_lock
    _cache, _states, _expected, _state_lock = SpanCache(), {}, [], threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def reset() -> None:
    """Forgets all that was fetched, as in a new process."""
    _after_fork()


def state_of(remote: Remote) -> FileState:
    """What is known of a file. Raises `FormatError`: nobody can read it."""
    with _state_lock:
        found = _states.get(remote)
        if found is None:
            found = _states[remote] = FileState(remote)
        return found


def states(files: Iterable[Remote]) -> list[FileState]:
    """What this process knows of files elsewhere, as far as it has read any of them."""
    with _state_lock:
        return [_states[remote] for remote in dict.fromkeys(files) if remote in _states]


def most_held() -> int:
    """Bytes of files elsewhere that were in memory at most."""
    return _cache.most


def probe(url: str, name: str) -> Remote:
    """Asks a server for the first bytes of a file, and so for its size and identity.

    Raises:
        FormatError: it is not there, may not be read, or the server sends no ranges.
    """
    from wconv.stores.http_file import first_bytes

    remote, data = first_bytes(url, name, FIRST)
    span = Span(0, len(data))
    span.data = data
    span.ready.set()
    with _cache.lock:
        _cache.add(remote, span)
    state_of(remote).fetched += len(data)
    return remote


@contextmanager
def expect(reads: Iterable[Read], directory: str | None = None) -> Iterator[None]:
    """A block in which just these ranges will be read, about in this order.

    Args:
        directory: where what is read more than once is held meanwhile.
    """
    expected = Expected(reads)
    if not expected:
        yield
        return
    with _cache.lock:
        _expected.append(expected)
    holding = [state_of(remote) for remote, again in expected.again.items() if again.nbytes]
    try:
        for state in holding:
            state.hold(expected.again[state.remote], directory)
        yield
    finally:
        with _cache.lock:
            _expected.remove(expected)
        for state in holding:
            state.let_go()


class RemoteFile:
    """A file elsewhere.

    Attributes:
        size: in bytes.
        stamp: what tells it from any other.
    """

    __slots__ = ("path", "remote", "size", "stamp", "state")

    def __init__(self, remote: Remote) -> None:
        self.remote = remote
        self.path = remote.name
        self.size = remote.size
        self.stamp = remote.stamp
        self.state = state_of(remote)

    def mapped(self) -> memoryview:
        """Raises `FormatError`: only local files are mapped."""
        raise FormatError(f"{self.path} is on a server and cannot be mapped: download it first")

    def read(self, offset: int, count: int) -> bytearray:
        """`count` bytes from `offset`. Raises as `read_into` does."""
        data = bytearray(count)
        self.read_into(offset, memoryview(data))
        return data

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fills `buffer` (of bytes) from `offset`.

        Raises:
            FormatError: the file ends before the buffer is full, has changed, or cannot be had.
        """
        if offset + len(buffer) > self.size:
            raise FormatError(
                f"{self.path} is truncated: it ends at byte {self.size:,} of {offset + len(buffer):,}"
            )
        done = 0
        while done < len(buffer):
            at, left = offset + done, buffer[done:]
            keeping = self.state.held
            there = keeping.read_into(at, left) if keeping is not None else 0
            done += there or self._of_span(at, left)

    def _of_span(self, at: int, buffer: memoryview) -> int:
        """Fills the beginning of a buffer from memory, or from elsewhere; how many bytes."""
        span = self._span(at, len(buffer))
        while not span.ready.wait(TICK):
            if stopping.asked():
                raise FormatError(f"{self.path} is not wanted any more")
        if span.error is not None:
            self._forget(span)
            raise span.error
        count = min(span.stop - at, len(buffer))
        buffer[:count] = memoryview(span.data)[at - span.start : at - span.start + count]
        span.left -= count
        return count

    def _forget(self, span: Span) -> None:
        with _cache.lock:
            if _cache.spans.get((self.remote, span.start)) is span:
                del _cache.spans[self.remote, span.start]

    def _span(self, at: int, need: int) -> Span:
        """The span that `at` is in, fetched now if there is none; a stream's next ones are begun."""
        begun: list[tuple[RemoteFile, Span]] = []
        with _cache.lock:
            expected, extent = self._expected(at)
            found = _cache.covering(self.remote, at)
            if found is None:
                found = self._begin(at, self._reach(at, need, extent), expected)
                begun.append((self, found))
            if expected is not None and extent is not None:
                begun += _begin_expected(expected, extent, found.stop)
            elif found.stop - found.start == SPAN:
                begun += [(self, one) for one in self._begin_ahead(found.stop)]
        for file, span in begun:
            try:
                threading.Thread(target=file._fetch, args=(span,), name="wconv-fetch", daemon=True).start()
            except RuntimeError:
                file._fetch(span)  # a limit on threads or memory
        return found

    def _expected(self, at: int) -> tuple[Expected | None, Extent | None]:
        for expected in _expected:
            extent = expected.find(self.remote, at)
            if extent is not None:
                return expected, extent
        return None, None

    def _reach(self, at: int, need: int, extent: Extent | None) -> int:
        """Where a span that begins at `at` stops."""
        if extent is not None:
            return min(at + SPAN, extent.stop)
        before = next((one for one in _cache.of(self.remote) if one.stop == at), None)
        grown = 2 * (before.stop - before.start) if before is not None else 0
        return at + min(max(need, grown, FIRST), SPAN)

    def _begin(self, at: int, stop: int, expected: Expected | None = None) -> Span:
        stop = min([stop, self.size, *(one.start for one in _cache.of(self.remote) if one.start > at)])
        _cache.make_room(stop - at)
        span = Span(at, stop, self.state.digest)
        if expected is not None:
            span.left = expected.needed[self.remote].overlap(at, stop)
            expected.fetched.setdefault(self.remote, Ranges()).add(at, stop)
        return _cache.add(self.remote, span)

    def _begin_ahead(self, at: int) -> list[Span]:
        begun: list[Span] = []
        for _ in range(AHEAD):
            if at >= self.size:
                break
            there = _cache.covering(self.remote, at)
            if there is None:
                if not _cache.make_room(SPAN, ahead=True):
                    break
                there = self._begin(at, at + SPAN)
                begun.append(there)
            at = there.stop
        return begun

    def _fetch(self, span: Span) -> None:
        """Fills a span, or says in it why not."""
        try:
            self.state.filler.fill(span.start, memoryview(span.data))
            keeping = self.state.held
            if keeping is not None:
                keeping.put(span.start, memoryview(span.data))
        except BaseException as error:
            span.error = error
        finally:
            span.ready.set()
        if span.error is None:
            with self.state.lock:
                self.state.fetched += span.stop - span.start
            self.take_in()

    def take_in(self) -> None:
        """Lets the digest take in what follows its bytes, as far as that is there."""
        digest, state = self.state.digest, self.state
        if digest is None:
            return
        with state.lock:
            while not digest.complete:
                with _cache.lock:
                    span = _cache.covering(self.remote, digest.at)
                if span is not None and span.ready.is_set() and span.error is None:
                    digest.take(memoryview(span.data)[digest.at - span.start :])
                    continue
                if not state.stays or state.held is None:
                    return
                data = bytearray(min(STEP, digest.size - digest.at))
                count = state.held.read_into(digest.at, memoryview(data))
                if not count:
                    return
                digest.take(memoryview(data)[:count])


def _begin_expected(expected: Expected, extent: Extent | None, at: int) -> list[tuple[RemoteFile, Span]]:
    """Begins what is read next, as far as there is room."""
    begun: list[tuple[RemoteFile, Span]] = []
    ahead = requests = 0
    while ahead < AHEAD * SPAN and requests < REQUESTS and extent is not None:
        if at >= extent.stop:
            extent = expected.after(extent)
            at = extent.start if extent is not None else 0
            continue
        stop = min(at + SPAN, extent.stop)
        file = RemoteFile(extent.remote)
        fetched = expected.fetched.get(extent.remote)
        for first, last in list(fetched.missing(at, stop)) if fetched is not None else [(at, stop)]:
            there = file.state.held
            if _cache.covering(extent.remote, first) or (there is not None and there.has(first, last)):
                continue
            if not _cache.make_room(last - first, ahead=True):
                return begun
            begun.append((file, file._begin(first, last, expected)))
        requests += 1
        ahead += stop - at
        at = stop
    return begun


def forget(remote: Remote) -> None:
    """Drops what is held of a file in memory."""
    with _cache.lock:
        for key in [key for key in _cache.spans if key[0] == remote]:
            del _cache.spans[key]
