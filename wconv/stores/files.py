"""Reading bytes by range: a small cache of open files, local ones by one checked `pread`, others by HTTP.

Whoever reads asks `source` for a path and does not know which it is.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Protocol

from wconv.errors import FormatError, OutputError
from wconv.stores import copying, durable, shared, stand_ins
from wconv.stores.replacing import check_node
from wconv.stores.stand_ins import Remote

OPEN_FILES = 64
"""How many descriptors a process keeps open; macOS allows a process 256."""

CALL = 1 << 30
"""Bytes that the system is asked to read or write in one call: macOS refuses 2 GiB."""

COPIED = 1 << 20
"""Bytes of one step of a copy."""

FileStamp = tuple[int | str, ...]
"""Another stamp is another file. Of a local one: inode, size, time of change of the content, and of anything;
the last is the system's own, which no program sets back. Of one on a server: its ETag and size."""


Write = Callable[[int, memoryview, int], None]
"""Writes all of some bytes to an open file, from a place on; raises OSError."""


class Readable(Protocol):
    """A file that can be read by range, wherever it is: what `source` gives.

    Attributes:
        size: in bytes.
        stamp: what tells it from any other.
    """

    size: int
    stamp: FileStamp

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fills `buffer` (of bytes) from `offset`. Raises `FormatError` where it cannot."""

    def read(self, offset: int, count: int) -> bytearray:
        """`count` bytes from `offset`. Raises as `read_into` does."""

    def mapped(self) -> memoryview:
        """The whole file, mapped privately. Raises `FormatError` where it cannot be."""


class SourcePath(str):
    """A path that remembers which file it named when it was opened: its `stamp`.

    Tensors carry it, so that reading one after the file was replaced is an error and never another file's
    bytes. It pickles, as a path that another process finds wherever it works, and otherwise is the path.

    Attributes:
        remote: what the file there stands for.
    """

    stamp: FileStamp
    remote: Remote | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _source_path, (os.path.abspath(self), self.stamp, self.remote)


def _source_path(path: str, stamp: FileStamp, remote: Remote | None) -> SourcePath:
    bound = SourcePath(path)
    bound.stamp = stamp
    if remote is not None:
        bound.remote = remote
    return bound


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

    def copy_range(self, offset: int, count: int, fd: int, at: int, write: Write) -> bool:
        """Whether bytes were copied to `at` in another file, or both files share them: no buffer is used.

        Args:
            write: writes bytes that are mapped where the system is not to copy.
        """
        try:
            if copying.by_system(self._fd, fd, offset, at, count):
                return copying.copy(self._fd, fd, offset, at, count)
            pages = copying.mapped(self._fd, offset, count)
            if pages is None:
                return False
            write(fd, pages, at)
            if os.fstat(self._fd).st_size < offset + count:  # what is mapped beyond a file's end is zeros
                return False
        except OSError:  # it is read and written instead, which may fail for a reason of its own
            return False
        return True

    def read(self, offset: int, count: int) -> bytearray:
        """`count` bytes from `offset`; the caller has checked `count` against its limits."""
        data = bytearray(count)
        self.read_into(offset, memoryview(data))
        return data


class SharedFile:
    """A file that is read through blocks that others read, too."""

    __slots__ = ("_blocks", "_file", "_path", "size", "stamp")

    def __init__(self, file: Readable, path: str, blocks: shared.Blocks) -> None:
        self._file, self._path, self._blocks = file, path, blocks
        self.size, self.stamp = file.size, file.stamp

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fills `buffer` from `offset`. Raises as the file does."""
        if offset + len(buffer) > self.size:
            self._file.read_into(offset, buffer)  # which says what is wrong
        else:
            self._blocks.read_into(self._path, self.size, self._file.read_into, offset, buffer)

    def read(self, offset: int, count: int) -> bytearray:
        """`count` bytes from `offset`. Raises as `read_into` does."""
        data = bytearray(count)
        self.read_into(offset, memoryview(data))
        return data

    def mapped(self) -> memoryview:
        """The whole file. Raises as the file does."""
        return self._file.mapped()


