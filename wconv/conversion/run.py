"""Carrying a conversion out: what was planned is written beside its place, and put there in one step."""

from __future__ import annotations

import dataclasses
import functools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from wconv import engines
from wconv.conversion.fingerprint import check_program, fingerprint, program
from wconv.conversion.made_files import is_single_file, made_files
from wconv.conversion.options import ConvertArguments, options_of, takes_options
from wconv.conversion.outputs import check_apart
from wconv.conversion.planned import Conversion, reading, stamps_of
from wconv.conversion.prepare import plan
from wconv.conversion.report import Report, overflow_line
from wconv.errors import FormatError, Interrupted, OutputError, os_errors_as
from wconv.stores import durable, stand_ins
from wconv.wording import gigabytes, plural
from wconv.writing import shard_file, sidecars, writer
from wconv.writing.plan import within
from wconv.writing.targets import Names
from wconv.writing.workspace import Workspace, check_space
from wconv.writing.writer import Progress

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from wconv.writing.shard_file import Written

SLACK = 1 << 20
"""Bytes kept free beyond what the plan needs: the journal, the index, directory blocks."""


@takes_options(ConvertArguments)
def convert(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str] | None = None,
    *,
    overwrite: bool = False,
    resume: bool = False,
    strict: bool = False,
    jobs: int | None = None,
    executor: Executor | str | None = None,
    progress: Progress | None = None,
    sync: bool = True,
    **options: Unpack[ConvertArguments],
) -> Report:
    """Converts a checkpoint: `prepare` and `run` in one call, with the arguments of both.

    Args:
        src: a model directory or a weights file.
        dst: a directory, or a `.safetensors`, `.pt`, `.pth` or `.bin` file; beside the source when absent.
        overwrite, resume, strict, jobs, executor, progress, sync: as `run` describes them.
        options: `help(wconv.ConvertOptions)` describes each.

    Returns:
        What was done; `"\\n".join(report.lines())` is what the command prints.

    Raises:
        WconvError: one line a person can act on; nothing is left at `dst`.

    Example:
        >>> report = wconv.convert("Logics-Parsing", "out", dtype="float16")
        >>> report.tensors_written, report.shards
        (1, ('model.safetensors',))
    """
    return run(
        plan(src, dst, options_of("convert", options)),
        overwrite=overwrite,
        resume=resume,
        strict=strict,
        jobs=jobs,
        executor=executor,
        progress=progress,
        sync=sync,
    )


def run(
    conversion: Conversion,
    *,
    overwrite: bool = False,
    resume: bool = False,
    strict: bool = False,
    jobs: int | None = None,
    executor: Executor | str | None = None,
    progress: Progress | None = None,
    sync: bool = True,
) -> Report:
    """Writes what was planned and puts it in place in one step.

    Args:
        overwrite: replace an existing output.
        resume: continue an interrupted run.
        strict: a value that overflows is an error.
        jobs: threads; as many as there are cores when absent.
        executor: runs one task per shard instead of threads: an executor of `concurrent.futures`, or the
            name of one ("processes:4", "dask://host:8786", "ray", "mpi"); the page `clusters` says more.
        progress: called with the bytes written so far, a few times a second.
        sync: have the whole output on the disk before it is put in place, so that a power loss empties no
            file of it. Without, it is there as soon as the system takes it.

    Raises:
        OutputError: the output exists, or cannot be written; or `strict` and something overflowed.
        FormatError: a source changed or ended while it was read.
        KeyboardInterrupt: an `Interrupted` where something is kept for `resume`.

    Example:
        >>> report = wconv.run(wconv.prepare("model.ckpt", "model.safetensors"))
        >>> list(wconv.open(report.output))
        ['linear.weight']
    """
    return carry_out(
        conversion,
        writer.write,
        overwrite=overwrite,
        resume=resume,
        strict=strict,
        jobs=jobs,
        executor=executor,
        progress=progress,
        sync=sync,
    )


