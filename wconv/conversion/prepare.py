"""Planning a conversion: everything that is decided before the first byte is read or written."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wconv.checkpoints import open as opening
from wconv.checkpoints.checkpoint import Checkpoint, check_lost
from wconv.consumers import casts, config_dtypes, fits, registry
from wconv.consumers.adapters.namings import FILES, MARKS
from wconv.consumers.lay_out import AS_STORED, HUB, LaidOut, NoLayoutError, lay_out
from wconv.consumers.made_tensors import SETTINGS, tensor_maker
from wconv.consumers.mlx import config_fields
from wconv.consumers.pieces import PIECES
from wconv.consumers.quantization.recipes import Recipe
from wconv.conversion import components, decode, outputs
from wconv.conversion import quantize as quantize_stage
from wconv.conversion.components import Component, Pipeline
from wconv.conversion.output_dtypes import written_dtypes
from wconv.conversion.planned import Conversion, states
from wconv.conversion.quantize import Quantized
from wconv.conversion.report import Report, changes
from wconv.conversion.request import Request, ask
from wconv.errors import FormatError, LayoutError, OutputError, WconvError, told
from wconv.formats.side_files import read_json
from wconv.layouts.apply import Applied, Layout
from wconv.quantized import names as quantized_names
from wconv.tensors.dtypes import DType, DTypeLike
from wconv.tensors.lazy import LazyTensor
from wconv.writing import file_formats, sidecars
from wconv.writing.plan import MAX_SHARD_SIZE, Entry, Plan, make
from wconv.writing.sidecars import Sidecars

if TYPE_CHECKING:
    from wconv.lora.read import Lora


@told(FormatError, "read")
def prepare(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str] | None = None,
    *,
    dtype: DTypeLike | None = None,
    layout: str | Layout = "auto",
    rules: str | os.PathLike[str] | Layout | None = None,
    format: str | None = None,
    include: str | None = None,
    exclude: str | None = None,
    max_shard_size: int | str | None = None,
    key: str | None = None,
    expand: bool = False,
    skip_unreadable: bool = False,
    quantize: Recipe | None = None,
    dequantize: bool = False,
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
        dtype: "float16", "bfloat16" or "float32" for all floating tensors, however it is named ("fp16",
            `np.float16`, `mx.float16`); the source's own when absent.
        layout: "auto", a consumer's name, a Layout, or "hf" for the hub's names and layouts, to which an
            MLX model is laid back.
        rules: a rules file or a Layout instead of the tables; "hf" undoes it.
        format: "safetensors" or "pt"; what the name of `dst` tells when absent, else safetensors. torch
            files have the hub's names and layouts unless a layout or rules are given.
        include, exclude: regular expressions searched in the source's tensor names.
        max_shard_size: bytes of tensors in one file, or "5GB", "500MB"; when absent, what the consumer cuts
            at, and 5 GB where it does not care.
        key: the path to the state dict in a wrapped PyTorch checkpoint.
        expand: allows tensors that take far more than their file (expanded views, sparse, deflated).
        quantize: stores weights in few bits, as MLX does: modes, bits, groups and rules for single layers.
        skip_unreadable: leaves out tensors whose values cannot be had, which are an error otherwise.
        component: names of the only components that are converted, of a directory that has several.
        variant: of the weights in a directory, those called so ("fp16").
        optimizer: write the optimizer's state too, as `optimizer.safetensors` beside the model.
        merge_lora: adapters that are added to the weights, in order: paths, each with `:scale` after it
            where that is not 1.
        dequantize: decode weights in few bits, also those that the consumer takes as they are.
        options: what a layout lets one choose ("include_fov").

    Raises:
        WconvError: the source cannot be read, fits no layout, or a parameter is wrong.
    """
    request = ask(
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
        expand=expand,
        skip_unreadable=skip_unreadable,
        quantize=quantize,
        dequantize=dequantize,
        variant=variant,
        optimizer=optimizer,
        loras=_read_loras(merge_lora),
        options=options or {},
    )
    found = components.find(request.source, request.layout, picked=component, variant=variant)
    return _model(request) if found is None else _pipeline(request, found)


def _read_loras(wanted: Sequence[str | Lora]) -> tuple[Lora, ...]:
    if not wanted:
        return ()
    from wconv.lora import steps

    return steps.read_all(wanted)


