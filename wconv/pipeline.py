"""The pipeline: open, lay out, choose dtypes, plan, write, sidecars, rename. Nothing else lives here."""

from __future__ import annotations

import dataclasses
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wconv import checkpoint, components, dtypes, file_formats, sidecars, writer
from wconv.checkpoint import Checkpoint
from wconv.components import Component
from wconv.dtypes import DType
from wconv.errors import FormatError, LayoutError, OutputError, WconvError, told
from wconv.file_formats import FileFormat
from wconv.layouts import Layout, configs
from wconv.layouts.choice import HUB, LaidOut, lay_out
from wconv.lora import steps as lora
from wconv.lora.read import Lora
from wconv.plan import MAX_SHARD_SIZE, Entry, Plan, make, parse_size, within
from wconv.report import Report, changes, command_for, overflow_line
from wconv.sidecars import Sidecars
from wconv.storable import TARGETS, written_dtype
from wconv.tensor import LazyTensor
from wconv.workspace import Workspace, check_space, check_target, fingerprint
from wconv.writer import Progress

SLACK = 1 << 20
"""Bytes kept free beyond what the plan needs: the journal, the index, directory blocks."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """A conversion that is planned to the last byte but has not begun; `run` carries it out.

    Attributes:
        plan: every output byte's place.
        sources: output name → the source names it is made of.
        report: what the summary will say, but for what only writing shows.
        parts: of a pipeline, its components' conversions by their sub-directories.
        config_name: what the file of `config` is called.
    """

    checkpoint: Checkpoint
    plan: Plan
    sources: Mapping[str, tuple[str, ...]]
    config: Mapping[str, Any] | None
    sidecars: Sidecars | None
    report: Report
    parameters: Mapping[str, Any]
    states: tuple[tuple[int, int], ...]
    parts: Mapping[str, Conversion] = field(default_factory=dict)
    config_name: str = "config.json"

    def plan_dict(self) -> list[dict[str, Any]]:
        """The plan as plain data for JSON: each shard with its tensors."""
        return [
            {
                "file": shard.filename,
                "bytes": shard.nbytes,
                "tensors": [
                    {
                        "name": entry.name,
                        "dtype": entry.dtype.name,
                        "shape": list(entry.shape),
                        "from": list(self.sources.get(shard.label(entry.name), ())),
                    }
                    for entry in shard.entries
                ],
            }
            for shard in self.plan.shards
        ]


def convert(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str] | None = None,
    *,
    dtype: str | None = None,
    layout: str | Layout = "auto",
    rules: str | os.PathLike[str] | Layout | None = None,
    format: str | None = None,
    include: str | None = None,
    exclude: str | None = None,
    max_shard_size: int | str | None = None,
    key: str | None = None,
    component: Sequence[str] = (),
    variant: str | None = None,
    optimizer: bool = False,
    merge_lora: Sequence[str | Lora] = (),
    options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    strict: bool = False,
    jobs: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Report:
    """Converts a checkpoint: `prepare` and `run` in one call, with the arguments of both.

    Returns:
        What was done; `str.join("\\n", report.lines())` is what the command prints.

    Raises:
        WconvError: one line a person can act on; nothing is left at `dst`.
    """
    prepared = prepare(
        src,
        dst,
        dtype=dtype,
        layout=layout,
        rules=rules,
        format=format,
        include=include,
        exclude=exclude,
        max_shard_size=max_shard_size,
        key=key,
        component=component,
        variant=variant,
        optimizer=optimizer,
        merge_lora=merge_lora,
        options=options,
    )
    return run(
        prepared,
        overwrite=overwrite,
        resume=resume,
        strict=strict,
        jobs=jobs,
        executor=executor,
        progress=progress,
    )


@told(FormatError, "read")
def prepare(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str] | None = None,
    *,
    dtype: str | None = None,
    layout: str | Layout = "auto",
    rules: str | os.PathLike[str] | Layout | None = None,
    format: str | None = None,
    include: str | None = None,
    exclude: str | None = None,
    max_shard_size: int | str | None = None,
    key: str | None = None,
    component: Sequence[str] = (),
    variant: str | None = None,
    optimizer: bool = False,
    merge_lora: Sequence[str | Lora] = (),
    options: Mapping[str, Any] | None = None,
) -> Conversion:
    """Plans a conversion without reading a tensor or writing a byte.

    Args:
        src: a model directory or a weights file.
        dst: a directory, or a `.safetensors`, `.pt`, `.pth` or `.bin` file; beside the source when absent.
        dtype: "float16", "bfloat16" or "float32" for all floating tensors; the source's own when absent.
        layout: "auto", a consumer's name, a Layout, or "hf" for the hub's names and layouts, to which an
            MLX model is laid back.
        rules: a rules file or a Layout instead of the tables; "hf" undoes it.
        format: "safetensors" or "pt"; what the name of `dst` tells when absent, else safetensors. torch
            files have the hub's names and layouts unless a layout or rules are given.
        include, exclude: regular expressions searched in the source's tensor names.
        max_shard_size: bytes of tensors in one file, or "5GB", "500MB"; when absent, what the consumer cuts
            at, and 5 GB where it does not care.
        key: the path to the state dict in a wrapped PyTorch checkpoint.
        component: names of the only components that are converted, of a directory that has several.
        variant: of the weights in a directory, those called so ("fp16").
        optimizer: write the optimizer's state too, as `optimizer.safetensors` beside the model.
        merge_lora: adapters that are added to the weights, in order: paths, each with `:scale` after it
            where that is not 1.
        options: what a layout lets one choose ("include_fov").

    Raises:
        WconvError: the source cannot be read, fits no layout, or a parameter is wrong.
    """
    requested = _requested(dtype)
    limit = None if max_shard_size is None else parse_size(str(max_shard_size))
    source = Path(src)
    kind = file_formats.choose(format, os.fspath(dst) if dst is not None else None)
    if kind.for_torch and layout == "auto" and rules is None:
        layout = HUB
    mark = "HF" if layout == HUB else "MLX"
    target = (
        Path(dst) if dst is not None else default_output(source, mark, kind.suffixes[0], directory=optimizer)
    )
    single = file_formats.single(target.name) is not None
    loras = lora.read_all(merge_lora)
    found = components.find(source, layout, picked=component, variant=variant)
    if found is not None:
        if single or optimizer:
            what = "--optimizer is for one model" if optimizer else f"{target} is the name of a file"
            raise WconvError(f"{source} has several components: {what}")
        arguments: dict[str, Any] = {
            "dtype": dtype,
            "rules": rules,
            "format": kind.name,
            "include": include,
            "exclude": exclude,
            "max_shard_size": limit,
            "key": key,
            "options": options,
        }
        shared = lora.share(loras, {one.name for one in found.components})
        parts = {
            one.name: _part(one, target, layout, {**arguments, "merge_lora": shared.get(one.name, ())})
            for one in found.components
        }
        return components.join(found, target, parts)
    opened = checkpoint.open(source, key=key, variant=variant)
    if not opened.tensors:
        raise FormatError(f"{source} holds no tensors")
    picked, filtered = _filter(opened, include, exclude)

    def laid_out(tensors: Mapping[str, LazyTensor]) -> LaidOut:
        if rules is None and not loras and lora.is_adapter(tensors):
            adapter = lora.lay_out_adapter(opened, tensors, layout)
            if adapter is not None:
                return adapter
        return lay_out(
            layout, tensors, opened.description, rules=rules, types=opened.modules, options=options
        )

    laid = lora.laid_out(laid_out, picked, loras, requested, str(source)) if loras else laid_out(picked)
    opened = dataclasses.replace(opened, files=(*opened.files, *lora.files(loras))) if loras else opened
    applied = laid.applied
    if not applied.tensors:
        raise WconvError(f"no tensor of {source} is left to write: look at --include, --exclude and --key")
    if dst is None and single and laid.config is not None:
        target, single = default_output(source, mark, directory=True), False
    if laid.config is not None and laid.config_name != "config.json" and (single or kind.for_torch):
        raise OutputError(
            f"{laid.consumer} reads safetensors and {laid.config_name}: make {target} a directory of them"
        )
    casts = {name: dtypes.by_name(to) for name, to in laid.casts.items()}
    entries = [
        Entry(
            name,
            tensor,
            written_dtype(
                name,
                tensor.dtype,
                requested or casts.get(tensor.dtype.name),
                applied.tensors,
                applied.keep_dtype,
                for_torch=kind.for_torch,
            ),
        )
        for name, tensor in applied.tensors.items()
    ]
    plan = _plan(opened, laid, entries, kind, limit, target.name if single else None)
    if optimizer and (single or kind.for_torch):
        raise WconvError(
            f"--optimizer writes a second file, for MLX: make {target} a directory of safetensors"
        )
    state = _optimizer(opened, picked, laid_out, entries) if optimizer else None
    if state is not None:
        more = state.plan.shards
        plan = dataclasses.replace(
            plan, shards=(*plan.shards, *more), beside=frozenset(shard.filename for shard in more)
        )
    from_directory = opened.path.is_dir()
    read = (*opened.files, *(state.files if state else ()))
    beside = sidecars.find(source, read) if from_directory and not single else None
    rewritten = beside is not None and laid.form is None
    config, added = _config(opened, entries, requested, laid.stale) if rewritten else (None, ())
    if laid.config is not None and not single:
        config, added = _made_config(laid.config, requested), ()
    loaded = target if single or (config or opened.config) is not None else target / plan.shards[0].filename
    report = Report(
        source=source,
        output=target,
        model_type=str((opened.config or {}).get("model_type", "")),
        layout=laid.consumer,
        tensors_read=len(opened),
        tensors_written=len(entries),
        shards=tuple(shard.filename for shard in plan.shards),
        bytes_before=sum(path.stat().st_size for path in opened.files),
        bytes_after=plan.nbytes,
        dtypes=changes((entry.tensor.dtype.name, entry.dtype.name) for entry in entries),
        kept=_kept(entries, requested, applied.keep_dtype),
        dropped={**filtered, **applied.dropped},
        skipped=opened.skipped,
        left_out=_left_out(opened, beside),
        config_added=added,
        notes=(*opened.notes, *applied.notes, *lora.notes(loras), *(state.notes if state else ())),
        command=_command(laid.command, loaded),
        unchanged=applied.unchanged,
    )
    parameters = {
        "dtype": dtype,
        "layout": str(layout),
        "format": kind.name,
        "include": include,
        "exclude": exclude,
        "key": key,
        "options": dict(options or {}),
        "rules": laid.rules,
        "variant": variant,
        "merge_lora": [(str(one.path), one.strength) for one in loras],
    }
    sources = {**applied.sources, **(state.sources if state else {})}
    opened = dataclasses.replace(opened, files=tuple(dict.fromkeys(read)))
    states = _states(opened.files)
    conversion = Conversion(opened, plan, sources, config, beside, report, parameters, states)
    return dataclasses.replace(conversion, config_name=laid.config_name)


def run(
    conversion: Conversion,
    *,
    overwrite: bool = False,
    resume: bool = False,
    strict: bool = False,
    jobs: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Report:
    """Writes what was planned and puts it in place in one step.

    Args:
        overwrite: replace an existing output.
        resume: continue an interrupted run.
        strict: a value that overflows is an error.
        jobs: threads; as many as there are cores when absent.
        executor: runs one task per shard (`writer.write_shard`) instead of threads.
        progress: called with the bytes written so far, a few times a second.

    Raises:
        OutputError: the output exists, or cannot be written; or `strict` and something overflowed.
        FormatError: a source changed or ended while it was read.
    """
    began = time.monotonic()
    plan, target, opened = conversion.plan, conversion.report.output, conversion.checkpoint
    _check_apart(opened.path, target)
    check_target(target, overwrite=overwrite)
    digest = fingerprint(plan, opened.files, dict(conversion.parameters))
    beside = conversion.sidecars
    with Workspace(target, digest, overwrite=overwrite, resume=resume) as workspace:
        try:
            ready = {shard.filename: writer.finished(workspace.path, shard) for shard in plan.shards}
            left = sum(shard.nbytes for shard in plan.shards if not ready[shard.filename])
            check_space(workspace.path, left + (beside.nbytes if beside else 0) + SLACK)
            written = writer.write(
                plan.shards, workspace.path, jobs=jobs, executor=executor, progress=progress
            )
            if _states(opened.files) != conversion.states:
                raise FormatError(f"{opened.path} changed while it was read: convert it again")
            overflows = {
                shard.label(name): lost
                for shard, one in zip(plan.shards, written, strict=True)
                for name, lost in one.overflows.items()
            }
            if strict and overflows:
                workspace.discard()
                raise OutputError(f"{opened.path}: {overflow_line(overflows)}")
            _write_sidecars(conversion, workspace.output)
            workspace.commit()
        except BaseException:
            if not any(writer.finished(workspace.path, shard) for shard in plan.shards):
                workspace.discard()
            raise
    return dataclasses.replace(
        conversion.report,
        seconds=round(time.monotonic() - began, 3),
        overflows=overflows,
        resumed=tuple(name for name, found in ready.items() if found),
    )


def default_output(
    source: Path, mark: str = "MLX", suffix: str = ".safetensors", *, directory: bool = False
) -> Path:
    """`X-MLX` beside a directory `X` (for a hub cache: in the working directory, by the model's name);
    `x.safetensors` beside a file, `x-MLX.safetensors` when it is safetensors itself. A mark "HF" takes the
    place of "MLX", another `suffix` that of ".safetensors". With `directory`, a directory `x-MLX` beside a
    file."""
    if source.is_dir():
        real = source.resolve()
        repository = real.parent.parent.name
        if real.parent.name == "snapshots" and repository.startswith("models--"):
            return Path(_marked(repository.split("--")[-1], mark))
        place = source if source.name not in ("", "..") else real
        if not place.name:
            raise WconvError(f"{source} has no name to call the result by: add --output")
        return place.with_name(_marked(place.name, mark))
    if directory:
        return source.with_name(_marked(source.stem, mark))
    stem = _marked(source.stem, mark) if source.suffix == suffix else source.stem
    return source.with_name(stem + suffix)


def _marked(name: str, mark: str) -> str:
    return (name.removesuffix("-MLX") if mark != "MLX" else name) + "-" + mark


@dataclass(frozen=True, slots=True)
class _State:
    """The file of an optimizer's state: its plan, what each tensor is made of, what the user should know."""

    plan: Plan
    sources: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]
    files: tuple[Path, ...]


