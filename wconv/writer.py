"""Executes a plan: shards are written in parallel, in bounded memory, each complete or not there at all.

A shard grows in the partial directory as `X.part` and moves to its sub-directory `output` as `X` when the
last byte is written; `X.done` says what was lost in casts, so that a resumed run can tell it too. Threads
take whole shards and help with the others' when none is left; an executor gets one task per shard.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from wconv import checksums
from wconv.behind import Pages
from wconv.casts import Overflow
from wconv.errors import OutputError, WconvError
from wconv.plan import Shard
from wconv.units import Buffers, Unit, add_overflows, put, units

if TYPE_CHECKING:
    from concurrent.futures import Executor

Progress = Callable[[int], None]
"""Called now and then, from the thread that called `write`, with the bytes written so far."""

PART, DONE = ".part", ".done"
OUTPUT = "output"
TICK = 0.1
"""Seconds between two calls of a progress function."""


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
) -> list[Written]:
    """Writes all shards into `directory/output`; those that are finished there already are not written again.

    Args:
        directory: the partial directory, with its `output`.
        jobs: threads; as many as there are cores when absent.
        executor: runs one picklable task per shard instead of threads here; `directory` and the sources
            must be reachable under the same paths where it runs them.

    Raises:
        OutputError: the disk is full or cannot be written.
        FormatError: a source ends early.
        KeyboardInterrupt: once the threads have stopped.
    """
    done = {shard.filename: found for shard in shards if (found := finished(directory, shard))}
    todo = [shard for shard in shards if shard.filename not in done]
    report = progress or (lambda count: None)
    before = sum(written.nbytes for written in done.values())
    if executor is not None:
        written = _with_executor(todo, directory, executor, lambda count: report(before + count))
    else:
        threads = max(jobs or os.cpu_count() or 1, 1)
        written = _Threads(todo, directory).run(threads, lambda count: report(before + count))
    done.update({one.filename: one for one in written})
    return [done[shard.filename] for shard in shards]


def write_shard(shard: Shard, directory: Path) -> Written:
    """Writes one shard with one thread: the task that an executor is given. Raises as `write` does."""
    output = _Output(shard, directory)
    buffers = Buffers()
    try:
        while (unit := output.take()) is not None:
            output.give(unit, buffers.run(unit, output.fd, output.pages), buffers.checksum)
    except OSError as error:
        raise _cannot_write(output.part, error) from None
    finally:
        output.close()
    return output.written()


def finished(directory: Path, shard: Shard) -> Written | None:
    """What an earlier run said of this shard, if it finished it."""
    try:
        if (directory / OUTPUT / shard.filename).stat().st_size != shard.nbytes:
            return None
        lost = json.loads(_beside(directory, shard, DONE).read_bytes())
        return Written(shard.filename, shard.nbytes, {name: Overflow(*pair) for name, pair in lost.items()})
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def _beside(directory: Path, shard: Shard, suffix: str) -> Path:
    """A file of the partial directory that belongs to a shard, in whatever sub-directory that will be."""
    return directory / (shard.filename.replace("%", "%25").replace("/", "%2F") + suffix)


class _Output:
    """A shard that is being written: its file, and which units are left. Threads share it."""

    def __init__(self, shard: Shard, directory: Path) -> None:
        self.shard = shard
        self.directory = directory
        self.part = _beside(directory, shard, PART)
        self._lock = threading.Lock()
        self._units: Iterator[Unit] = units(shard)
        self._under_way = 0
        self._left = True
        self._overflows: dict[str, Overflow] = {}
        self._checksums: dict[str, list[tuple[int, int, int]]] = {}
        self.fd = _create(self.part, shard)
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
            if unit is None:
                self._left = False
                if self._under_way == 0:
                    self._complete()
            else:
                self._under_way += 1
            return unit

    def give(self, unit: Unit, overflows: dict[str, Overflow], checksum: int) -> None:
        """Says that a taken unit is written; the last one completes the file."""
        with self._lock:
            if unit.summed:
                piece = (unit.offset, unit.count * unit.target.itemsize, checksum)
                self._checksums.setdefault(unit.spans[0][0], []).append(piece)
            self._under_way -= 1
            add_overflows(self._overflows, overflows)
            if not self._left and self._under_way == 0:
                self._complete()

    def _complete(self) -> None:
        if self.shard.archive is not None:
            for entry, places in zip(self.shard.entries, self.shard.archive.checksums, strict=True):
                checksum = checksums.whole(self._checksums.get(entry.name, ()))
                for place in places:
                    put(self.fd, checksum.to_bytes(4, "little"), place)
        self.close()
        marks = {name: tuple(lost) for name, lost in self._overflows.items()}
        _beside(self.directory, self.shard, DONE).write_text(json.dumps(marks))
        finished = self.directory / OUTPUT / self.shard.filename
        finished.parent.mkdir(parents=True, exist_ok=True)
        os.replace(self.part, finished)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            del self.pages

    def written(self) -> Written:
        return Written(self.shard.filename, self.shard.nbytes, self._overflows)


class _Threads:
    """Threads over a list of shards; the caller's thread watches, reports and can be interrupted."""

    def __init__(self, shards: Sequence[Shard], directory: Path) -> None:
        self._waiting = list(reversed(shards))
        self._directory = directory
        self._started: list[_Output] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._bytes = 0

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
                    progress(self._bytes)
        finally:
            self._stop.set()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
            for output in self._started:
                output.close()
        if self._failure is not None:
            raise self._failure
        return [output.written() for output in self._started]

    def _work(self) -> None:
        try:
            buffers = Buffers()
            while (output := self._next()) is not None:
                while not self._stop.is_set() and (unit := output.take()) is not None:
                    lost = buffers.run(unit, output.fd, output.pages)
                    output.give(unit, lost, buffers.checksum)
                    # no lock: a progress bar may be a unit behind
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
                output = _Output(self._waiting.pop(), self._directory)
                self._started.append(output)
                return output
            return next((output for output in self._started if output.has_work), None)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self._failure = self._failure or error
        self._stop.set()


def _with_executor(
    shards: Sequence[Shard], directory: Path, executor: Executor, progress: Progress
) -> list[Written]:
    from concurrent.futures import as_completed

    futures = [executor.submit(write_shard, shard, directory) for shard in shards]
    written: list[Written] = []
    count = 0
    try:
        for future in as_completed(futures):
            written.append(future.result())
            count += written[-1].nbytes
            progress(count)
    finally:
        for future in futures:
            future.cancel()
    return written


def _create(path: Path, shard: Shard) -> int:
    """A new file with its space allocated and all written but the tensors; its descriptor."""
    fd = -1
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        _allocate(fd, shard.nbytes)
        for offset, data in shard.pieces:
            put(fd, data, offset)
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        raise _cannot_write(path, error) from None
    return fd


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