def _pipeline(request: Request, found: Pipeline) -> Conversion:
    """Plans each component of a directory that has several."""
    if request.single or request.optimizer:
        what = "--optimizer is for one model"
        what = what if request.optimizer else f"{request.target} is the name of a file"
        raise WconvError(f"{request.source} has several components: {what}")
    shared: Mapping[str, Sequence[Lora]] = {}
    if request.loras:
        from wconv.lora import steps

        shared = steps.share(request.loras, {one.name for one in found.components})
    parts = {one.name: _component(request, one, shared.get(one.name, ())) for one in found.components}
    asked = isinstance(request.layout, str) and request.layout not in ("auto", HUB, AS_STORED)
    if asked and request.rules is None and all(part.report.layout is None for part in parts.values()):
        raise LayoutError(
            f"--layout {request.layout} has no rules for any component of {request.source}:"
            " --layout auto or hf keeps their names and layouts"
        )
    return components.join(found, request.target, parts)


def _component(request: Request, one: Component, loras: Sequence[Lora]) -> Conversion:
    """Plans one component; where "auto" finds a table that does not fit it, its names stay as they are."""
    asked = dataclasses.replace(
        request,
        source=one.path,
        target=request.target / one.name,
        given=True,
        layout=one.layout or request.layout,
        variant=one.variant,
        loras=tuple(loras),
    )
    try:
        return _model(asked)
    except LayoutError as error:
        lacking = isinstance(error, NoLayoutError)
        if asked.rules is not None or (asked.layout != "auto" and not lacking):
            raise
        kept = _model(dataclasses.replace(asked, layout=HUB))
        if lacking:
            return kept
        note = f"names and layouts unchanged: {error}"
        report = dataclasses.replace(kept.report, notes=(*kept.report.notes, note))
        return dataclasses.replace(kept, report=report)


def _model(request: Request) -> Conversion:
    """Plans one model."""
    opened = opening.open(
        request.source,
        key=request.key,
        variant=request.variant,
        expand=request.expand,
        skip_unreadable=True,
        pieces=PIECES,
    )
    picked, filtered = request.pick(opened)
    if not request.skip_unreadable:
        # one that is filtered out is not missed
        lost = {name: reason for name, reason in opened.lost.items() if name not in filtered}
        check_lost(request.source, lost, others=bool(picked))
    if not opened.tensors:
        raise FormatError(f"{request.source} holds no tensors")
    if filtered:
        quantized_names.check_complete(opened.tensors, picked)
    opened, picked, filtered = decode.decoded(request, opened, picked, filtered)
    laid = _with_made_tensors(_laid_out(request, opened, picked), opened)
    applied = laid.applied
    if not applied.tensors:
        raise WconvError(
            f"no tensor of {request.source} is left to write: look at --include, --exclude and --key"
        )
    empty = _check_fits(request, opened, laid, whole=not filtered)
    request = _with_room_for_config(request, laid)
    if request.optimizer and (request.single or request.kind.for_torch):
        raise WconvError(
            f"--optimizer writes a second file, for MLX: make {request.target} a directory of safetensors"
        )
    entries = dense = _entries(request, laid)
    made = _quantized(request, opened, laid, dense) if request.quantize is not None else None
    if made is not None:
        entries = made.entries
        laid = _of_bits(laid, made)
    plan = _plan(opened, laid, entries, request)
    state = _optimizer(request, opened, picked, entries) if request.optimizer else None
    if state is not None:
        more = state.plan.shards
        plan = dataclasses.replace(
            plan, shards=(*plan.shards, *more), beside=frozenset(shard.filename for shard in more)
        )
    files = (*opened.files, *(path for one in request.loras for path in one.files))
    files = tuple(dict.fromkeys((*files, *(state.files if state else ()))))
    in_directory = opened.path.is_dir() and not request.single
    beside = sidecars.find(request.source, files) if in_directory else None
    config, added, remarks = _config(request, opened, dense, laid, rewrite=beside is not None)
    if made is not None and config is not None:
        config = {**config, **made.config}
    has_config = request.single or (config or opened.config) is not None
    report = Report(
        source=request.source,
        output=request.target,
        model_type=str((opened.config or {}).get("model_type", "")),
        layout=laid.consumer,
        tensors_read=len(opened),
        tensors_written=len(entries),
        shards=tuple(shard.filename for shard in plan.shards),
        bytes_before=sum(path.stat().st_size for path in files),
        bytes_after=plan.nbytes,
        dtypes=changes((entry.tensor.dtype.name, entry.dtype.name) for entry in dense),
        kept=_kept(dense, request.dtype, applied),
        dropped={**filtered, **applied.dropped},
        skipped={name: reason for name, reason in opened.skipped.items() if name not in filtered},
        left_out=_left_out(opened, beside),
        config_added=added,
        notes=(
            *opened.notes,
            *applied.notes,
            *remarks,
            *_computed(dense, applied, picked),
            *_untied(applied, config),
            *empty,
            *_merged(request.loras),
            *(state.notes if state else ()),
        ),
        command=outputs.command(
            laid.command, request.target if has_config else request.target / plan.shards[0].filename
        ),
        unchanged=applied.unchanged,
        known=laid.known,
        quantization=made.summary if made is not None else None,
    )
    return Conversion(
        checkpoint=dataclasses.replace(opened, files=files),
        plan=plan,
        sources=decode.sources(_sources(applied, state, made), opened),
        config=config,
        sidecars=beside,
        report=report,
        parameters={**request.parameters(), "rules": laid.rules},
        states=states(files),
        config_name=laid.config_name,
        needs_header=laid.form is not None and laid.form.needs_header,
    )