def _optimizer(
    opened: Checkpoint,
    picked: dict[str, LazyTensor],
    laid_out: Callable[[Mapping[str, LazyTensor]], LaidOut],
    weights: Sequence[Entry],
) -> _State:
    """Plans `optimizer.safetensors`; the state keeps its own dtype, for moments lose more than weights."""
    from wconv import optimizers

    state = optimizers.lay_out(opened, picked, lambda tensors: laid_out(tensors).applied)
    entries = [
        Entry(name, tensor, written_dtype(name, tensor.dtype, None, state.tensors))
        for name, tensor in state.tensors.items()
    ]
    planned = make(entries, state.metadata, filename=optimizers.FILENAME)
    kept = {entry.dtype.name for entry in entries if entry.name in state.sources}
    other = {entry.dtype.name for entry in weights if entry.dtype.is_floating}
    notes = list(state.notes)
    if kept and not kept <= other:
        text = f"the state is {', '.join(sorted(kept))}, the weights are {', '.join(sorted(other))}"
        notes.append(f"{text}: MLX's steps give weights of the wider dtype")
    return _State(planned, state.sources, tuple(notes), state.files)


def _part(one: Component, target: Path, layout: str | Layout, arguments: Mapping[str, Any]) -> Conversion:
    """Plans one component; where "auto" finds a table that does not fit it, its names stay as they are."""
    place = target / one.name
    chosen = one.layout or layout
    try:
        return prepare(one.path, place, layout=chosen, variant=one.variant, **arguments)
    except LayoutError as error:
        if chosen != "auto" or arguments["rules"] is not None:
            raise
        kept = prepare(one.path, place, layout=HUB, variant=one.variant, **arguments)
        note = f"names and layouts unchanged: {error}"
        report = dataclasses.replace(kept.report, notes=(*kept.report.notes, note))
        return dataclasses.replace(kept, report=report)


