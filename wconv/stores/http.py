"""Asking servers for bytes: connections that are kept, redirects, proxies, time-outs, patience, plain errors.

An address may hold a secret (a password, a signature): messages show it without. A token goes to the server
that it is for and to no other, wherever that one redirects to.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit, urlunsplit

from wconv.errors import FormatError

TIMEOUT = 30.0
"""Seconds in which a server must say something."""

ATTEMPTS = 6
"""Times that a server is asked that fails, or sends nothing of use."""

PAUSE = 0.5
"""Seconds before the second attempt; each after it waits twice as long."""

LONGEST_PAUSE = 60.0
"""Seconds that are waited at most, also where the server asks for more."""

REDIRECTS = 10
"""Hops of one request at most."""

IDLE = 8
"""Connections that are kept open, to all servers together."""

BUSY = (408, 429, 500, 502, 503, 504)
"""What servers answer that may answer otherwise a little later."""

SAFE = "/%:@!$&'()*+,;=~"
"""Signs of a path that stand in a request as they are."""

Origin = tuple[str, str, int]
"""Scheme, host and port."""


class ServerError(OSError):
    """What a server answered instead of what it was asked for, or that it answered nothing.

    Attributes:
        status: of the answer; 0 where there is none.
        code: what the hub calls it (`X-Error-Code`).
        wait: seconds that the server asks to wait.
    """

    def __init__(self, text: str, status: int = 0, code: str = "", wait: float = 0.0) -> None:
        super().__init__(text)
        self.text = text
        self.status = status
        self.code = code
        self.wait = wait


class Exchange:
    """One answer, the body of which is still to be read.

    Attributes:
        url: that which answered, after all redirects.
        linked: the identity and size that the first server gave the file before it redirected, "" where none.
    """

    def __init__(self, response: http.client.HTTPResponse, url: str, linked: tuple[str, str]) -> None:
        self.response = response
        self.status = response.status
        self.url = url
        self.linked = linked

    def header(self, name: str) -> str:
        """A header's value; "" where the answer has none of that name."""
        return self.response.headers.get(name) or ""

    @property
    def length(self) -> int:
        """Bytes of the body; -1 where the server does not say."""
        text = self.header("Content-Length")
        return int(text) if text.isdecimal() and len(text) < 20 else -1


def parse(url: str) -> SplitResult:
    """The parts of an address.

    Raises:
        FormatError: it is no address of http or https.
    """
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and url.isprintable():
            return parts
    raise FormatError(f"{shown(url)} is no address that can be read: https://host/path/model.safetensors is")


def shown(url: str) -> str:
    """An address without what may be secret in it: user, password, query."""
    before, separator, after = url.partition("://")
    place = after.partition("?")[0].partition("#")[0]
    host, slash, path = place.partition("/")
    return f"{before}{separator}{host.rpartition('@')[2]}{slash}{path}"


def origin(url: str) -> Origin:
    """The server that an address names. Raises `FormatError`."""
    parts = parse(url)
    return (
        parts.scheme,
        (parts.hostname or "").lower(),
        parts.port or (443 if parts.scheme == "https" else 80),
    )


_lock = threading.Lock()
_idle: list[tuple[Origin, http.client.HTTPConnection]] = []


def _after_fork() -> None:
    """A child must not speak on its parent's connections."""
    global _lock, _idle
    _lock, _idle = threading.Lock(), []


os.register_at_fork(after_in_child=_after_fork)


def _kept(server: Origin) -> http.client.HTTPConnection | None:
    """The connection to a server that was used last, if one is idle."""
    with _lock:
        found = next((one for one in reversed(_idle) if one[0] == server), None)
        if found is None:
            return None
        _idle.remove(found)
        return found[1]


def _connect(server: Origin) -> http.client.HTTPConnection:
    """A new connection, through the proxy that the environment names."""
    scheme, host, port = server
    proxy = urllib.request.getproxies().get(scheme)
    if proxy is None or urllib.request.proxy_bypass(host):
        if scheme == "https":
            return http.client.HTTPSConnection(
                host, port, timeout=TIMEOUT, context=ssl.create_default_context()
            )
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT)
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if not parts.hostname:
        raise ServerError(f"the proxy for {scheme} is no address")
    if scheme == "http":
        return http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=TIMEOUT)
    connection = http.client.HTTPSConnection(
        parts.hostname, parts.port or 80, timeout=TIMEOUT, context=ssl.create_default_context()
    )
    connection.set_tunnel(host, port, headers=_login(parts, "Proxy-Authorization"))
    return connection


def _login(parts: SplitResult, header: str = "Authorization") -> dict[str, str]:
    if parts.username is None:
        return {}
    text = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {header: "Basic " + base64.b64encode(text.encode()).decode()}


