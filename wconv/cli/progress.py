"""How far a conversion is: a line that is drawn over itself on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import os
import sys
import time
from typing import TextIO

WIDTH = 24
"""Signs of the bar, where the terminal has room for it."""

SECONDS = 10.0
"""Between two lines where nothing can be drawn over."""


class Progress:
    """Bytes done of a total, their rate and the time left."""

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        self._total = max(total, 1)
        self._stream = stream or sys.stderr
        self._first: int | None = None
        self._began = time.monotonic()

    def _figures(self, done: int) -> tuple[float, list[str]]:
        """The share that is done, and the texts beside it, the most important first."""
        if self._first is None:
            self._first = done
        seconds = time.monotonic() - self._began
        rate = (done - self._first) / seconds if seconds > 0 else 0.0
        share = min(done / self._total, 1.0)
        texts = [f"{share:4.0%}", f"{done / 1e9:.2f}/{self._total / 1e9:.2f} GB", f"{rate / 1e9:.2f} GB/s"]
        if rate > 0:
            texts.append(f"{clock((self._total - done) / rate)} left")
        return share, texts

    def __call__(self, done: int) -> None:
        """Tells of `done` bytes."""
        raise NotImplementedError

    def clear(self) -> None:
        """Takes away what is not to stay."""


class Bar(Progress):
    """One line, drawn over itself, never wider than the terminal."""

    _drawn = False

    def __call__(self, done: int) -> None:
        """Draws the line anew for `done` bytes."""
        share, texts = self._figures(done)
        columns = self._columns()
        line = ""
        for text in texts:
            wider = f"{line}  {text}" if line else text
            if len(wider) > columns:
                break
            line = wider
        room = min(columns - len(line) - 1, WIDTH)
        if room >= 4:
            filled = int(share * room)
            line = f"{'█' * filled}{'░' * (room - filled)} {line}"
        self._stream.write(f"\r\x1b[K{line}")
        self._stream.flush()
        self._drawn = True

    def _columns(self) -> int:
        """What fits in one line; the last column is left free, for a full line may wrap."""
        try:
            return (os.get_terminal_size(self._stream.fileno()).columns or 80) - 1
        except (OSError, ValueError, AttributeError):
            return 79

    def clear(self) -> None:
        """Removes the line."""
        if self._drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


class ProgressLines(Progress):
    """A line every ten seconds, for logs."""

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        super().__init__(total, stream)
        self._next = self._began + SECONDS

    def __call__(self, done: int) -> None:
        """Prints a line for `done` bytes, if the last is old enough."""
        _, texts = self._figures(done)
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + SECONDS
            self._stream.write("  ".join(text.strip() for text in texts) + "\n")
            self._stream.flush()


def for_stream(stream: TextIO | None, total: int) -> Progress | None:
    """What tells of the progress on `stream`; None where there is none."""
    if stream is None:
        return None
    return Bar(total, stream) if stream.isatty() else ProgressLines(total, stream)


def clock(seconds: float) -> str:
    """Seconds as `m:ss` or `h:mm:ss`."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, last = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{last:02}" if hours else f"{minutes}:{last:02}"
