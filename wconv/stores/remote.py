"""Files on servers, read by range: what `files.SourceFile` is for local ones.

What is read piece by piece is fetched ahead, several pieces at a time, into a cache of bounded size; what is
read here and there is fetched as it is asked for. So headers cost kilobytes and streams run at full speed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from wconv.errors import FormatError
from wconv.stores import http, stopping
from wconv.stores.http import Exchange, ServerError
from wconv.stores.stand_ins import Remote

FIRST = 1 << 16
"""Bytes that are fetched at least: a header is often in them."""

SPAN = 4 << 20
"""Bytes of one request of a stream."""

AHEAD = 4
"""Requests that a stream is ahead of its reader."""

CACHED, BEYOND = 24 << 20, 8 << 20
"""Bytes of all files that are held, and how many more at most while readers wait for them."""

TICK = 0.2
"""Seconds after which a reader that waits asks whether it still should."""

STALE = 64
"""Spans after which one that was begun and not read is not waited for any more."""

SMALL = 8 << 20
"""Bytes of a file that is taken whole from a server that sends no ranges."""


def probe(url: str, name: str) -> Remote:
    """Asks for the first bytes of a file, and so for its size and identity.

    Raises:
        FormatError: it is not there, may not be read, or the server sends no ranges.
    """
    http.parse(url)
    found: list[Remote] = []

    def attempt() -> int:
        with http.exchange(url, {"Range": f"bytes=0-{FIRST - 1}"}, _secret) as answer:
            size = _total(answer)
            if size < 0 or (answer.status != 206 and size > SMALL):
                raise _no_ranges(name)
            etag = answer.linked[0] or answer.header("ETag") or answer.header("Last-Modified")
            remote = Remote(url, etag, size, name, linked=bool(answer.linked[0]))
            span = Span(0, min(FIRST, size))
            _receive(answer, memoryview(span.data))
            span.ready.set()
            with _cache.lock:
                _cache.add(remote, span)
            found.append(remote)
            return 1

    def empty(problem: ServerError) -> str:
        return f"{name} is empty" if problem.status == 416 else ""

    http.patiently(attempt, 1, name, empty)
    return found[-1]


def _receive(answer: Exchange, buffer: memoryview) -> None:
    """Fills a buffer. Raises `ServerError`: less than that came."""
    done = 0
    while done < len(buffer):
        count = answer.response.readinto(buffer[done:])
        if not count:
            raise ServerError("the connection was cut")
        done += count


def _no_ranges(name: str) -> FormatError:
    return FormatError(f"{name} cannot be read in parts: the server sends files whole; download it first")


def _secret(url: str) -> str:
    """The `Authorization` for an address: the hub's own token for the hub, nothing for others."""
    from wconv.stores import hub

    return hub.authorization(url)


def _total(answer: Exchange) -> int:
    """Bytes of the whole file; -1 where the answer does not say."""
    if answer.status != 206:
        return answer.length
    text = answer.header("Content-Range").rpartition("/")[2]
    return int(text) if text.isdecimal() and len(text) < 20 else -1


class Span:
    """A range that was fetched or is being fetched.

    Attributes:
        left: bytes that nobody has read yet.
        number: it is the so-many-th that was begun.
        ready: set when `data` or `error` is there.
    """

    __slots__ = ("data", "error", "left", "number", "ready", "start", "stop")

    def __init__(self, start: int, stop: int) -> None:
        self.start = start
        self.stop = stop
        self.left = stop - start
        self.number = 0
        self.data = bytearray(stop - start)
        self.ready = threading.Event()
        self.error: BaseException | None = None


class _Cache:
    """The spans of all files, the oldest first."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.spans: dict[tuple[Remote, int], Span] = {}
        self.count = 0

    def nbytes(self) -> int:
        return sum(span.stop - span.start for span in self.spans.values())

    def add(self, remote: Remote, span: Span) -> Span:
        """Puts a span in, for which there is room."""
        self.count += 1
        span.number = self.count
        self.spans[remote, span.start] = span
        return span

    def make_room(self, count: int, *, ahead: bool = False) -> bool:
        """Drops what was read and what nobody came back for; whether there is room for `count` bytes then.

        Args:
            ahead: nobody waits for them: else what is of use goes too when there is far too much.
        """
        missing = self.nbytes() + count - CACHED
        for span_is_of_use in (False,) if ahead else (False, True):
            for key, span in list(self.spans.items()):
                if missing <= (BEYOND if span_is_of_use else 0):
                    break
                of_use = span.left > 0 and span.number > self.count - STALE
                if span.ready.is_set() and of_use == span_is_of_use:
                    del self.spans[key]
                    missing -= span.stop - span.start
        return missing <= 0


_cache = _Cache()


def _after_fork() -> None:
    """What a parent's threads were fetching never arrives in the child."""
    global _cache
    _cache = _Cache()


os.register_at_fork(after_in_child=_after_fork)


@dataclass(slots=True)
class _Seen:
    """What one file's answers said: the address after redirects, and the identity that each server gives."""

    direct: str
    etags: dict[http.Origin, str]