_open: OrderedDict[str, Readable] = OrderedDict()
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
        return stamp(path)
    except OSError:
        return None


def remote_of(path: str) -> Remote | None:
    """What the file at `path` stands for; None where it is itself."""
    return path.remote if isinstance(path, SourcePath) else stand_ins.find(path)


def opened(path: str) -> Readable:
    """The file at `path`, or what it stands for, opened now; it closes with its last reference.

    Raises as `SourceFile` does.
    """
    return _opened(path, remote_of(path))


def _opened(path: str, remote: Remote | None) -> Readable:
    if remote is None:
        return SourceFile(path)
    if remote.local:
        return SourceFile(remote.local)
    from wconv.stores.remote import RemoteFile

    return RemoteFile(remote)


def stamp(path: str) -> FileStamp:
    """What tells the file that is at `path` now, or that it stands for, from any other.

    Raises:
        OSError: there is none.
    """
    remote = remote_of(path)
    if remote is None or remote.local:
        return stamp_of(os.stat(remote.local if remote else path))
    return remote.stamp


def size(path: str) -> int:
    """Bytes of the file at `path`, or of that which it stands for. Raises `OSError`."""
    remote = remote_of(path)
    return os.stat(path).st_size if remote is None else remote.size


def identity(path: str) -> bytes:
    """Where the file at `path` is, or that which it stands for: the same in every run."""
    remote = remote_of(path)
    return os.fsencode(os.path.realpath(path)) if remote is None else remote.name.encode()


def stamped(path: str) -> SourcePath:
    """`path`, bound to the file that is there now. Raises as `SourceFile` does."""
    bound = SourcePath(path)
    remote = stand_ins.find(path)
    if remote is not None:
        bound.remote = remote
    bound.stamp = _opened(path, remote).stamp
    return bound


def source(path: str) -> Readable:
    """The open file at `path`, from the cache or opened now.

    Raises:
        FormatError: as `SourceFile` does, or because `path` is stamped and names another file by now.
    """
    with _lock:
        found = _open.get(path)
        wanted = path.stamp if isinstance(path, SourcePath) else None
        remote = remote_of(path)
        if found is None or found.stamp != (wanted or _now(path)):
            _open.pop(path, None)
            found = _open[str(path)] = _opened(path, remote)
            if len(_open) > OPEN_FILES:
                _open.popitem(last=False)
        else:
            _open.move_to_end(path)
    if wanted is not None and found.stamp != wanted:
        raise FormatError(f"{path} changed since it was opened: open it again")
    blocks = shared.current()
    return found if blocks is None else SharedFile(found, str(path), blocks)


def copy_range(path: str, offset: int, count: int, fd: int, at: int, write: Write) -> bool:
    """Whether bytes of `path` were copied to `at` in another file, without a buffer of ours.

    What is there after False is of no meaning. Raises `FormatError` as `source` does.
    """
    file = source(path)
    return isinstance(file, SourceFile) and file.copy_range(offset, count, fd, at, write)


def close(path: str) -> None:
    """Forgets the open file at `path`; who reads from it later opens it again."""
    with _lock:
        _open.pop(path, None)
    remote = remote_of(path)
    if remote is not None:
        from wconv.stores.remote import forget

        forget(remote)


def copy(path: str, target: str) -> None:
    """Copies a file, or that which it stands for, in pieces.

    Raises:
        OSError: it cannot be written.
        FormatError: it cannot be read.
    """
    remote = remote_of(path)
    if remote is None or remote.local:
        import shutil

        shutil.copyfile(remote.local if remote else path, target)
        return
    file = opened(path)
    with open(target, "wb") as out:
        for at in range(0, file.size, COPIED):
            out.write(file.read(at, min(COPIED, file.size - at)))
    close(path)


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
