"""One shard as a task of another process: small when it is sent, and it can be run again anywhere.

A task has its own shard of the plan and nothing of the others, compressed: about 17 bytes for each tensor.
What goes wrong with the data comes back as its result, so that no engine wraps or logs it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import platform
import secrets
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wconv.errors import OutputError, WconvError
from wconv.stores.durable import Syncer
from wconv.tensors.borrowed import keeping
from wconv.writing import executors, locks
from wconv.writing.buffers import Buffers
from wconv.writing.plan import Shard
from wconv.writing.shard_file import ShardFile, Written, cannot_write, file_beside, finished

CLAIM = ".claim"
"""Suffix of the file beside a shard that names the attempt which writes it: the last one that began."""

LOOK = 1.0
"""Seconds between two looks at whether the task is still wanted."""


def nothing_to_check() -> None:
    """Of a program that is the same everywhere."""


@dataclass(frozen=True, slots=True)
class ShardTask:
    """A shard that is to be written.

    Attributes:
        directory: the partial directory; under the same path on every host.
        run: the word of the run that wants it.
        check: raises `OutputError` where the program is another one than the caller's.
        host: the caller's.
    """

    shard: Shard
    directory: Path
    run: str
    sync: bool = True
    check: Callable[[], None] = nothing_to_check
    host: str = ""

    @property
    def filename(self) -> str:
        return self.shard.filename

    def __reduce__(self) -> tuple[Any, ...]:
        return PackedTask, (
            self.filename,
            _packed(self.shard),
            os.path.abspath(self.directory),
            self.run,
            self.sync,
            self.check,
            self.host,
        )


@dataclass(frozen=True, slots=True)
class PackedTask:
    """A task as it arrives elsewhere: a scheduler that it passes through keeps it as small as it was sent.

    Attributes:
        packed: the shard, compressed; or itself, where only the engine knows how to send it.
        directory, run, sync, check, host: as in `ShardTask`.
    """

    filename: str
    packed: bytes | Shard
    directory: str
    run: str
    sync: bool
    check: Callable[[], None]
    host: str

    def unpacked(self) -> ShardTask:
        """The task as it was made."""
        shard = self.packed
        if isinstance(shard, bytes):
            shard = pickle.loads(zlib.decompress(shard))
        return ShardTask(shard, Path(self.directory), self.run, self.sync, self.check, self.host)


def _packed(shard: Shard) -> bytes | Shard:
    with contextlib.suppress(pickle.PicklingError, AttributeError, TypeError):
        data = pickle.dumps(shard, pickle.HIGHEST_PROTOCOL)
        # what a pickle would only name, such as a class of the caller's script, is left to the engine
        if b"__main__" not in data:
            return zlib.compress(data, 1)
    return shard


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a task.

    Attributes:
        error: why nothing did.
        by_system: a disk or a network failed, which may work again; the source is not damaged.
    """

    written: Written | None
    error: WconvError | None = None
    by_system: bool = False

    def result(self) -> Written:
        """What was written. Raises what went wrong, as it would have been raised here."""
        if self.written is not None:
            return self.written
        error = self.error or OutputError("a task ended without a result")
        if self.by_system:
            try:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            except OSError:
                raise error  # noqa: B904 - the system's error is its context, as it was there
        raise error


def carry_out(task: ShardTask | PackedTask) -> Outcome:
    """Writes the shard of a task, unless that is done: what an executor is given."""
    try:
        task.check()
        return Outcome(write_shard(task if isinstance(task, ShardTask) else task.unpacked()))
    except WconvError as error:
        by_system = isinstance(error.__context__, OSError)
        host = platform.node()
        if host != task.host and error.args and isinstance(error.args[0], str):
            error.args = (f"{error.args[0]} (on {host})",)
        return Outcome(None, error.with_traceback(None), by_system)


def write_shard(task: ShardTask) -> Written:
    """Writes one shard with one thread.

    An earlier attempt that is still under way, on a worker that was given up, ends when it sees this one's
    claim; what it has written is gone on with where the file system has locks, and else begun anew.

    Raises:
        OutputError: it cannot be written, or is not wanted any more.
        FormatError: a source ends early.
    """
    shard, directory = task.shard, task.directory
    done = finished(directory, shard)
    if done is not None:
        return done
    word = secrets.token_hex(8)
    claim = file_beside(directory, shard, CLAIM)

    def check_wanted() -> None:
        if not executors.says(directory / executors.RUN, task.run):
            raise OutputError(f"{shard.filename} is not wanted any more")
        if not executors.says(claim, word):
            raise OutputError(f"{shard.filename} is written by another worker")

    failures: list[BaseException] = []
    syncer = Syncer(failures.append) if task.sync else None
    try:
        if not directory.is_dir():
            raise OutputError(f"{directory} is not there: workers need the same paths")
        executors.say(claim, word)
        check_wanted()
        output = ShardFile(shard, directory, syncer, attempt_of(claim, word))
    except OSError as error:
        raise cannot_write(directory, error) from None
    try:
        _write(output, check_wanted)
        if syncer is not None:
            syncer.finish()
    except OSError as error:
        raise cannot_write(output.part, error) from None
    finally:
        if syncer is not None:
            syncer.stop()
        output.close()
    if failures:
        raise failures[0]
    return output.written()


def attempt_of(claim: Path, word: str) -> str:
    """What the attempt's file has in its name: nothing, where locks keep a file from two writers."""
    probe = os.open(claim, os.O_RDWR | os.O_CLOEXEC)
    try:
        has_locks = locks.take_flock(probe) is not None
    finally:
        os.close(probe)
    return "" if has_locks and locks.reaches_all(claim) else f".{word}"


def _write(output: ShardFile, check_wanted: Callable[[], None]) -> None:
    buffers, looked = Buffers(), time.monotonic()
    with keeping():
        while (unit := output.next_unit()) is not None:
            output.unit_done(unit, output.run(unit, buffers), buffers.checksums)
            if time.monotonic() - looked >= LOOK:
                check_wanted()
                looked = time.monotonic()
