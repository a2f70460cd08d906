"""Asking servers for bytes: connections that are kept, redirects, proxies, time-outs, plain errors.

An address may hold a secret (a password, a signature): messages show it without. A token goes to the server
that it is for and to no other, wherever that one redirects to.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import ssl
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit, urlunsplit

from wconv.errors import FormatError
from wconv.stores import patience
from wconv.stores.patience import ServerError

REDIRECTS = 10
"""Hops of one request at most."""

IDLE = 8
"""Connections that are kept open, to all servers together."""

SAFE = "/%:@!$&'()*+,;=~"
"""Signs of a path that stand in a request as they are."""

Origin = tuple[str, str, int]
"""Scheme, host and port."""


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
                host, port, timeout=patience.TIMEOUT, context=ssl.create_default_context()
            )
        return http.client.HTTPConnection(host, port, timeout=patience.TIMEOUT)
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if not parts.hostname:
        raise ServerError(f"the proxy for {scheme} is no address")
    if scheme == "http":
        return http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=patience.TIMEOUT)
    connection = http.client.HTTPSConnection(
        parts.hostname, parts.port or 80, timeout=patience.TIMEOUT, context=ssl.create_default_context()
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