def _target(parts: SplitResult, server: Origin) -> tuple[str, dict[str, str]]:
    """What stands in the first line of a request, and the headers that a proxy wants."""
    path = urlunsplit(("", "", quote(parts.path or "/", SAFE), quote(parts.query, SAFE + "?"), ""))
    proxy = urllib.request.getproxies().get("http") if server[0] == "http" else None
    if proxy is None or urllib.request.proxy_bypass(server[1]):
        return path, {}
    host = f"[{server[1]}]" if ":" in server[1] else server[1]
    proxied = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return f"http://{host}:{server[2]}{path}", _login(proxied, "Proxy-Authorization")


@contextlib.contextmanager
def exchange(url: str, headers: Mapping[str, str], secret: Callable[[str], str]) -> Iterator[Exchange]:
    """Sends a GET and follows redirects; in the block, the answer can be read.

    Args:
        secret: the value of `Authorization` for an address, "" for none.

    Raises:
        ServerError: the server refuses, or cannot be reached.
    """
    linked = ("", "")
    for _ in range(REDIRECTS):
        parts, server = parse(url), origin(url)
        connection = _kept(server) or _connect(server)
        closing: http.client.HTTPConnection | None = connection
        ours = {"User-Agent": "wconv", "Accept-Encoding": "identity", **headers}
        allowed = secret(url)
        ours |= {"Authorization": allowed} if allowed else _login(parts)
        target, more = _target(parts, server)
        try:
            connection.request("GET", target, headers={**ours, **more})
            response = connection.getresponse()
            place = response.headers.get("Location")
            if response.status in (301, 302, 303, 307, 308) and place:
                linked = (
                    linked[0] or response.headers.get("X-Linked-Etag") or "",
                    linked[1] or response.headers.get("X-Linked-Size") or "",
                )
                url = _next(url, place)
                continue
            if response.status >= 400:
                raise _refusal(response)
            yield Exchange(response, url, linked)
            if response.isclosed() and not response.length and not response.will_close:
                with _lock:
                    _idle.append((server, connection))
                    closing = _idle.pop(0)[1] if len(_idle) > IDLE else None
            return
        except (http.client.HTTPException, ValueError) as error:
            # their texts may hold the address or a header
            raise ServerError(f"no sensible answer ({type(error).__name__})") from None
        finally:
            if closing is not None:
                closing.close()
    raise ServerError("it redirects without end", 310)


def _next(url: str, place: str) -> str:
    """The address that an answer redirects to; never from https to http."""
    following = urljoin(url, place)
    if urlsplit(following).scheme not in ("https", urlsplit(url).scheme):
        raise ServerError("it redirects to an address that is not of https", 310)
    return following


def _refusal(response: http.client.HTTPResponse) -> ServerError:
    status = response.status
    text = response.headers.get("Retry-After") or ""
    wait = float(text) if text.isdecimal() and len(text) < 9 else 0.0
    return ServerError(
        f"the server answers {status}", status, response.headers.get("X-Error-Code") or "", wait
    )


def patiently(
    attempt: Callable[[], int], wanted: int, name: str, advise: Callable[[ServerError], str]
) -> None:
    """Calls `attempt`, which returns the bytes it got, until there are `wanted`; waits longer each time.

    Args:
        name: what is read, for the error.
        advise: the sentence for an answer with a status, where there is a better one than `advice`; else "".

    Raises:
        FormatError: it cannot be had; the error's context is an OSError where a later run may be luckier.
    """
    got = failed = 0
    while True:
        try:
            before = got
            got += attempt()
            if got >= wanted:
                return
            raise ServerError("the connection was cut")
        except OSError as error:
            problem = error if isinstance(error, ServerError) else ServerError(_reason(error))
            # who sends something each time is slow, not broken
            failed = 1 if got - before >= 1 << 16 else failed + 1
            if failed >= ATTEMPTS or _is_final(error):
                raise FormatError(advise(problem) or f"{name} cannot be read: {advice(problem)}") from None
            time.sleep(min(max(PAUSE * 2 ** (failed - 1), problem.wait), LONGEST_PAUSE))


def _is_final(error: OSError) -> bool:
    """Whether asking again is of no use: what the server says is meant, or there is no network at all."""
    if isinstance(error, ServerError) and error.status:
        return error.status not in BUSY
    return isinstance(error, (socket.gaierror, ssl.SSLCertVerificationError))


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing came within {TIMEOUT:.0f} seconds"
    if isinstance(error, socket.gaierror):
        return "the server's name is not found; is this machine offline?"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not trusted: {error.verify_message}"
    return error.strerror or type(error).__name__


ADVICE = {
    401: "the server asks for a login (401)",
    403: "the server does not allow it (403); a signed address may have run out",
    404: "there is nothing at that address (404)",
    410: "it is there no more (410)",
    416: "it is shorter than it was (416): start again",
    429: "the server is asked too often (429): wait, then --resume goes on",
}
"""Status → what it means for the person who asked."""


def advice(problem: ServerError) -> str:
    """What to tell of a refusal."""
    return ADVICE.get(problem.status, problem.text)