def _quantized(request: Request, opened: Checkpoint, laid: LaidOut, dense: Sequence[Entry]) -> Quantized:
    if request.kind.for_torch or request.optimizer or request.quantize is None:
        what = "--optimizer" if request.optimizer else "--format pt"
        raise WconvError(f"-q and {what} exclude each other: quantized weights are for MLX's programs")
    config = laid.config or opened.config or {}
    model_type = str(config.get("model_type", ""))
    if laid.consumer == "mflux" and laid.table is not None:
        model_type = laid.table.model_types[0]
    return quantize_stage.quantize_entries(dense, laid.consumer, model_type, config, request.quantize)


def _of_bits(laid: LaidOut, made: Quantized) -> LaidOut:
    """A form whose header tells the bits tells these."""
    form = laid.form
    if form is None or made.level is None or "quantization_level" not in form.metadata:
        return laid
    metadata = {**form.metadata, "quantization_level": made.level}
    return dataclasses.replace(laid, form=dataclasses.replace(form, metadata=metadata))


def _sources(applied: Applied, state: _State | None, made: Quantized | None) -> dict[str, tuple[str, ...]]:
    """New names → names of the source."""
    sources = dict(applied.sources) if state or made else applied.sources
    if state is not None:
        sources = {**sources, **state.sources}
    if made is not None:
        sources = {**sources, **{new: sources[name] for new, name in made.sources.items()}}
    return sources


def _laid_out(request: Request, opened: Checkpoint, tensors: Mapping[str, LazyTensor]) -> LaidOut:
    """The tensors in their new layout, adapters merged into them."""

    def plainly(tensors: Mapping[str, LazyTensor]) -> LaidOut:
        return lay_out(
            request.layout,
            tensors,
            opened.description,
            rules=request.rules,
            types=opened.modules,
            options=request.options,
        )

    if request.loras:
        from wconv.lora import steps

        renames = steps.renames_of(opened.description, tensors)
        return steps.laid_out(plainly, tensors, request.loras, request.dtype, str(request.source), renames)
    if request.rules is None and request.layout != AS_STORED and _may_be_adapter(opened, tensors):
        from wconv.lora import steps

        if steps.is_adapter(opened, tensors):
            adapter = steps.convert_adapter(opened, tensors, request.layout)
            if adapter is not None:
                return adapter
    return plainly(tensors)


def _may_be_adapter(opened: Checkpoint, names: Iterable[str]) -> bool:
    """Whether a file is called as adapters are, or a name has in it what those of adapters have."""
    if FILES.fullmatch(opened.files[0].name):
        return True
    joined = "\n".join(names)
    return any(mark in joined for mark in MARKS)


