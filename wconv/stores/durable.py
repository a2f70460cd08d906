"""Brings what is written to the disk, before it takes its final place: a power loss must not empty it.

Most of a large file is sent while the rest is still being written, by a thread that does nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path

from wconv.errors import OutputError

SHARE = 64 << 20
"""Bytes of a file after whose writing the disk is given them."""

NOT_TAKEN = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EACCES, errno.EPERM)
"""How file systems say that they do not sync a file or a directory: no failure to write."""

Task = Callable[[], None]


def sync(fd: int) -> None:
    """Waits until a file's bytes are on the disk; raises OSError where they cannot be."""
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in NOT_TAKEN:
            raise


def sync_path(path: Path) -> None:
    """The same for a file or a directory by its name.

    Raises:
        OutputError: the disk is full, or failed.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return  # a directory that may be written and not be read
    try:
        sync(fd)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        os.close(fd)


def sync_tree(directory: Path, *, but: frozenset[Path] = frozenset()) -> None:
    """Syncs every file in a directory and its sub-directories, but for those that are already; and these.

    Raises:
        OutputError: the disk is full, or failed.
    """
    for folder, _, names in os.walk(directory, topdown=False):
        for name in names:
            path = Path(folder, name)
            if path not in but:
                sync_path(path)
        sync_path(Path(folder))


class Syncer:
    """A thread beside those that write. It begins with its first task and ends in `finish` or `stop`."""

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        """`failed` is called, in the thread, with what a task raises; the tasks after that are dropped."""
        self._failed = failed
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._ended = threading.Condition()
        self._waiting = 0
        self._dropping = False

    def share(self, fd: int) -> None:
        """Begins to bring what a file holds by now to the disk, unless the thread has other work."""
        if self._waiting:
            return
        with contextlib.suppress(OSError):
            copy = os.dup(fd)  # the file may be closed before its turn

            def task() -> None:
                try:
                    sync(copy)
                finally:
                    os.close(copy)

            self.submit(task, lambda: os.close(copy))

    def submit(self, task: Task, dropped: Task | None = None) -> None:
        """Does `task` when its turn comes; `dropped` instead if an earlier one failed."""

        def turn() -> None:
            if not self._dropping:
                task()
            elif dropped is not None:
                dropped()

        with self._ended:
            self._waiting += 1
            self._tasks.put(turn)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="wconv-sync", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while (turn := self._tasks.get()) is not None:
            try:
                turn()
            except BaseException as error:
                self._dropping = True
                self._failed(error)
            with self._ended:
                self._waiting -= 1
                self._ended.notify_all()

    def alive(self, seconds: float) -> bool:
        """Waits so long at most; whether there are tasks left."""
        with self._ended:
            return not self._ended.wait_for(lambda: not self._waiting, seconds)

    def stop(self) -> None:
        """Drops what has not begun and waits for what has."""
        self._dropping = True
        self.finish()

    def finish(self) -> None:
        """Waits for all tasks."""
        if self._thread is not None:
            self._tasks.put(None)
            self._thread.join()
            self._thread = None
