"""Executes a plan: shards are written in parallel, in bounded memory, each complete or not there at all.

A shard grows in the partial directory as `X.part`, with a log of what is written of it as `X.log`. When the
last byte is on the disk it moves to the sub-directory `output` as `X`; `X.done` says what was lost in casts,
so that a resumed run can tell it too. Threads take whole shards and help with the others' when none is left;
an executor gets one task per shard.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import json
import os
import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from wconv.errors import OutputError, WconvError
from wconv.stores import durable
from wconv.stores.durable import Syncer
from wconv.tensors.casts import Overflow
from wconv.writing import crc32, executors, journal
from wconv.writing.chunks import CHUNK, Buffers, Unit, add_overflows, put, units
from wconv.writing.page_cache import Pages
from wconv.writing.plan import Shard

if TYPE_CHECKING:
    from concurrent.futures import Executor

Progress = Callable[[int], None]
"""Called now and then, from the thread that called `write`, with the bytes written so far."""

PART, LOG, DONE = ".part", ".log", ".done"
OUTPUT = "output"
TICK = 0.1
"""Seconds between two calls of a progress function."""

MOST_THREADS = 64
"""Threads at most, unless there are more cores: each takes some ten megabytes."""


@dataclass(frozen=True, slots=True)
class Written:
    """A finished shard: its name, its bytes, and which tensors overflowed."""

    filename: str
    nbytes: int
    overflows: dict[str, Overflow] = field(default_factory=dict)


def write(
    shards: Sequence[Shard],
    directory: Path,
    *,
    jobs: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    sync: bool = True,
) -> list[Written]:
    """Writes all shards into `directory/output`; what is written there already is not written again.

    Args:
        directory: the partial directory, with its `output`.
        jobs: threads; as many as there are cores when absent.
        executor: runs one picklable task per shard instead of threads here; `directory` and the sources
            must be reachable under the same paths where it runs them.
        sync: wait until each file is on the disk.

    Raises:
        OutputError: the disk is full or cannot be written; the executor failed.
        FormatError: a source ends early.
        KeyboardInterrupt: once the threads have stopped.
    """
    done = {shard.filename: found for shard in shards if (found := finished(directory, shard))}
    todo = [shard for shard in shards if shard.filename not in done]
    report = progress or (lambda count: None)
    before = sum(written.nbytes for written in done.values())
    if executor is not None:
        written = _with_executor(todo, directory, executor, lambda count: report(before + count), sync=sync)
    else:
        threads = _threads(jobs, sum(shard.nbytes for shard in todo))
        written = _Threads(todo, directory, sync=sync).run(threads, lambda count: report(before + count))
    done.update({one.filename: one for one in written})
    return [done[shard.filename] for shard in shards]


def _threads(jobs: int | None, nbytes: int) -> int:
    """How many threads have anything to do."""
    cores = os.cpu_count() or 1
    return max(min(jobs or cores, max(cores, MOST_THREADS), nbytes // CHUNK + 1), 1)


def write_shard(shard: Shard, directory: Path, sync: bool = True) -> Written:
    """Writes one shard with one thread: the task that an executor is given. Raises as `write` does."""
    failures: list[BaseException] = []
    syncer = Syncer(failures.append) if sync else None
    buffers, since = Buffers(), 0
    output = _Output(shard, directory, syncer)
    try:
        while (unit := output.take()) is not None:
            output.give(unit, output.run(unit, buffers), buffers.checksum)
            since += unit.count * unit.target.itemsize
            if since >= journal.STEP:
                since = 0
                if (directory / executors.STOP).exists():
                    raise OutputError(f"{shard.filename} is not wanted any more")
        if syncer is not None:
            syncer.finish()
    except OSError as error:
        raise _cannot_write(output.part, error) from None
    finally:
        if syncer is not None:
            syncer.stop()
        output.close()
    if failures:
        raise failures[0]
    return output.written()


def begun(directory: Path, shards: Sequence[Shard]) -> bool:
    """Whether there is anything in a partial directory that a resumed run would not write again."""
    return any(
        finished(directory, shard) is not None or _kept(directory, shard) is not journal.NOTHING
        for shard in shards
    )


def missing(directory: Path, shards: Sequence[Shard]) -> int:
    """Bytes that the disk must have for the shards, beside what it gave to them already."""
    left = 0
    for shard in shards:
        if finished(directory, shard) is None:
            given = 0
            with contextlib.suppress(OSError):
                given = _beside(directory, shard, PART).stat().st_blocks * 512
            left += max(shard.nbytes - given, 0)
    return left


def finished(directory: Path, shard: Shard) -> Written | None:
    """What an earlier run said of this shard, if it finished it."""
    try:
        if (directory / OUTPUT / shard.filename).stat().st_size != shard.nbytes:
            return None
        lost = json.loads(_beside(directory, shard, DONE).read_bytes())
        return Written(shard.filename, shard.nbytes, {name: Overflow(*pair) for name, pair in lost.items()})
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def _kept(directory: Path, shard: Shard) -> journal.Kept:
    """What an earlier run wrote of a shard that it did not finish."""
    try:
        if _beside(directory, shard, PART).stat().st_size != shard.nbytes:
            return journal.NOTHING
    except OSError:
        return journal.NOTHING
    kept = journal.read(_beside(directory, shard, LOG))
    return kept if kept.starts else journal.NOTHING


def _beside(directory: Path, shard: Shard, suffix: str) -> Path:
    """A file of the partial directory that belongs to a shard, in whatever sub-directory that will be."""
    return directory / (shard.filename.replace("%", "%25").replace("/", "%2F") + suffix)


class _Output:
    """A shard that is being written: its file, its log, and which units are left. Threads share it."""

    def __init__(self, shard: Shard, directory: Path, syncer: Syncer | None) -> None:
        self.shard = shard
        self.directory = directory
        self.part = _beside(directory, shard, PART)
        self.kept_bytes = 0
        """Of units that an earlier run wrote, as far as they are reached."""
        self._log = _beside(directory, shard, LOG)
        self._syncer = syncer
        self._lock = threading.Lock()
        self._units: Iterator[Unit] = units(shard)
        self._under_way = 0
        self._left = True
        self._overflows: dict[str, Overflow] = {}
        self._fresh: list[int] = []
        self._fresh_bytes = 0
        self._fresh_lost: dict[str, Overflow] = {}
        self._unsynced = 0
        self._checksums = array("I", bytes(4 * len(shard.entries) if shard.archive is not None else 0))
        self._pieces: dict[int, list[tuple[int, int, int]]] = {}
        self._kept = _kept(directory, shard)
        self._overflows.update(self._kept.lost)
        self.fd = _create(self.part, self._log, shard, self._kept)
        self.pages = Pages(self.fd)

    @property
    def has_work(self) -> bool:
        return self._left

    def take(self) -> Unit | None:
        """The next unit of work; None when every one is taken."""
        with self._lock:
            if not self._left:
                return None
            unit = next(self._units, None)
            # a checksum in the file is of all bytes, so those that were kept are read again
            while unit is not None and unit.entry < 0 and unit.number in self._kept:
                self.kept_bytes += unit.count * unit.target.itemsize
                unit = next(self._units, None)
            if unit is None:
                self._left = False
                if self._under_way == 0:
                    self._end()
            else:
                self._under_way += 1
            return unit

    def run(self, unit: Unit, buffers: Buffers) -> dict[str, Overflow]:
        """Reads, casts and writes a unit that was taken; what its casts lost."""
        if unit.number in self._kept:
            buffers.check(unit, self.fd)
            return {}
        return buffers.run(unit, self.fd, self.pages)

    def give(self, unit: Unit, overflows: dict[str, Overflow], checksum: int) -> None:
        """Says that a taken unit is written; the last one completes the file."""
        nbytes = unit.count * unit.target.itemsize
        with self._lock:
            if unit.entry >= 0:
                self._summed(unit, nbytes, checksum)
            self._under_way -= 1
            if unit.number not in self._kept:
                add_overflows(self._overflows, overflows)
                add_overflows(self._fresh_lost, overflows)
                self._fresh.append(unit.number)
                self._fresh_bytes += nbytes
                if self._fresh_bytes >= journal.STEP or len(self._fresh) >= journal.UNITS:
                    self._note()
            if not self._left and self._under_way == 0:
                self._end()

    def _summed(self, unit: Unit, nbytes: int, checksum: int) -> None:
        if nbytes == self.shard.entries[unit.entry].nbytes:
            self._checksums[unit.entry] = checksum
        else:
            self._pieces.setdefault(unit.entry, []).append((unit.offset, nbytes, checksum))

    def _note(self) -> None:
        """Adds to the log what it lacks."""
        if self._fresh:
            self._unsynced += self._fresh_bytes
            journal.add(self._log, self._fresh, self._fresh_lost)
            self._fresh, self._fresh_bytes, self._fresh_lost = [], 0, {}
        if self._syncer is not None and self._unsynced >= durable.SHARE:
            self._unsynced = 0
            self._syncer.share(self.fd)

    def _end(self) -> None:
        """The last unit is written."""
        if self._syncer is None:
            self._complete()
            return
        self._note()
        self._syncer.give(self._complete)

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
            self.close()
            marks = {name: tuple(lost) for name, lost in self._overflows.items()}
            _beside(self.directory, self.shard, DONE).write_text(json.dumps(marks))
            finished = self.directory / OUTPUT / self.shard.filename
            finished.parent.mkdir(parents=True, exist_ok=True)
            os.replace(self.part, finished)
            self._log.unlink(missing_ok=True)
        except OSError as error:
            raise _cannot_write(self.part, error) from None

    def close(self) -> None:
        """Closes the file; what is written of it is in its log then."""
        if self.fd >= 0:
            with contextlib.suppress(OSError):
                self._note()
            with contextlib.suppress(OSError):
                fcntl.flock(self.fd, fcntl.LOCK_UN)  # a process that was forked meanwhile holds it, too
            os.close(self.fd)
            self.fd = -1
            del self.pages

    def written(self) -> Written:
        return Written(self.shard.filename, self.shard.nbytes, self._overflows)


class _Threads:
    """Threads over a list of shards; the caller's thread watches, reports and can be interrupted."""

    def __init__(self, shards: Sequence[Shard], directory: Path, *, sync: bool) -> None:
        self._waiting = list(reversed(shards))
        self._directory = directory
        self._started: list[_Output] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._bytes = 0
        self._syncer = Syncer(self._fail) if sync else None

    def run(self, jobs: int, progress: Progress) -> list[Written]:
        if not self._waiting:
            return []
        threads = [threading.Thread(target=self._work, name=f"wconv-{n}", daemon=True) for n in range(jobs)]
        try:
            for thread in threads:
                try:
                    thread.start()
                except RuntimeError:
                    # a limit on threads or memory: those that run do all the work
                    if thread is threads[0]:
                        raise OutputError("no thread can be started: allow more memory or threads") from None
                    break
            for thread in threads:
                while thread.is_alive():
                    thread.join(TICK)
                    progress(self._done())
            while self._syncer is not None and self._failure is None and self._syncer.alive(TICK):
                progress(self._done())
        except BaseException as error:
            self._failure = self._failure or error
            raise
        finally:
            self._stop.set()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
            if self._syncer is not None:
                if self._failure is None:
                    self._syncer.finish()
                else:
                    self._syncer.stop()
            for output in self._started:
                output.close()
        if self._failure is not None:
            raise self._failure
        return [output.written() for output in self._started]

    def _done(self) -> int:
        # no lock: a progress bar may be a unit behind
        return self._bytes + sum(output.kept_bytes for output in self._started)

    def _work(self) -> None:
        try:
            buffers = Buffers()
            while (output := self._next()) is not None:
                while not self._stop.is_set() and (unit := output.take()) is not None:
                    output.give(unit, output.run(unit, buffers), buffers.checksum)
                    self._bytes += unit.count * unit.target.itemsize
        except OSError as error:
            self._fail(_cannot_write(self._directory, error))
        except BaseException as error:
            self._fail(error)

    def _next(self) -> _Output | None:
        """A shard nobody has begun, else one that still has units to take."""
        with self._lock:
            if self._stop.is_set():
                return None
            if self._waiting:
                output = _Output(self._waiting.pop(), self._directory, self._syncer)
                self._started.append(output)
                return output
            return next((output for output in self._started if output.has_work), None)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self._failure = self._failure or error
        self._stop.set()