def _with_made_tensors(laid: LaidOut, opened: Checkpoint) -> LaidOut:
    """With what the consumer keeps among the weights and the source in a file beside them."""
    settings = opened.path / SETTINGS
    maker = tensor_maker(laid.table)
    if maker is None or not opened.path.is_dir() or not settings.is_file():
        return laid
    made = maker(read_json(settings), laid.config or {})
    new = {name: tensor for name, tensor in made.items() if name not in laid.applied.tensors}
    applied = dataclasses.replace(
        laid.applied,
        tensors={**laid.applied.tensors, **new},
        sources={**laid.applied.sources, **dict.fromkeys(new, ())},
        notes=(*laid.applied.notes, *(f"{name}: made of {SETTINGS}" for name in new)),
    )
    return dataclasses.replace(laid, applied=applied)


def _check_fits(request: Request, opened: Checkpoint, laid: LaidOut, *, whole: bool) -> tuple[str, ...]:
    """Refuses a model's empty weights, and where it was asked for as a whole such as do not fit its config.

    Of tensors of which nothing is known, the empty ones are told.
    """
    applied = laid.applied
    if opened.description is None and laid.table is None:
        return tuple(f"{name:.200} is empty: it has no elements" for name in fits.empty(applied.tensors)[:3])
    fits.check_filled(applied.tensors, applied.sources)
    whole = whole and request.rules is None and not _may_be_adapter(opened, applied.tensors)
    if whole and request.layout in (registry.AUTO, *registry.automatic_names()):
        fits.check(applied.tensors, applied.sources, laid.config or opened.config, laid.table)
    return ()


def _untied(applied: Applied, config: Mapping[str, Any] | None) -> tuple[str, ...]:
    """What happened, or is to be done, where a head that is said to be tied is another matrix."""
    if config is not None:
        what = "config.json says so now: tie_word_embeddings is false"
    else:
        what = "load it with a config.json in which tie_word_embeddings is false"
    return tuple(f"{name} differs from the embedding and is kept; {what}" for name in applied.untied)


def _merged(loras: Sequence[Lora]) -> tuple[str, ...]:
    if not loras:
        return ()
    from wconv.lora import steps

    return steps.notes(loras)


def _with_room_for_config(request: Request, laid: LaidOut) -> Request:
    """Where the consumer wants a config beside the weights: a directory, named after what it is."""
    if request.kind.for_torch and laid.form is not None and laid.form.needs_header:
        raise OutputError(
            f"{laid.consumer} reads scales from the header of a safetensors file: make {request.target} one"
        )
    if laid.config is None:
        return request
    # where the layout was left to us, what came of it gives the name
    chosen = laid.consumer if laid.consumer and request.layout == registry.AUTO else request.layout
    mark = registry.output_suffix(chosen)
    if not request.given and (request.single or mark != registry.output_suffix(request.layout)):
        return dataclasses.replace(
            request, target=outputs.default_output(request.source, mark, directory=True)
        )
    if laid.config_name != "config.json" and (request.single or request.kind.for_torch):
        raise OutputError(
            f"{laid.consumer} reads safetensors and {laid.config_name}:"
            f" make {request.target} a directory of them"
        )
    return request


def _entries(request: Request, laid: LaidOut) -> list[Entry]:
    """Each tensor with the dtype in which it is written."""
    applied = laid.applied
    written = written_dtypes(
        applied.tensors,
        request.dtype,
        applied.keep_dtype,
        casts=laid.casts,
        for_torch=request.kind.for_torch,
    )
    return list(map(Entry, applied.tensors.keys(), applied.tensors.values(), written))


def _plan(
    opened: Checkpoint,
    laid: LaidOut,
    entries: Sequence[Entry],
    request: Request,
) -> Plan:
    """The model's files: in the consumer's own form, else named as the hub names them."""
    kind = request.kind
    stem = registry.file_stem(laid.consumer, opened.files[0].name)
    if stem:
        kind = file_formats.with_stem(kind, stem)
    form = laid.form if not kind.for_torch else None
    filename = request.target.name if request.single else None
    if form is not None and form.single and request.limit is None:
        filename = filename or form.shard
    plan = make(
        entries,
        form.metadata if form else _metadata(opened, laid.format),
        max_shard_size=request.limit or (form.max_shard_size if form else MAX_SHARD_SIZE),
        filename=filename,
        names=form.names if form else kind.names,
        shard=kind.shard,
    )
    index = kind.index if form is None or not form.single else f"{form.shard}.index.json"
    return dataclasses.replace(plan, index_name=index, about=form.metadata if form else None)


