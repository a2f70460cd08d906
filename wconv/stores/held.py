"""Bytes of a file elsewhere that are held on this disk: for a while, or for the hub's cache.

A file with holes, at the offsets of the other one, and what of it is there. Beside one that is to stay, a log
says what is there, so that a run that was killed goes on.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import threading
from pathlib import Path

from wconv.errors import OutputError
from wconv.stores.ranges import Ranges

INCOMPLETE, LOG = ".wconv-incomplete", ".wconv-ranges"
"""What is added to the name of a file that is not whole yet; the hub's own programs leave both alone."""


class Held:
    """The bytes that are held of one file.

    Attributes:
        wanted: what of the file is to be held; None for all of it.
        there: what is.
    """

    def __init__(self, fd: int, wanted: Ranges | None, log: int = -1) -> None:
        self.wanted = wanted
        self.there = Ranges()
        self._fd = fd
        self._log = log
        self._lock = threading.Lock()

    def __del__(self) -> None:
        for fd in (self._fd, self._log):
            if fd >= 0:
                os.close(fd)

    def want(self, more: Ranges) -> None:
        """Holds more ranges than until now."""
        if self.wanted is not None:
            with self._lock:
                for start, stop in more:
                    self.wanted.add(start, stop)

    def put(self, start: int, data: memoryview) -> None:
        """Holds of some bytes what is wanted. Raises `OutputError`: the disk does not take them."""
        stop = start + len(data)
        with self._lock:
            wanted = [(start, stop)] if self.wanted is None else list(self.wanted.common(start, stop))
        try:
            for first, last in wanted:
                left, at = data[first - start : last - start], first
                while left:
                    count = os.pwrite(self._fd, left, at)
                    left, at = left[count:], at + count
                with self._lock:
                    self.there.add(first, last)
                if self._log >= 0:
                    os.write(self._log, b"%d %d\n" % (first, last))
        except OSError as error:
            raise OutputError(f"what is fetched cannot be kept on this disk: {error.strerror}") from None

    def has(self, start: int, stop: int) -> bool:
        """Whether all of a range is there."""
        with self._lock:
            return self.there.covers(start, stop)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fills a buffer as far as bytes from `offset` on are there; how many."""
        with self._lock:
            gap = next(self.there.missing(offset, offset + len(buffer)), None)
        wanted = len(buffer) if gap is None else gap[0] - offset
        done = 0
        while done < wanted:
            count = os.preadv(self._fd, [buffer[done:wanted]], offset + done)
            if not count:
                break
            done += count
        return done


def for_a_while(wanted: Ranges, directory: str | None = None) -> Held:
    """Holds ranges until nobody refers to what this returns; `directory`: on which disk.

    Raises:
        OutputError: the disk does not let it be written.
    """
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            return Held(os.dup(file.fileno()), wanted)
    except OSError as error:
        raise OutputError(f"what is fetched cannot be kept on this disk: {error.strerror}") from None


def to_stay(path: str, size: int) -> Held | None:
    """Holds all of a file as the beginning of `path`; None where another process does so already.

    What an earlier run held is there again.

    Raises:
        OutputError: the disk does not let it be written.
    """
    fd = log = -1
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path + INCOMPLETE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        except OSError:
            pass  # a file system without locks
        os.ftruncate(fd, size)
        log = os.open(path + LOG, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        held = Held(fd, None, log)
        for line in Path(path + LOG).read_bytes().splitlines(keepends=True):
            words = line.split()
            if line.endswith(b"\n") and len(words) == 2 and all(word.isdigit() for word in words):
                held.there.add(min(int(words[0]), size), min(int(words[1]), size))
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from None
    return held


def finish(path: str, snapshot: str) -> None:
    """Gives a file that is whole its name, and the snapshot a link to it. Raises `OutputError`."""
    try:
        os.replace(path + INCOMPLETE, path)
        with contextlib.suppress(OSError):
            os.unlink(path + LOG)
        link = Path(snapshot)
        link.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            link.unlink()
        link.symlink_to(os.path.relpath(path, link.parent))
    except OSError as error:
        raise OutputError(f"{snapshot} cannot be written: {error.strerror}") from None


def discard(path: str) -> None:
    """Removes what was held of a file and turned out to be wrong."""
    for name in (path + INCOMPLETE, path + LOG):
        with contextlib.suppress(OSError):
            os.unlink(name)
