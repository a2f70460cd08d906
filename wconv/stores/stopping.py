"""How a thread that waits for a server learns that nobody wants its work any more."""

from __future__ import annotations

import threading

_here = threading.local()


def stops_with(event: threading.Event) -> None:
    """Reading in this thread ends, with an error, once `event` is set."""
    _here.event = event


def asked() -> bool:
    """Whether this thread is to stop."""
    event: threading.Event | None = getattr(_here, "event", None)
    return event is not None and event.is_set()