@dataclass(frozen=True, slots=True)
class _State:
    """The file of an optimizer's state: its plan, what each tensor is made of, what the user should know."""

    plan: Plan
    sources: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]
    files: tuple[Path, ...]


def _optimizer(
    request: Request, opened: Checkpoint, picked: dict[str, LazyTensor], weights: Sequence[Entry]
) -> _State:
    """Plans `optimizer.safetensors`; the state keeps its own dtype, for moments lose more than weights."""
    from wconv import optimizers

    state = optimizers.lay_out(opened, picked, lambda tensors: _laid_out(request, opened, tensors).applied)
    written = written_dtypes(state.tensors, None)
    entries = list(map(Entry, state.tensors.keys(), state.tensors.values(), written))
    planned = make(entries, state.metadata, filename=optimizers.FILENAME)
    kept = {entry.dtype.name for entry in entries if entry.name in state.sources}
    other = {entry.dtype.name for entry in weights if entry.dtype.is_floating}
    notes = list(state.notes)
    if kept and not kept <= other:
        text = f"the state is {', '.join(sorted(kept))}, the weights are {', '.join(sorted(other))}"
        notes.append(f"{text}: MLX's steps give weights of the wider dtype")
    return _State(planned, state.sources, tuple(notes), state.files)


def _metadata(opened: Checkpoint, promise: str | None) -> dict[str, str]:
    """The source's own header strings, and `format`: "mlx" promises final names, which only rules give."""
    texts = {name: value for name, value in opened.metadata.items() if isinstance(value, str)}
    strings = texts if opened.format == "safetensors" else {}
    return {**strings, "format": promise or strings.get("format", "pt")}


def _config(
    request: Request, opened: Checkpoint, entries: Sequence[Entry], laid: LaidOut, *, rewrite: bool
) -> tuple[dict[str, Any] | None, tuple[str, ...], tuple[str, ...]]:
    """config.json as it will be written, if it is, which fields it gained, and notes on it."""
    sizes = config_dtypes.sizes_of((entry.dtype, entry.tensor.size) for entry in entries)
    if laid.config is not None and not request.single:
        return config_dtypes.corrected(laid.config, sizes)[0], (), ()
    untied = laid.applied.untied
    if not rewrite or opened.config is None:
        return None, (), ()
    if laid.form is not None:
        config, said = config_dtypes.corrected(opened.config, sizes)
        if untied:
            return config_fields.untied(config), (), ()
        return config if said else None, (), ()
    config, added = config_fields.normalise(opened.config)
    dtype = config_dtypes.of_weights(sizes)
    said = ""
    if request.dtype is not None and dtype is not None:
        config = config_dtypes.with_dtype(config, dtype.name)
    else:
        config, said = config_dtypes.corrected(config, sizes)
    if untied:
        config = config_fields.untied(config)
    for name in laid.stale:
        config.pop(name, None)
    return config, added, (config_dtypes.note(said, sizes),) if said else ()


def _kept(entries: Sequence[Entry], requested: DType | None, applied: Applied) -> dict[str, str]:
    if requested is None:
        return {}
    kept: dict[str, str] = {}
    for entry in entries:
        if entry.dtype is not requested and entry.dtype.is_floating:
            why = applied.keep_why if entry.name in applied.keep_dtype else "bytes that the consumer decodes"
            kept[entry.name] = f"{entry.dtype.name}, {why}"
    return kept


def _computed(
    entries: Sequence[Entry], applied: Applied, picked: Mapping[str, LazyTensor]
) -> tuple[str, ...]:
    """A note on tensors that are cast before the consumer computes with them."""
    cast = [
        one for one in entries if one.name in applied.computed and one.dtype is not picked[one.name].dtype
    ]
    if not cast:
        return ()
    whose = {one.name: applied.computed[one.name] for one in cast}
    return (casts.note(whose, cast[0].dtype.name),)


def _left_out(opened: Checkpoint, beside: Sidecars | None) -> dict[str, str]:
    """Files of the source that the output lacks; what only looked like weights was copied."""
    if beside is None:
        return dict(opened.left_out)
    looked = {name: reason for name, reason in opened.left_out.items() if name not in beside.copied}
    return {**looked, **beside.left_out}
