"""One line that says how far a conversion is, on a terminal only."""

from __future__ import annotations

import sys
import time
from typing import TextIO

WIDTH = 24


class Bar:
    """Bytes done of a total, their rate and the time left, drawn over itself on one line."""

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        self._total = max(total, 1)
        self._stream = stream or sys.stderr
        self._first: int | None = None
        self._began = time.monotonic()
        self._drawn = False

    def __call__(self, done: int) -> None:
        """Draws the line anew for `done` bytes."""
        if self._first is None:
            self._first = done
        seconds = time.monotonic() - self._began
        rate = (done - self._first) / seconds if seconds > 0 else 0.0
        share = min(done / self._total, 1.0)
        filled = int(share * WIDTH)
        left = f"{clock((self._total - done) / rate)} left" if rate > 0 else ""
        line = (
            f"{'█' * filled}{'░' * (WIDTH - filled)} {share:4.0%}"
            f"  {done / 1e9:.2f}/{self._total / 1e9:.2f} GB  {rate / 1e9:.2f} GB/s  {left}"
        )
        self._stream.write(f"\r\x1b[K{line}")
        self._stream.flush()
        self._drawn = True

    def clear(self) -> None:
        """Removes the line."""
        if self._drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def clock(seconds: float) -> str:
    """Seconds as `m:ss` or `h:mm:ss`."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, last = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{last:02}" if hours else f"{minutes}:{last:02}"
