"""A shard that is being written: its file, its log, and which units are left.

It grows in the partial directory as `X.part`, with a log of what is written of it as `X.log`. When the last
byte is on the disk it moves to the sub-directory `output` as `X`; `X.done` says what was lost in casts, so
that a resumed run can tell it too.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import threading
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wconv.errors import OutputError, WconvError
from wconv.stores import durable
from wconv.stores.durable import Syncer
from wconv.tensors.casts import Overflow
from wconv.writing import crc32, journal, locks
from wconv.writing.buffers import Buffers, add_overflows, put
from wconv.writing.chunks import OutputRange, WorkUnit, work_units
from wconv.writing.page_cache import PageAdvice
from wconv.writing.plan import Shard

PART, LOG, DONE = ".part", ".log", ".done"
OUTPUT = "output"

PATIENCE = 30.0
"""Seconds that the worker of another run has to end, once it is told to."""

POLL = 0.1
"""Seconds between two looks at whether it has."""


@dataclass(frozen=True, slots=True)
class Written:
    """A finished shard: its name, its bytes, and which tensors overflowed."""

    filename: str
    nbytes: int
    overflows: dict[str, Overflow] = field(default_factory=dict)


def finished(directory: Path, shard: Shard) -> Written | None:
    """What an earlier run said of this shard, if it finished it."""
    try:
        if (directory / OUTPUT / shard.filename).stat().st_size != shard.nbytes:
            return None
        lost = json.loads(file_beside(directory, shard, DONE).read_bytes())
        return Written(shard.filename, shard.nbytes, {name: Overflow(*pair) for name, pair in lost.items()})
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def kept_of(directory: Path, shard: Shard) -> journal.Kept:
    """What an earlier run wrote of a shard that it did not finish."""
    try:
        if file_beside(directory, shard, PART).stat().st_size != shard.nbytes:
            return journal.NOTHING
    except OSError:
        return journal.NOTHING
    kept = journal.read(file_beside(directory, shard, LOG))
    return kept if kept.starts else journal.NOTHING


def file_beside(directory: Path, shard: Shard, suffix: str) -> Path:
    """A file of the partial directory that belongs to a shard, in whatever sub-directory that will be."""
    return directory / (shard.filename.replace("%", "%25").replace("/", "%2F") + suffix)


class ShardFile:
    """A shard that is being written: its file, its log, and which units are left. Threads share it."""

    def __init__(
        self,
        shard: Shard,
        directory: Path,
        syncer: Syncer | None,
        attempt: str = "",
        units: Iterator[WorkUnit] | None = None,
    ) -> None:
        """Opens a shard's file, or goes on with that of an earlier run.

        Args:
            syncer: brings it to the disk; None where nobody waits for that.
            attempt: a name that no other has, where there are no locks: the file is its own, and begun anew.

            units: all of the shard's, in another order.

        Raises:
            OutputError: another writes it, or it cannot be written.
        """
        self.shard = shard
        self.directory = directory
        self.part = file_beside(directory, shard, attempt + PART)
        self.kept_bytes = 0
        """Of units that an earlier run wrote, as far as they are reached."""
        self._log = file_beside(directory, shard, attempt + LOG)
        self._syncer = syncer
        self._lock = threading.Lock()
        self._units: Iterator[WorkUnit] = work_units(shard) if units is None else units
        self._under_way = 0
        self._left = True
        self._overflows: dict[str, Overflow] = {}
        self._fresh: list[int] = []
        self._fresh_bytes = 0
        self._fresh_lost: dict[str, Overflow] = {}
        self._unsynced = 0
        self._checksums = array("I", bytes(4 * len(shard.entries) if shard.archive is not None else 0))
        self._pieces: dict[int, list[tuple[int, int, int]]] = {}
        self.fd = _owned(self.part)
        try:
            self._kept = kept_of(directory, shard) if not attempt else journal.NOTHING
            _prepare(self.fd, self._log, shard, self._kept)
        except OSError as error:
            os.close(self.fd)
            raise cannot_write(self.part, error) from None
        self._overflows.update(self._kept.lost)
        self.pages = PageAdvice(self.fd)

    @property
    def has_work(self) -> bool:
        return self._left

    def next_unit(self) -> WorkUnit | None:
        """The next unit of work; None when every one is taken."""
        with self._lock:
            if not self._left:
                return None
            unit = next(self._units, None)
            # a checksum in the file is of all bytes, so those that were kept are read again
            while unit is not None and not unit.has_checksums and unit.number in self._kept:
                self.kept_bytes += unit.nbytes
                unit = next(self._units, None)
            if unit is None:
                self._left = False
                if self._under_way == 0:
                    self._end()
            else:
                self._under_way += 1
            return unit

    def run(self, unit: WorkUnit, buffers: Buffers) -> dict[str, Overflow]:
        """Reads, casts and writes a unit that was taken; what its casts lost."""
        if unit.number in self._kept:
            buffers.check(unit, self.fd)
            return {}
        return buffers.run(unit, self.fd, self.pages)

    def unit_done(self, unit: WorkUnit, overflows: dict[str, Overflow], checksums: Sequence[int]) -> None:
        """Says that a taken unit is written; the last one completes the file."""
        with self._lock:
            if unit.has_checksums:
                for target, checksum in zip(unit.targets, checksums, strict=True):
                    self._note_checksum(target, checksum)
            self._under_way -= 1
            if unit.number not in self._kept:
                add_overflows(self._overflows, overflows)
                add_overflows(self._fresh_lost, overflows)
                self._fresh.append(unit.number)
                self._fresh_bytes += unit.nbytes
                if self._fresh_bytes >= journal.STEP or len(self._fresh) >= journal.UNITS:
                    self._add_to_log()
            if not self._left and self._under_way == 0:
                self._end()

    def _note_checksum(self, target: OutputRange, checksum: int) -> None:
        if target.nbytes == self.shard.entries[target.entry].nbytes:
            self._checksums[target.entry] = checksum
        else:
            self._pieces.setdefault(target.entry, []).append((target.offset, target.nbytes, checksum))

    def _add_to_log(self) -> None:
        """Adds to the log what it lacks."""
        if self._fresh:
            self._unsynced += self._fresh_bytes
            journal.add(self._log, self._fresh, self._fresh_lost, self._fresh_bytes)
            self._fresh, self._fresh_bytes, self._fresh_lost = [], 0, {}
        if self._syncer is not None and self._unsynced >= durable.SHARE:
            self._unsynced = 0
            self._syncer.share(self.fd)

    def _end(self) -> None:
        """The last unit is written."""
        if self._syncer is None:
            self._complete()
            return
        self._add_to_log()
        self._syncer.submit(self._complete)

    def _complete(self) -> None:
        try:
            if self.shard.archive is not None:
                for entry, pieces in self._pieces.items():
                    self._checksums[entry] = crc32.whole(pieces)
                for checksum, places in zip(self._checksums, self.shard.archive.checksums, strict=True):
                    if checksum:
                        for place in places:
                            put(self.fd, checksum.to_bytes(4, "little"), place)
            if self._syncer is not None:
                durable.sync(self.fd)
            self._fresh.clear()
            self._check_ours()
            self.close()
            marks = {name: tuple(lost) for name, lost in self._overflows.items()}
            file_beside(self.directory, self.shard, DONE).write_text(json.dumps(marks))
            finished = self.directory / OUTPUT / self.shard.filename
            finished.parent.mkdir(parents=True, exist_ok=True)
            os.replace(self.part, finished)
            self._log.unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(self.part, error) from None

    def _check_ours(self) -> None:
        """Refuses to finish a file that another run has put in the place of this one. Raises as `os.stat`."""
        if not os.path.samestat(os.fstat(self.fd), os.stat(self.part)):
            raise OutputError(f"{self.part} is another run's by now")

    def close(self) -> None:
        """Closes the file; what is written of it is in its log then."""
        if self.fd >= 0:
            with contextlib.suppress(OSError):
                self._add_to_log()
            with contextlib.suppress(OSError):
                fcntl.flock(self.fd, fcntl.LOCK_UN)  # a process that was forked meanwhile holds it, too
            os.close(self.fd)
            self.fd = -1
            del self.pages

    def written(self) -> Written:
        """What was written: the file's name, its bytes, and the values that overflowed."""
        return Written(self.shard.filename, self.shard.nbytes, self._overflows)


