"""Reading bytes by range from regular files: a small cache of descriptors and one checked `pread`."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import BinaryIO

from wconv.errors import FormatError, OutputError
from wconv.stores import durable
from wconv.stores.replacing import check_node

OPEN_FILES = 64
"""How many descriptors a process keeps open; macOS allows a process 256."""

CALL = 1 << 30
"""Bytes that the system is asked to read or write in one call: macOS refuses 2 GiB."""


FileStamp = tuple[int, int, int, int]
"""Inode, size, time of change of the content, and of anything: another stamp is another file. The last one
is the system's own, which no program sets back."""


class SourcePath(str):
    """A path that remembers which file it named when it was opened: its `stamp`.

    Tensors carry it, so that reading one after the file was replaced is an error and never another file's
    bytes. It pickles, and otherwise is the path.
    """

    stamp: FileStamp


class SourceFile:
    """One open regular file. The descriptor closes with the last reference, so a reader never loses it.

    Attributes:
        size: in bytes.
        stamp: what tells it from any other.
    """

    __slots__ = ("_fd", "path", "size", "stamp")

    def __init__(self, path: str) -> None:
        """Opens `path` for reading.

        Raises:
            FormatError: the file is missing, unreadable, or not a regular file (a pipe, a device).
        """
        self._fd = -1
        self.path = path
        try:
            # O_NONBLOCK: opening a pipe must not wait for a writer
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            status = os.fstat(self._fd)
        except OSError as error:
            raise FormatError(f"{path} cannot be read: {error.strerror}") from None
        if not stat.S_ISREG(status.st_mode):
            raise FormatError(f"{path} is not a regular file")
        self.size = status.st_size
        self.stamp = stamp_of(status)

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def mapped(self) -> memoryview:
        """The whole file, mapped privately: pages are read when touched, writing never reaches the file."""
        import mmap

        if not self.size:
            return memoryview(bytearray())
        return memoryview(mmap.mmap(self._fd, self.size, access=mmap.ACCESS_COPY))

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fills `buffer` (of bytes) from `offset`.

        Raises:
            FormatError: the file ends before the buffer is full, or reading fails.
        """
        done = 0
        try:
            while done < len(buffer):
                count = os.preadv(self._fd, [buffer[done : done + CALL]], offset + done)
                if count == 0:
                    raise FormatError(
                        f"{self.path} is truncated: it ends at byte {offset + done:,} of"
                        f" {offset + len(buffer):,}; download it again"
                    )
                done += count
        except OSError as error:
            raise FormatError(f"{self.path} cannot be read: {error.strerror}") from None

    def read(self, offset: int, count: int) -> bytearray:
        """`count` bytes from `offset`; the caller has checked `count` against its limits."""
        data = bytearray(count)
        self.read_into(offset, memoryview(data))
        return data


_open: OrderedDict[str, SourceFile] = OrderedDict()
_lock = threading.Lock()


def _after_fork() -> None:
    """Another thread may have held the lock, or been changing the cache: a child begins with its own."""
    global _lock, _open
    _lock, _open = threading.Lock(), OrderedDict()


os.register_at_fork(after_in_child=_after_fork)


def stamp_of(status: os.stat_result) -> FileStamp:
    """The stamp of a file that has this status."""
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _now(path: str) -> FileStamp | None:
    try:
        return stamp_of(os.stat(path))
    except OSError:
        return None


def stamped(path: str) -> SourcePath:
    """`path`, bound to the file that is there now. Raises as `SourceFile` does."""
    bound = SourcePath(path)
    bound.stamp = SourceFile(path).stamp
    return bound


def source(path: str) -> SourceFile:
    """The open file at `path`, from the cache or opened now.

    Raises:
        FormatError: as `SourceFile` does, or because `path` is stamped and names another file by now.
    """
    with _lock:
        found = _open.get(path)
        wanted = path.stamp if isinstance(path, SourcePath) else None
        if found is None or found.stamp != (wanted or _now(path)):
            _open.pop(path, None)
            found = _open[str(path)] = SourceFile(path)
            if len(_open) > OPEN_FILES:
                _open.popitem(last=False)
        else:
            _open.move_to_end(path)
    if wanted is not None and found.stamp != wanted:
        raise FormatError(f"{path} changed since it was opened: open it again")
    return found


def close(path: str) -> None:
    """Forgets the open file at `path`; who reads from it later opens it again."""
    with _lock:
        _open.pop(path, None)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A new file that takes `path`'s place when the block ends; after an error, what was there stays.

    A checkpoint that is being read or mapped can so be replaced by what is made of it.

    Raises:
        OutputError: the file cannot be written.
    """
    check_node(path)
    folder, name = os.path.split(os.fspath(path))
    if os.path.isdir(path):
        raise OutputError(f"{os.fspath(path)} cannot be written: it is a directory")
    partial = os.path.join(folder, f".{name}.{os.getpid()}.{threading.get_native_id()}.partial")
    with contextlib.suppress(OSError):
        os.unlink(partial)
    try:
        with open(partial, "xb") as file:
            yield file
            if os.path.lexists(path):
                # what was there is lost otherwise when the power fails
                file.flush()
                durable.sync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise OutputError(f"{os.fspath(path)} cannot be written: {error.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            os.unlink(partial)
