"""Asking again: what may be had a little later, what never will be, how fast bytes may come, plain errors."""

from __future__ import annotations

import errno
import socket
import ssl
import threading
import time
from collections.abc import Callable

from wconv.errors import FormatError
from wconv.stores import stopping

TIMEOUT = 30.0
"""Seconds in which a server must say something."""

ATTEMPTS = 6
"""Times that a server is asked that fails, or sends nothing of use."""

PAUSE = 0.5
"""Seconds before the second attempt; each after it waits twice as long."""

LONGEST_PAUSE = 60.0
"""Seconds that are waited at most, also where the server asks for more."""

ENOUGH = 1 << 16
"""Bytes of an attempt that count as progress: who sends them is slow, not broken."""

TRICKLE = 1 << 10
"""Bytes that must come within `TIMEOUT`, in an answer that has begun."""

BUSY = (408, 429, 500, 502, 503, 504)
"""What servers answer that may answer otherwise a little later."""

NO_NETWORK = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN)
"""What the system says where no way leads to a server."""


class ServerError(OSError):
    """What a server answered instead of what it was asked for, or that it answered nothing.

    Attributes:
        status: of the answer; 0 where there is none.
        code: what the hub calls it (`X-Error-Code`).
        wait: seconds that the server asks to wait.
        final: whether to ask again is of no use.
    """

    def __init__(
        self, text: str, status: int = 0, code: str = "", wait: float = 0.0, *, final: bool | None = None
    ) -> None:
        super().__init__(text)
        self.text = text
        self.status = status
        self.code = code
        self.wait = wait
        self.final = bool(status) and status not in BUSY if final is None else final


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
            _reached.set()
            if got >= wanted:
                return
            raise ServerError("the connection was cut")
        except OSError as error:
            problem = error if isinstance(error, ServerError) else ServerError(_reason(error))
            failed = 1 if got - before >= ENOUGH else failed + 1
            if failed >= ATTEMPTS or _is_final(error):
                raise FormatError(advise(problem) or f"{name} cannot be read: {advice(problem)}") from None
            _sleep(min(max(PAUSE * 2 ** (failed - 1), problem.wait), LONGEST_PAUSE), name)


_reached = threading.Event()
"""Set once anything has come from anywhere: what fails then is a network that was there."""


def _sleep(seconds: float, name: str) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if stopping.asked():
            raise FormatError(f"{name} is not wanted any more")
        time.sleep(min(left, 0.2))


def _is_final(error: OSError) -> bool:
    """Whether asking again is of no use: what the server says is meant, or there is no network at all."""
    if isinstance(error, ServerError):
        return error.final
    if isinstance(error, ssl.SSLCertVerificationError):
        return True
    lost = isinstance(error, socket.gaierror) or error.errno in NO_NETWORK
    return lost and not _reached.is_set()


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing came within {TIMEOUT:.0f} seconds"
    if isinstance(error, socket.gaierror):
        return "the server's name is not found; is this machine offline?"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not trusted: {error.verify_message}"
    if error.errno in NO_NETWORK:
        return f"{error.strerror}; is this machine offline?"
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


class Pace:
    """How fast bytes come: not faster than is allowed, and not by the drop."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._count = 0

    def came(self, count: int) -> None:
        """Says that bytes came; waits where they come too fast.

        Raises:
            ServerError: so few of them come that the server is as good as silent.
        """
        throttle(count)
        self._count += count
        seconds = time.monotonic() - self._since
        if seconds < TIMEOUT:
            return
        if self._count < TRICKLE and not _limit.rate:
            raise ServerError(f"only {self._count:,} bytes came within {TIMEOUT:.0f} seconds")
        self._since, self._count = time.monotonic(), 0


class _Limit:
    """Bytes a second for all connections of this process together, and when the next may come."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.rate = 0.0
        self.next = 0.0


_limit = _Limit()


def limit(rate: float) -> None:
    """Allows this process to fetch so many bytes a second, of all servers together; 0 for as many as come."""
    _limit.rate, _limit.next = rate, time.monotonic()


def step() -> int:
    """Bytes that are read at once, so that what is allowed comes evenly."""
    return max(min(int(_limit.rate / 10), 1 << 20), 1 << 10) if _limit.rate else 1 << 20


def throttle(count: int) -> None:
    """Waits as long as `count` bytes take that are allowed."""
    if not _limit.rate:
        return
    with _limit.lock:
        now = time.monotonic()
        _limit.next = max(_limit.next, now) + count / _limit.rate
        pause = _limit.next - now
    while pause > 0 and not stopping.asked():
        time.sleep(min(pause, 0.2))
        pause = _limit.next - time.monotonic() if pause > 0.2 else 0
