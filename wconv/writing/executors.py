"""Shards as tasks of an executor: what fails there is told in one line, and none runs on after that."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from wconv.errors import OutputError, WconvError

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from wconv.writing.plan import Shard

STOP = "stop"
"""A file of the partial directory that tells the tasks, wherever they run, that their work is not wanted."""

Result = TypeVar("Result")


def run(
    task: Callable[[Shard, Path], Result],
    shards: Sequence[Shard],
    directory: Path,
    executor: Executor,
    done: Callable[[Result], None],
    ended: Callable[[], None],
) -> list[Result]:
    """One task per shard; returns, or raises, when none of them runs any more.

    Args:
        task: may look for the file `STOP` in the directory now and then, to end early.
        done: called with each result as it comes.
        ended: waits, after a failure, for tasks whose end the executor does not tell: of a pool that broke.

    Raises:
        OutputError: the executor was shut down, a worker of it died, or it cannot send a task.
        WconvError: as the task does.
    """
    from concurrent.futures import Future, as_completed, wait

    results: list[Result] = []
    futures: list[Future[Result]] = []
    try:
        for shard in shards:
            futures.append(executor.submit(task, shard, directory))
        for future in as_completed(futures):
            results.append(future.result())
            done(results[-1])
    except WconvError:
        raise
    except Exception as error:
        reason = str(error).split("\n")[0][:200].rstrip(".")
        raise OutputError(f"the executor failed: {type(error).__name__}: {reason}") from error
    finally:
        if len(results) < len(shards):
            with contextlib.suppress(OSError):
                (directory / STOP).touch()
            for future in futures:
                future.cancel()
            wait(futures)
            ended()
            with contextlib.suppress(OSError):
                (directory / STOP).unlink()
    return results