def _plan(
    opened: Checkpoint,
    laid: LaidOut,
    entries: Sequence[Entry],
    kind: FileFormat,
    limit: int | None,
    filename: str | None,
) -> Plan:
    """The model's files: in the consumer's own form, else named as the hub names them."""
    kept = laid.consumer is None and opened.files[0].name.startswith(file_formats.DIFFUSERS)
    if kept or laid.consumer == "diffusers":
        kind = file_formats.of_diffusers(kind)
    form = laid.form if not kind.for_torch else None
    plan = make(
        entries,
        form.metadata if form else _metadata(opened, laid.format),
        max_shard_size=limit or (form.max_shard_size if form else MAX_SHARD_SIZE),
        filename=filename,
        names=form.names if form else kind.names,
        shard=kind.shard,
    )
    index = kind.index if form is None or "{number}" in form.shard else f"{form.shard}.index.json"
    return dataclasses.replace(plan, index_name=index, about=form.metadata if form else None)


def _requested(dtype: str | None) -> DType | None:
    if dtype is None:
        return None
    requested = dtypes.by_name(dtype)
    if requested.name not in TARGETS:
        raise WconvError(f"--dtype {dtype}: weights are written in {', '.join(TARGETS)}")
    return requested


def _filter(
    opened: Checkpoint, include: str | None, exclude: str | None
) -> tuple[dict[str, LazyTensor], dict[str, str]]:
    """The tensors that pass, and the reason for each that does not."""
    wanted, unwanted = _expression(include, "--include"), _expression(exclude, "--exclude")
    picked: dict[str, LazyTensor] = {}
    filtered: dict[str, str] = {}
    for name, tensor in opened.items():
        if wanted and not wanted.search(name):
            filtered[name] = f"not in --include {include}"
        elif unwanted and unwanted.search(name):
            filtered[name] = f"in --exclude {exclude}"
        else:
            picked[name] = tensor
    return picked, filtered


