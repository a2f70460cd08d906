"""Shards as tasks of an executor: what fails there is told in one line, and none runs on after that.

A task is wanted as long as a file of the partial directory says so, by a word that each run makes anew: so
the tasks of a run that was killed end, wherever they run, when the next run begins.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from wconv.errors import OutputError, WconvError

if TYPE_CHECKING:
    from concurrent.futures import Executor

RUN = "run"
"""The file of the partial directory that holds the word of the run whose tasks are wanted."""

TICK = 0.2
"""Seconds between two looks at the progress."""

Task = TypeVar("Task")
Result = TypeVar("Result")


def begin(directory: Path) -> str:
    """Makes the tasks of a new run the only ones that are wanted; their word. Raises OSError."""
    word = secrets.token_hex(8)
    say(directory / RUN, word)
    return word


def void(directory: Path) -> bool:
    """Makes no task wanted; whether one may have been."""
    try:
        os.unlink(directory / RUN)
    except OSError:
        return False
    return True


def say(path: Path, word: str) -> None:
    """Puts a word into a small file, at once for whoever reads it; raises OSError."""
    new = path.with_name(f"{path.name}.{word}")
    new.write_text(word)
    os.replace(new, path)


def says(path: Path, word: str) -> bool:
    """Whether a file holds this word; yes, where it cannot be read for now."""
    try:
        return path.read_text() == word
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        return True


def run(
    call: Callable[[Task], Result],
    tasks: Sequence[Task],
    executor: Executor,
    done: Callable[[Result], None],
    tick: Callable[[], None],
    stop: Callable[[], None],
    ended: Callable[[], None],
) -> None:
    """Carries out all tasks; returns, or raises, when none of them runs any more.

    Args:
        call: carries out one; what it finds wrong is in its result, and `done` raises it.
        done: called with each result as it comes.
        tick: called now and then.
        stop: called after a failure: tells the tasks that run to end.
        ended: called then: waits for those whose end the executor does not tell.

    Raises:
        OutputError: the executor was shut down, a worker of it died, or it cannot send a task.
        WconvError: as `done` does.
    """
    from concurrent.futures import FIRST_COMPLETED, Future, wait

    futures: list[Future[Result]] = []
    complete = False
    try:
        for task in tasks:
            futures.append(executor.submit(call, task))
        left = set(futures)
        while left:
            finished, left = wait(left, TICK, FIRST_COMPLETED)
            for future in finished:
                done(future.result())
            tick()
        complete = True
    except WconvError:
        raise
    except Exception as error:
        raise OutputError(failure(error)) from error
    finally:
        if not complete:
            stop()
            for future in futures:
                future.cancel()
            wait(futures)
            with contextlib.suppress(OSError, OutputError):
                ended()


def failure(error: BaseException) -> str:
    """What to say of an executor that failed."""
    reason = str(error).strip().split("\n")[0][:200].rstrip(".")
    name = getattr(error, "name", None)
    missing = isinstance(error, ImportError) and isinstance(name, str) and name.partition(".")[0] == "wconv"
    if missing or "during deserialization" in reason:
        return (
            "the executor cannot read a task: install this wconv, with the same numpy, on every worker and"
            f" on the scheduler ({type(error).__name__}: {reason:.80})"
        )
    return f"the executor failed: {type(error).__name__}: {reason}".rstrip(": ")