def _with_executor(
    shards: Sequence[Shard], directory: Path, executor: Executor, progress: Progress, *, sync: bool
) -> list[Written]:
    count = 0

    def done(written: Written) -> None:
        nonlocal count
        count += written.nbytes
        progress(count)

    def ended() -> None:
        for shard in shards:
            _wait_for(_beside(directory, shard, PART))

    return executors.run(functools.partial(write_shard, sync=sync), shards, directory, executor, done, ended)


def _wait_for(part: Path) -> None:
    """Waits until nobody writes the file."""
    with contextlib.suppress(OSError):
        fd = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
        finally:
            os.close(fd)


def _create(path: Path, log: Path, shard: Shard, kept: journal.Kept) -> int:
    """The shard's file with its space allocated and all written but the tensors; its descriptor.

    A file that is kept stays as it is, but for what may have been cut short.
    """
    fd = -1
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        _own(fd, path)
        journal.cut(log, kept.end)
        if kept is journal.NOTHING:
            os.ftruncate(fd, 0)
            _allocate(fd, shard.nbytes)
        for offset, data in shard.pieces:
            put(fd, data, offset)
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        raise _cannot_write(path, error) from None
    except WconvError:
        os.close(fd)
        raise
    return fd


def _own(fd: int, path: Path) -> None:
    """Locks a file against the worker of a run that was killed, which may still write it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OutputError(
            f"{path} is still being written by a worker of an earlier run: wait for it"
        ) from None
    except OSError:
        return  # a file system without locks


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


def _cannot_write(path: Path, error: OSError) -> WconvError:
    return OutputError(f"{path} cannot be written: {error.strerror or error}")