def _expression(text: str | None, option: str) -> re.Pattern[str] | None:
    try:
        return re.compile(text) if text is not None else None
    except re.error as error:
        raise WconvError(f"{option} {text!r} is no regular expression: {error}") from None


def _metadata(opened: Checkpoint, promise: str | None) -> dict[str, str]:
    """The source's own header strings, and `format`: "mlx" promises final names, which only rules give."""
    texts = {name: value for name, value in opened.metadata.items() if isinstance(value, str)}
    strings = texts if opened.format == "safetensors" else {}
    return {**strings, "format": promise or strings.get("format", "pt")}


def _config(
    opened: Checkpoint, entries: Sequence[Entry], requested: DType | None, stale: Sequence[str]
) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    if opened.config is None:
        return None, ()
    config, added = configs.normalise(opened.config)
    floating = [entry.dtype for entry in entries if entry.dtype.is_floating]
    if requested is not None and floating:
        config = configs.with_dtype(config, requested.name)
    for name in stale:
        config.pop(name, None)
    return config, tuple(added)


def _made_config(made: Mapping[str, Any], requested: DType | None) -> dict[str, Any]:
    if requested is None or "torch_dtype" not in made:
        return dict(made)
    return configs.with_dtype(made, requested.name)


def _kept(entries: Sequence[Entry], requested: DType | None, keep: frozenset[str]) -> dict[str, str]:
    if requested is None:
        return {}
    kept: dict[str, str] = {}
    for entry in entries:
        if entry.dtype.is_floating and entry.dtype is not requested:
            why = "the consumer keeps its dtype" if entry.name in keep else "bytes that the consumer decodes"
            kept[entry.name] = f"{entry.dtype.name}, {why}"
    return kept


