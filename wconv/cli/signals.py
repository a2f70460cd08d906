"""Ctrl-C and SIGTERM end a command in order; a second one ends it at once, and every moment allows that."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

STOPPED = b"wconv: stopped at once\n"

SIGNALS = (signal.SIGINT, signal.SIGTERM)

_received = signal.SIGINT
_interrupted = False
_to_the_end = False


def keep() -> None:
    """Makes what `caught` sets last to the end of the process, which is nothing but the command."""
    global _to_the_end
    _to_the_end = True


@contextlib.contextmanager
def caught() -> Iterator[None]:
    """Makes both signals a KeyboardInterrupt for the time of a block, and puts the handlers back after it."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    _catch()
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None and not _to_the_end:
                signal.signal(number, handler)


def _catch() -> None:
    """Makes both signals a KeyboardInterrupt."""
    global _interrupted
    _interrupted = False
    for number in SIGNALS:
        # one that whoever started the command had it ignore stays ignored, as `nohup` and shells ask
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _first)


def exit_code() -> int:
    """As shells have it: 130 after Ctrl-C, 143 after SIGTERM."""
    return 128 + _received


def _first(number: int, frame: Any) -> None:
    global _received, _interrupted
    if _interrupted:
        _second(number, frame)  # it came while this handled the first one
    _interrupted = True
    _received = signal.Signals(number)
    for one in SIGNALS:
        signal.signal(one, _second)
    raise KeyboardInterrupt


def _second(number: int, frame: Any) -> None:
    with contextlib.suppress(OSError):
        os.write(2, STOPPED)
    os._exit(128 + number)
