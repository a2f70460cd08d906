"""Executes a plan: shards are written in parallel, in bounded memory, each complete or not there at all.

Threads take whole shards and help with the others' when none is left;
an executor gets one task per shard.
"""

from __future__ import annotations

import contextlib
import os
import platform
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wconv.errors import OutputError
from wconv.stores import remote, stand_ins, stopping
from wconv.stores.durable import Syncer
from wconv.tensors.borrowed import keeping
from wconv.writing import executors, journal
from wconv.writing import reads as source_reads
from wconv.writing.buffers import Buffers
from wconv.writing.chunks import CHUNK
from wconv.writing.plan import Shard
from wconv.writing.shard_file import (
    LOG,
    PART,
    PATIENCE,
    ShardFile,
    Written,
    cannot_write,
    file_beside,
    finished,
    kept_of,
    wait_for,
)
from wconv.writing.tasks import LOOK, Outcome, ShardTask, carry_out, nothing_to_check

if TYPE_CHECKING:
    from concurrent.futures import Executor

Progress = Callable[[int], None]
"""Called now and then, from the thread that called `write`, with the bytes written so far."""

TICK = 0.1
"""Seconds between two calls of a progress function."""

MOST_THREADS = 64
"""Threads at most, unless there are more cores: each takes some ten megabytes."""


def write(
    shards: Sequence[Shard],
    directory: Path,
    *,
    jobs: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    sync: bool = True,
    check: Callable[[], None] = nothing_to_check,
) -> list[Written]:
    """Writes all shards into `directory/output`; what is written there already is not written again.

    Args:
        directory: the partial directory, with its `output`.
        jobs: threads; as many as there are cores when absent.
        executor: runs one picklable task per shard instead of threads here; `directory` and the sources
            must be reachable under the same paths where it runs them.
        sync: wait until each file is on the disk.
        check: picklable; raises where a task runs in another program than this one.

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
        written = _with_executor(
            todo, directory, executor, lambda count: report(before + count), sync=sync, check=check
        )
    else:
        threads = count_threads(jobs, sum(shard.nbytes for shard in todo))
        written = Threads(todo, directory, sync=sync).run(threads, lambda count: report(before + count))
    done.update({one.filename: one for one in written})
    return [done[shard.filename] for shard in shards]


def count_threads(jobs: int | None, nbytes: int) -> int:
    """How many threads have anything to do."""
    cores = os.cpu_count() or 1
    return max(min(jobs or cores, max(cores, MOST_THREADS), nbytes // CHUNK + 1), 1)


def begun(directory: Path, shards: Sequence[Shard]) -> bool:
    """Whether there is anything in a partial directory that a resumed run would not write again."""
    return any(
        finished(directory, shard) is not None or kept_of(directory, shard) is not journal.NOTHING
        for shard in shards
    )


def missing(directory: Path, shards: Sequence[Shard]) -> int:
    """Bytes that the disk must have for the shards, beside what it gave to them already."""
    left = 0
    for shard in shards:
        if finished(directory, shard) is None:
            given = 0
            with contextlib.suppress(OSError):
                given = file_beside(directory, shard, PART).stat().st_blocks * 512
            left += max(shard.nbytes - given, 0)
    return left


class Threads:
    """Threads over a list of shards; the caller's thread watches, reports and can be interrupted."""

    def __init__(self, shards: Sequence[Shard], directory: Path, *, sync: bool) -> None:
        self._directory = directory
        self._started: list[ShardFile] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._bytes = 0
        self._syncer = Syncer(self._fail) if sync else None
        self._expecting: list[contextlib.AbstractContextManager[None]] = []
        # of what comes from elsewhere, threads write one shard together: so it is fetched in order
        self._together = stand_ins.in_use() and source_reads.are_elsewhere(shards)
        self._waiting = list(reversed(shards))
        if not self._together:
            # the largest first: at the end threads write one file, and wait for its lock at full speed
            self._waiting.sort(key=lambda shard: shard.nbytes)

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
            for expecting in self._expecting:
                expecting.__exit__(None, None, None)
        if self._failure is not None:
            raise self._failure
        return [output.written() for output in self._started]

    def _done(self) -> int:
        # no lock: a progress bar may be a unit behind
        return self._bytes + sum(output.kept_bytes for output in self._started)

    def _work(self) -> None:
        stopping.stops_with(self._stop)
        try:
            buffers = Buffers()
            with keeping():
                while (output := self._next()) is not None:
                    while not self._stop.is_set() and (unit := output.next_unit()) is not None:
                        output.unit_done(unit, output.run(unit, buffers), buffers.checksums)
                        self._bytes += unit.nbytes
        except OSError as error:
            self._fail(cannot_write(self._directory, error))
        except BaseException as error:
            self._fail(error)

    def _next(self) -> ShardFile | None:
        """A shard nobody has begun, else one that still has units to take."""
        with self._lock:
            if self._stop.is_set():
                return None
            begun = next((output for output in self._started if output.has_work), None)
            if self._waiting and not (self._together and begun):
                return self._begin(self._waiting.pop())
            return begun

    def _begin(self, shard: Shard) -> ShardFile:
        if self._together:
            if len(self._expecting) > 1:  # of the last one, units may be under way
                self._expecting.pop(0).__exit__(None, None, None)
            self._expecting.append(remote.expect(source_reads.reads(shard), str(self._directory)))
            self._expecting[-1].__enter__()
        output = ShardFile(shard, self._directory, self._syncer)
        self._started.append(output)
        return output

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self._failure = self._failure or error
        self._stop.set()


def _with_executor(
    shards: Sequence[Shard],
    directory: Path,
    executor: Executor,
    progress: Progress,
    *,
    sync: bool,
    check: Callable[[], None],
) -> list[Written]:
    if not shards:
        return []
    written: dict[str, Written] = {}
    logs = {shard.filename: journal.Follower(file_beside(directory, shard, LOG)) for shard in shards}
    looked = time.monotonic()

    def done(outcome: Outcome) -> None:
        one = outcome.result()
        written[one.filename] = one
        logs.pop(one.filename, None)

    def tick() -> None:
        nonlocal looked
        if time.monotonic() - looked >= LOOK:
            looked = time.monotonic()
            progress(sum(one.nbytes for one in written.values()) + sum(log.nbytes() for log in logs.values()))

    def stop() -> None:
        executors.void(directory)

    def ended() -> None:
        for shard in shards:
            wait_for(file_beside(directory, shard, PART), PATIENCE)

    try:
        word = executors.begin(directory)
    except OSError as error:
        raise cannot_write(directory, error) from None
    tasks = [ShardTask(shard, directory, word, sync, check, platform.node()) for shard in shards]
    executors.run(carry_out, tasks, executor, done, tick, stop, ended)
    executors.void(directory)
    progress(sum(one.nbytes for one in written.values()))
    return [written[shard.filename] for shard in shards]