def _left_out(opened: Checkpoint, beside: Sidecars | None) -> dict[str, str]:
    """Files of the source that the output lacks; what only looked like weights was copied."""
    if beside is None:
        return dict(opened.left_out)
    looked = {name: reason for name, reason in opened.left_out.items() if name not in beside.copied}
    return {**looked, **beside.left_out}


def _command(command: str, target: Path) -> str:
    if target.name.endswith(file_formats.PT.suffixes):
        return f"torch.load({str(target)!r}, weights_only=True, mmap=True)"
    if target.suffix == ".safetensors":
        return f"mlx.core.load({str(target)!r})"
    return command_for(command, target)


def _states(files: Sequence[Path]) -> tuple[tuple[int, int], ...]:
    """Size and time of change of each source file."""
    return tuple((status.st_size, status.st_mtime_ns) for status in (path.stat() for path in files))


def _check_apart(source: Path, target: Path) -> None:
    real, goal = source.resolve(), target.resolve()
    if goal == real or goal.is_relative_to(real) or real.is_relative_to(goal):
        raise OutputError(f"{target} is the source itself, or within it: choose another --output")


def _write_sidecars(conversion: Conversion, directory: Path) -> None:
    beside = conversion.sidecars
    if file_formats.single(conversion.report.output.name) is not None:
        return
    rewritten = []
    for name, part in (conversion.parts or {"": conversion}).items():
        # torch's own programs want an index only where there are several files
        if part.plan.index_name in file_formats.MLX_INDEXES or len(part.plan.shards) > 1:
            sidecars.write_json(part.plan.index(), directory / name / part.plan.index_name)
        if part.config is not None:
            rewritten.append(within(name, part.config_name))
            sidecars.write_json(part.config, directory / name / part.config_name)
    if beside is not None:
        sidecars.copy(beside, conversion.checkpoint.path, directory, but=rewritten)