def wait_for(part: Path, seconds: float = math.inf) -> None:
    """Waits until nobody writes the file.

    Raises:
        OutputError: somebody still does after so many seconds.
    """
    with contextlib.suppress(OSError):
        fd = os.open(part, os.O_RDWR | os.O_CLOEXEC)
        try:
            _own(fd, part, seconds)
        finally:
            os.close(fd)


def _owned(path: Path) -> int:
    """The shard's file, opened and locked; its descriptor. Raises `OutputError`."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise cannot_write(path, error) from None
    try:
        _own(fd, path, PATIENCE)
    except OSError as error:
        os.close(fd)
        raise cannot_write(path, error) from None
    except BaseException:
        os.close(fd)
        raise
    return fd


def _prepare(fd: int, log: Path, shard: Shard, kept: journal.Kept) -> None:
    """Allocates the file's space and writes all but the tensors; raises OSError.

    A file that is kept stays as it is, but for what may have been cut short.
    """
    journal.cut(log, kept.end)
    if kept is journal.NOTHING:
        os.ftruncate(fd, 0)
        _allocate(fd, shard.nbytes)
    for offset, data in shard.pieces:
        put(fd, data, offset)


def _own(fd: int, path: Path, seconds: float) -> None:
    """Locks a file against the worker of another run, which may still write it; it is given time to end."""
    end = time.monotonic() + seconds
    while locks.take_flock(fd) is False:
        if time.monotonic() >= end:
            raise OutputError(f"{path} is still being written by a worker of an earlier run: wait for it")
        time.sleep(POLL)


def _allocate(fd: int, nbytes: int) -> None:
    """Reserves the file's space: allocating pages one by one is the largest cost of writing (Linux)."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(fd, 0, nbytes)
            return
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
    os.ftruncate(fd, nbytes)


def cannot_write(path: Path, error: OSError) -> WconvError:
    """The error for a file that the system does not let be written, with its reason."""
    return OutputError(f"{path} cannot be written: {error.strerror or error}")
