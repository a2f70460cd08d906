"""A file on a server of HTTP, as what `remote.RemoteFile` reads spans from."""

from __future__ import annotations

from collections.abc import Iterator

from wconv.errors import FormatError
from wconv.stores import http, hub, patience
from wconv.stores.http import Exchange
from wconv.stores.patience import Pace, ServerError
from wconv.stores.stand_ins import Remote

SMALL = 8 << 20
"""Bytes of a file that is taken whole from a server that sends no ranges."""


def first_bytes(url: str, name: str, count: int) -> tuple[Remote, bytearray]:
    """Asks for the first bytes of a file, and so for its size and identity.

    Raises:
        FormatError: it is not there, may not be read, or the server sends no ranges.
    """
    http.parse(url)
    found: list[tuple[Remote, bytearray]] = []

    def attempt() -> int:
        with http.exchange(url, {"Range": f"bytes=0-{count - 1}"}, hub.authorization) as answer:
            size = _total(answer)
            if size < 0 or (answer.status != 206 and size > SMALL):
                raise _no_ranges(name)
            etag = answer.linked[0] or answer.header("ETag") or answer.header("Last-Modified")
            remote = Remote(url, etag, size, name, linked=bool(answer.linked[0]))
            data = bytearray(min(count, size))
            if sum(_received(answer, memoryview(data))) < len(data):
                raise ServerError("the connection was cut")
            found.append((remote, data))
            return 1

    def empty(problem: ServerError) -> str:
        return f"{name} is empty" if problem.status == 416 else ""

    patience.patiently(attempt, 1, name, empty)
    return found[-1]


def _no_ranges(name: str) -> FormatError:
    return FormatError(f"{name} cannot be read in parts: the server sends files whole; download it first")


def _total(answer: Exchange) -> int:
    """Bytes of the whole file; -1 where the answer does not say."""
    if answer.status != 206:
        return answer.length
    text = answer.header("Content-Range").rpartition("/")[2]
    return int(text) if text.isdecimal() and len(text) < 20 else -1


def _received(answer: Exchange, buffer: memoryview) -> Iterator[int]:
    """Fills a buffer as far as bytes come; their counts."""
    done, pace = 0, Pace()
    while done < len(buffer):
        count = answer.response.readinto(buffer[done : done + patience.step()])
        if not count:
            return
        done += count
        yield count
        pace.came(count)


class ReaderOfServer:
    """What fills spans from a server, and what its answers said of the file."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._direct = remote.url
        """The address after redirects."""
        self._etags: dict[http.Origin, str] = {}
        """The identity that each server gives."""

    def fill(self, offset: int, buffer: memoryview) -> None:
        """Fills a buffer from `offset`.

        Raises:
            FormatError: it cannot be had, or the file has changed.
        """
        done = 0

        def attempt() -> int:
            nonlocal done
            before = done
            try:
                for count in self._ask(offset + done, buffer[done:]):
                    done += count
            except ServerError as error:
                if error.status in (401, 403, 404, 410) and self._direct != self._remote.url:
                    # the address that the first one led to was for a while only
                    self._direct = self._remote.url
                    raise ServerError(error.text) from None
                if done == before or error.status:
                    raise
            except OSError:
                self._direct = self._remote.url
                if done == before:
                    raise
            return done - before

        patience.patiently(attempt, len(buffer), self._remote.name, self._advise)

    def _ask(self, start: int, buffer: memoryview) -> Iterator[int]:
        """Sends one request; the counts of what arrives, as it arrives."""
        headers = {"Range": f"bytes={start}-{start + len(buffer) - 1}"}
        with http.exchange(self._direct, headers, hub.authorization) as answer:
            self._check(answer, start)
            self._direct = answer.url
            if answer.status != 206:
                answer.response.read(start)
            yield from _received(answer, buffer)
            if answer.status != 206:
                answer.response.read()

    def _check(self, answer: Exchange, start: int) -> None:
        """Refuses an answer that is not of the file that was opened. Raises `FormatError`."""
        remote = self._remote
        size, linked = _total(answer), answer.linked
        if answer.status != 206 and size > SMALL:
            raise _no_ranges(remote.name)
        etag = answer.header("ETag") or answer.header("Last-Modified")
        first = self._etags.setdefault(http.origin(answer.url), etag)
        if not remote.linked:
            first = remote.etag
        wanted = remote.etag if remote.linked else ""
        other = linked[0] and wanted and _plain(linked[0]) != _plain(wanted)
        if other or size not in (-1, remote.size) or (etag and first and _plain(etag) != _plain(first)):
            raise FormatError(f"{remote.name} changed since it was opened: open it again")
        if answer.status == 206 and not answer.header("Content-Range").startswith(f"bytes {start}-"):
            raise ServerError("the server sends another range than it was asked for", 310)

    def _advise(self, problem: ServerError) -> str:
        return hub.refusal(self._remote.url, self._remote.name, problem)


def _plain(etag: str) -> str:
    """An identity without the signs around it."""
    return etag.removeprefix("W/").strip('"')