class RemoteFile:
    """A file on a server.

    Attributes:
        size: in bytes.
        stamp: what tells it from any other.
    """

    __slots__ = ("_seen", "path", "remote", "size", "stamp")

    def __init__(self, remote: Remote) -> None:
        self.remote = remote
        self.path = remote.name
        self.size = remote.size
        self.stamp = remote.stamp
        self._seen = _Seen(remote.url, {})

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
            at = offset + done
            span = self._span(at, len(buffer) - done)
            while not span.ready.wait(TICK):
                if stopping.asked():
                    raise FormatError(f"{self.path} is not wanted any more")
            if span.error is not None:
                self._forget(span)
                raise span.error
            count = min(span.stop - at, len(buffer) - done)
            buffer[done : done + count] = memoryview(span.data)[at - span.start : at - span.start + count]
            span.left -= count
            done += count

    def _forget(self, span: Span) -> None:
        with _cache.lock:
            if _cache.spans.get((self.remote, span.start)) is span:
                del _cache.spans[self.remote, span.start]

    def _span(self, at: int, need: int) -> Span:
        """The span that `at` is in, fetched now if there is none; a stream's next ones are begun."""
        mine, ahead = None, []
        with _cache.lock:
            found = self._covering(at)
            if found is None:
                before = next((one for one in self._spans() if one.stop == at), None)
                grown = 2 * (before.stop - before.start) if before is not None else 0
                found = mine = self._begin(at, min(max(need, grown, FIRST), SPAN))
            if found.stop - found.start == SPAN:
                ahead = self._begin_ahead(found.stop)
        for one in ahead if mine is None else (mine, *ahead):
            try:
                threading.Thread(target=self._fetch, args=(one,), name="wconv-fetch", daemon=True).start()
            except RuntimeError:
                self._fetch(one)  # a limit on threads or memory
        return found

    def _spans(self) -> list[Span]:
        return [span for (remote, _), span in _cache.spans.items() if remote == self.remote]

    def _covering(self, at: int) -> Span | None:
        return next((one for one in self._spans() if one.start <= at < one.stop), None)

    def _begin(self, at: int, count: int) -> Span:
        stop = min([at + count, self.size, *(one.start for one in self._spans() if one.start > at)])
        _cache.make_room(stop - at)
        return _cache.add(self.remote, Span(at, stop))

    def _begin_ahead(self, at: int) -> list[Span]:
        begun: list[Span] = []
        for _ in range(AHEAD):
            if at >= self.size:
                break
            there = self._covering(at)
            if there is None:
                if not _cache.make_room(SPAN, ahead=True):
                    break
                there = self._begin(at, SPAN)
                begun.append(there)
            at = there.stop
        return begun

    def _fetch(self, span: Span) -> None:
        """Fills a span, or says in it why not."""
        try:
            self._fill(span.start, memoryview(span.data))
        except BaseException as error:
            span.error = error
        finally:
            span.ready.set()

    def _fill(self, offset: int, buffer: memoryview) -> None:
        done = 0

        def attempt() -> int:
            nonlocal done
            before = done
            try:
                for count in self._ask(offset + done, buffer[done:]):
                    done += count
            except ServerError as error:
                if error.status in (401, 403, 404, 410) and self._seen.direct != self.remote.url:
                    # the address that the first one led to was for a while only
                    self._seen.direct = self.remote.url
                    raise ServerError(error.text) from None
                if done == before or error.status:
                    raise
            except OSError:
                self._seen.direct = self.remote.url
                if done == before:
                    raise
            return done - before

        http.patiently(attempt, len(buffer), self.path, self._advise)

    def _ask(self, start: int, buffer: memoryview) -> Iterator[int]:
        """Sends one request; the counts of what arrives, as it arrives."""
        headers = {"Range": f"bytes={start}-{start + len(buffer) - 1}"}
        with http.exchange(self._seen.direct, headers, _secret) as answer:
            self._check(answer, start)
            self._seen.direct = answer.url
            if answer.status != 206:
                answer.response.read(start)
            done = 0
            while done < len(buffer):
                count = answer.response.readinto(buffer[done : done + (1 << 20)])
                if not count:
                    return
                done += count
                yield count
            if answer.status != 206:
                answer.response.read()

    def _check(self, answer: Exchange, start: int) -> None:
        """Refuses an answer that is not of the file that was opened. Raises `FormatError`."""
        size, linked = _total(answer), answer.linked
        if answer.status != 206 and size > SMALL:
            raise _no_ranges(self.path)
        etag = answer.header("ETag") or answer.header("Last-Modified")
        first = self._seen.etags.setdefault(http.origin(answer.url), etag)
        if not self.remote.linked:
            first = self.remote.etag
        wanted = self.remote.etag if self.remote.linked else ""
        other = linked[0] and wanted and _plain(linked[0]) != _plain(wanted)
        if other or size not in (-1, self.size) or (etag and first and _plain(etag) != _plain(first)):
            raise FormatError(f"{self.path} changed since it was opened: open it again")
        if answer.status == 206 and not answer.header("Content-Range").startswith(f"bytes {start}-"):
            raise ServerError("the server sends another range than it was asked for", 310)

    def _advise(self, problem: ServerError) -> str:
        from wconv.stores import hub

        return hub.refusal(self.remote.url, self.path, problem)


def _plain(etag: str) -> str:
    """An identity without the signs around it."""
    return etag.removeprefix("W/").strip('"')


def forget(remote: Remote) -> None:
    """Drops what is held of a file."""
    with _cache.lock:
        for key in [key for key in _cache.spans if key[0] == remote]:
            del _cache.spans[key]
