"""Ctrl-C and SIGTERM end a command in order; a second one ends it at once, and every moment allows that."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Any

STOPPED = b"wconv: stopped at once\n"

_received = signal.SIGINT


def catch() -> None:
    """Makes both signals a KeyboardInterrupt."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # one that whoever started the command had it ignore stays ignored, as `nohup` and shells ask
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _first)


def exit_code() -> int:
    """As shells have it: 130 after Ctrl-C, 143 after SIGTERM."""
    return 128 + _received


def _first(number: int, frame: Any) -> None:
    global _received
    _received = signal.Signals(number)
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, _second)
    raise KeyboardInterrupt


def _second(number: int, frame: Any) -> None:
    with contextlib.suppress(OSError):
        os.write(2, STOPPED)
    os._exit(128 + number)
