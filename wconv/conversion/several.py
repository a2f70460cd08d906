"""Several outputs of one source, which is opened once and read once."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from wconv.checkpoints.locate import locate
from wconv.conversion.opened_once import opening_once
from wconv.conversion.options import ConvertOptions
from wconv.conversion.planned import Conversion
from wconv.conversion.prepare import plan
from wconv.conversion.report import Report
from wconv.conversion.run import carry_out
from wconv.errors import FormatError, Interrupted, OutputError, WconvError, os_errors_as
from wconv.wording import plural
from wconv.writing import file_formats
from wconv.writing.in_step import StepOutput, write_in_step
from wconv.writing.plan import Shard
from wconv.writing.shard_file import Written
from wconv.writing.writer import Progress

Place = str | os.PathLike[str] | Callable[[Path], Path] | None
"""Where an output goes; None for beside the source."""

NOT_BEGUN = "another output cannot be begun"


def convert_several(
    src: str | os.PathLike[str],
    outputs: Mapping[str | os.PathLike[str], ConvertOptions],
    *,
    overwrite: bool = False,
    resume: bool = False,
    strict: bool = False,
    jobs: int | None = None,
    progress: Progress | None = None,
    sync: bool = True,
) -> dict[str, Report]:
    """Converts a checkpoint into several outputs, each as `convert` would, and reads its weights once.

    Args:
        src: a model directory, a weights file, an address or a model of the hub.
        outputs: for each destination what it is to be.
        overwrite, resume, strict, jobs, progress, sync: as `run` describes them; they hold for all.

    Returns:
        What was done, by destination.

    Raises:
        WconvError: one cannot be planned, which begins none; or one could not be written, after the others
            were.

    Example:
        >>> half = wconv.ConvertOptions(dtype="float16")
        >>> reports = wconv.convert_several("Logics-Parsing", {"whole": wconv.ConvertOptions(), "half": half})
        >>> reports["half"].dtypes
        {'bfloat16 → float16': 1}
    """
    planned = plan_several(src, list(outputs.items()))
    reports, errors = run_several(
        planned,
        overwrite=overwrite,
        resume=resume,
        strict=strict,
        jobs=jobs,
        progress=progress,
        sync=sync,
    )
    raise_first(planned, errors)
    return {os.fspath(name): report for name, report in zip(outputs, reports, strict=True) if report}


def place_beside(main: Path, name: str) -> Path:
    """Where an output called `name` goes, beside another one.

    >>> place_beside(Path("out/model.safetensors"), "q4")
    PosixPath('out/model-q4.safetensors')
    """
    suffix = next((one for one in file_formats.suffixes() if main.name.endswith(one)), "")
    return main.with_name(f"{main.name.removesuffix(suffix)}-{name}{suffix}")


def raise_first(planned: Sequence[Conversion], errors: Sequence[BaseException | None]) -> None:
    """Raises what went wrong with the first output that failed, and says what became of the others."""
    failed = [(one.report.output, error) for one, error in zip(planned, errors, strict=True) if error]
    if not failed:
        return
    error = next((error for _, error in failed if str(error) != NOT_BEGUN), failed[0][1])
    if not isinstance(error, WconvError):
        raise error
    there = len(planned) - len(failed)
    if there:
        names = ", ".join(str(name) for name, _ in failed)
        error.args = (f"{error.args[0]} ({plural(there, 'other output')} written; not {names:.120})",)
    raise error


@os_errors_as(FormatError, "read")
def plan_several(
    src: str | os.PathLike[str], outputs: Sequence[tuple[Place, ConvertOptions]]
) -> list[Conversion]:
    """Plans several conversions of one source, which is opened once.

    Args:
        outputs: where each goes, and what it is to be; the place may depend on that of the first.

    Raises:
        WconvError: one cannot be; or two have one place.
    """
    source = locate(src)
    with opening_once():
        planned: list[Conversion] = []
        for place, options in outputs:
            where = place(planned[0].report.output) if callable(place) else place
            planned.append(plan(source, where, options))
    places = [one.report.output.absolute() for one in planned]
    for number, place in enumerate(places):
        for other in places[:number]:
            if place == other or place in other.parents or other in place.parents:
                raise OutputError(f"{other} and {place} are two outputs in one place: name another")
    return planned


def run_several(
    planned: Sequence[Conversion],
    *,
    progress: Progress | None = None,
    jobs: int | None = None,
    **how: Any,
) -> tuple[list[Report | None], list[BaseException | None]]:
    """Carries several conversions out: each as `run`, but the weights of all are written together.

    Returns:
        Of each conversion, what was done, or what went wrong.

    Raises:
        KeyboardInterrupt: as `run` does.
    """
    meeting = _Meeting(len(planned))
    reports: list[Report | None] = [None] * len(planned)
    errors: list[BaseException | None] = [None] * len(planned)

    def one(number: int) -> None:
        try:
            reports[number] = carry_out(planned[number], meeting.write, errors=False, **how)
        except BaseException as error:
            errors[number] = error
        finally:
            meeting.leave()

    threads = [threading.Thread(target=one, args=(number,), daemon=True) for number in range(len(planned))]
    for thread in threads:
        thread.start()
    interrupted: BaseException | None = None
    try:
        outputs = meeting.outputs()
        if any(errors) and not how["resume"]:
            # one whose place is taken, say: better told now than when the others are done
            meeting.failure = OutputError(NOT_BEGUN)
        elif outputs:
            write_in_step(outputs, jobs=jobs, progress=progress or (lambda count: None), sync=how["sync"])
    except BaseException as error:
        interrupted = error
        meeting.failure = error
    finally:
        meeting.over.set()
        for thread in threads:
            thread.join()
    if isinstance(interrupted, KeyboardInterrupt):
        raise Interrupted if any(isinstance(error, Interrupted) for error in errors) else interrupted
    return reports, errors


class _Meeting:
    """Where the conversions wait, each with its directory, until the weights of all are written."""

    def __init__(self, count: int) -> None:
        self._missing = count
        self._changed = threading.Condition()
        self._waiting: dict[int, StepOutput] = {}
        self._left: set[int] = set()
        self.over = threading.Event()
        self.failure: BaseException | None = None

    def write(self, shards: Sequence[Shard], directory: Path, **more: Any) -> list[Written]:
        """Waits until the shards are written, by the thread that called `outputs`."""
        output = StepOutput(shards, directory)
        with self._changed:
            self._waiting[threading.get_ident()] = output
            self._missing -= 1
            self._changed.notify_all()
        self.over.wait()
        if output.error is not None:
            raise output.error
        if self.failure is not None:
            raise _again(self.failure)
        return [output.written[shard.filename] for shard in shards]

    def leave(self) -> None:
        """Says that a conversion has ended, be it before it came here."""
        with self._changed:
            if threading.get_ident() not in self._waiting:
                self._missing -= 1
                self._changed.notify_all()

    def outputs(self) -> list[StepOutput]:
        """What is to be written, once all are here that will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._missing <= 0)
            return list(self._waiting.values())


def _again(error: BaseException) -> BaseException:
    """The same error for another thread, with the context that tells what kind it is."""
    made = type(error)(*error.args)
    made.__context__ = error.__context__
    return made