def carry_out(
    conversion: Conversion,
    write: Callable[..., list[Written]],
    *,
    overwrite: bool = False,
    resume: bool = False,
    strict: bool = False,
    jobs: int | None = None,
    executor: Executor | str | None = None,
    progress: Progress | None = None,
    sync: bool = True,
    errors: bool = True,
) -> Report:
    """What `run` does, with another way to write the shards.

    Args:
        write: as `writer.write`.
        errors: measures what quantization lost, for which a sample of the weights is read again.
    """
    began = time.monotonic()
    shards, target, opened = conversion.plan.shards, conversion.report.output, conversion.checkpoint
    check_apart((opened.path, *opened.files), target)
    digest = fingerprint(conversion.plan, opened.files, dict(conversion.parameters))
    side_files = conversion.sidecars
    names = _names(conversion)
    with (
        engines.opened(executor) as pool,
        reading(opened),
        Workspace(target, digest, overwrite=overwrite, resume=resume, names=names, sync=sync) as workspace,
    ):
        try:
            ready = {shard.filename: shard_file.finished(workspace.path, shard) for shard in shards}
            left = writer.missing(workspace.path, shards)
            check_space(workspace.path, left + (side_files.nbytes if side_files else 0) + SLACK)
            written = write(
                shards,
                workspace.path,
                jobs=jobs,
                executor=pool,
                progress=progress,
                sync=sync,
                check=functools.partial(check_program, program()),
            )
            if stamps_of(opened.files) != conversion.stamps:
                raise FormatError(f"{opened.path} changed while it was read: convert it again")
            overflows = {
                shard.label(name): lost
                for shard, one in zip(shards, written, strict=True)
                for name, lost in one.overflows.items()
            }
            if strict and overflows:
                workspace.discard()
                raise OutputError(f"{opened.path}: {overflow_line(overflows)}")
            _write_sidecars(conversion, workspace.output)
            if sync:
                written_already = (workspace.output / shard.filename for shard in shards)
                durable.sync_tree(workspace.output, but=frozenset(written_already))
            fetched = _check_fetched(opened.path)
            workspace.commit()
        except BaseException as error:
            if _of_no_use(error) or not writer.begun(workspace.path, shards):
                workspace.discard()
            elif isinstance(error, KeyboardInterrupt) and workspace.path.exists():
                raise Interrupted from None
            raise
        if sync:
            durable.sync_path(target.parent)
    report = conversion.report
    if report.quantization is not None and errors:
        from wconv.conversion.quantize import errors_of

        summary = dataclasses.replace(report.quantization, errors=errors_of(shards))
        report = dataclasses.replace(report, quantization=summary)
    return dataclasses.replace(
        report,
        seconds=round(time.monotonic() - began, 3),
        overflows=overflows,
        notes=(*report.notes, *fetched),
        resumed=tuple(name for name, found in ready.items() if found),
    )


def _check_fetched(source: Path) -> tuple[str, ...]:
    """Compares what came from elsewhere with the hub's digests, keeps what is to stay, and says so."""
    files = stand_ins.below(str(source)) if stand_ins.in_use() else []
    if not files:
        return ()
    from wconv.stores import whole

    whole.check(files)
    kept = whole.keep(files)
    found = whole.check(files)
    if found is None:
        return ()
    proved = f"; {found.proved} of {plural(found.digests, 'file')} proved by the hub's digests"
    stays = (f"{plural(len(kept), 'file')} kept in the hub's cache",) if kept else ()
    return (f"{gigabytes(found.nbytes)} fetched{proved if found.digests else ''}", *stays)


def _names(conversion: Conversion) -> Names:
    """Every file of the output."""
    parts = (conversion.parts or {"": conversion}).items()
    named = {within(name, file) for name, part in parts for file in (part.plan.index_name, part.config_name)}
    copied = conversion.sidecars.copied if conversion.sidecars else ()
    return Names(frozenset(shard.filename for shard in conversion.plan.shards), frozenset((*named, *copied)))


def _of_no_use(error: BaseException) -> bool:
    """Whether a source is damaged or was changed, so that what is written of it will never be continued."""
    # a disk or a network that failed while it was read may be there again
    return isinstance(error, FormatError) and not isinstance(error.__context__, OSError)


def _write_sidecars(conversion: Conversion, directory: Path) -> None:
    made = made_files(conversion)
    for name, data in made.items():
        with os_errors_as(OutputError, "written"):
            (directory / name).write_bytes(data)
    side_files, opened = conversion.sidecars, conversion.checkpoint
    if side_files is not None and not is_single_file(conversion):
        sidecars.copy(side_files, opened.beside or opened.path, directory, but=made)
