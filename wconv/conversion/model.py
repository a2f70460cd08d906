"""One model, planned: the stages, then what is written beside the weights, and what the report will say."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from wconv.checkpoints.checkpoint import Checkpoint
from wconv.consumers import fits, registry
from wconv.consumers.lay_out import PreparedModel
from wconv.conversion import outputs, report_facts, stages
from wconv.conversion.config import as_read, untied_notes, written_config
from wconv.conversion.planned import Conversion, stamps_of
from wconv.conversion.report import Report, changes
from wconv.conversion.request import Request
from wconv.errors import OutputError, WconvError
from wconv.quantized.names import LEVEL
from wconv.stores import files as stored
from wconv.writing import file_formats, sidecars

if TYPE_CHECKING:
    from wconv.conversion.quantize import Quantized


def plan_model(request: Request) -> Conversion:
    """Plans the conversion of one model.

    Raises:
        WconvError: it cannot be read, does not fit the layout, or the output cannot be what was asked for.
    """
    picked = stages.pick(request)
    opened = picked.opened
    request = dataclasses.replace(request, dtype=picked.dtype)
    laid = stages.merge_and_lay_out(request, opened, picked.tensors)
    laid = stages.with_made_tensors(laid, opened)
    applied = laid.applied
    if not applied.tensors:
        raise WconvError(
            f"no tensor of {request.source} is left to write: look at --include, --exclude and --key"
        )
    empty = _check_fits(request, opened, laid, whole=not picked.filtered)
    request = _with_room_for_config(request, laid)
    if request.options.optimizer and (request.single or request.file_format.for_torch):
        raise WconvError(
            f"--optimizer writes a second file, for MLX: make {request.target} a directory of safetensors"
        )
    dense = stages.cast(request, laid)
    made = stages.quantize(request, opened, laid, dense)
    packed = stages.keep_packed(request, opened, laid, dense)
    new = made or packed
    entries = dense if new is None else new.entries
    dense = dense if packed is None else packed.dense
    laid = _with_bits(request, opened, laid, made)
    plan = stages.plan(request, opened, laid, entries)
    state = None
    if request.options.optimizer:
        from wconv.conversion.optimizer_state import plan_optimizer

        state = plan_optimizer(request, picked, entries)
        more = state.plan.shards
        plan = dataclasses.replace(
            plan, shards=(*plan.shards, *more), beside=frozenset(shard.filename for shard in more)
        )
    files = (*opened.files, *(path for lora in request.loras for path in lora.files))
    files = tuple(dict.fromkeys((*files, *(state.files if state else ()))))
    side_files = None
    if opened.beside is not None and not request.single:
        side_files = sidecars.find(opened.beside, files, only=sidecars.OF_MODELS)
    elif opened.path.is_dir() and not request.single:
        side_files = sidecars.find(request.source, files)
    config = written_config(request, opened, dense, laid, has_sidecars=side_files is not None)
    if new is not None and config.fields is not None:
        config = dataclasses.replace(config, fields={**config.fields, **new.config})
    has_config = request.single or (config.fields or opened.config) is not None
    filtered = picked.filtered
    report = Report(
        source=request.source,
        output=request.target,
        model_type=str((opened.config or {}).get("model_type", "")),
        layout=laid.consumer,
        tensors_read=len(opened),
        tensors_written=len(entries),
        shards=tuple(shard.filename for shard in plan.shards),
        bytes_before=sum(stored.size(str(path)) for path in files),
        bytes_after=plan.nbytes,
        dtypes=changes((entry.tensor.dtype.name, entry.dtype.name) for entry in dense),
        kept=report_facts.kept(dense, request.dtype, applied),
        dropped={**filtered, **applied.dropped},
        skipped={name: reason for name, reason in opened.skipped.items() if name not in filtered},
        left_out=report_facts.left_out(opened, side_files),
        config_added=config.added,
        notes=(
            *opened.notes,
            *applied.notes,
            *(packed.notes if packed else ()),
            *config.notes,
            *report_facts.computed(dense, applied, picked.tensors),
            *untied_notes(applied.untied, config.fields),
            *empty,
            *report_facts.merged(request.loras),
            *(state.notes if state else ()),
            *report_facts.since(laid.consumer, laid.command, opened.config),
        ),
        command=outputs.command(
            laid.command if request.file_format is not file_formats.DCP else outputs.LOAD_DISTRIBUTED,
            request.target
            if has_config or request.file_format is file_formats.DCP
            else request.target / plan.shards[0].filename,
        ),
        unchanged=applied.unchanged,
        known=laid.known,
        quantization=made.summary if made is not None else None,
    )
    return Conversion(
        checkpoint=dataclasses.replace(opened, files=files),
        plan=plan,
        sources=report_facts.sources(applied, opened, state.sources if state else {}, new),
        config=config.fields,
        sidecars=side_files,
        report=report,
        parameters={**request.parameters(), "rules": laid.rules},
        stamps=stamps_of(files),
        config_name=laid.config_name,
        needs_header=laid.form is not None and laid.form.needs_header,
        layout_options=laid.options,
    )


def _with_bits(
    request: Request, opened: Checkpoint, laid: PreparedModel, made: Quantized | None
) -> PreparedModel:
    """A form whose header tells the bits tells those of the weights: made here, or left as they are."""
    form, level = laid.form, opened.metadata.get(LEVEL)
    if made is not None:
        level = made.level
    elif request.options.dequantize or not (isinstance(level, str) and re.fullmatch("[0-9]", level)):
        return laid
    if form is None or LEVEL not in form.metadata:
        return laid
    metadata = {**form.metadata, LEVEL: level}
    return dataclasses.replace(laid, form=dataclasses.replace(form, metadata=metadata))


def _check_fits(request: Request, opened: Checkpoint, laid: PreparedModel, *, whole: bool) -> tuple[str, ...]:
    """Refuses a model's empty weights, and where it was asked for as a whole such as do not fit its config.

    Of tensors of which nothing is known, the empty ones are told.
    """
    applied = laid.applied
    if opened.description is None and laid.table is None:
        return tuple(f"{name:.200} is empty: it has no elements" for name in fits.empty(applied.tensors)[:3])
    fits.check_filled(applied.tensors, applied.sources)
    by_tables = request.options.rules is None and request.layout in (
        registry.AUTO,
        *registry.automatic_names(),
    )
    if whole and by_tables and not stages.may_be_adapter(opened, applied.tensors):
        config = laid.config or as_read(opened.config, applied.untied)
        # of models that were quantized, only what their config.json says plainly is compared
        program = None if opened.quantization or opened.made_of else laid.consumer
        fits.check(applied.tensors, applied.sources, config, laid.table, program)
    return ()


def _with_room_for_config(request: Request, laid: PreparedModel) -> Request:
    """Where the consumer wants a config beside the weights: a directory, named after what it is."""
    if request.file_format.for_torch and laid.form is not None and laid.form.needs_header:
        raise OutputError(
            f"{laid.consumer} reads scales from the header of a safetensors file: make {request.target} one"
        )
    if laid.config is None:
        return request
    # where the layout was left to us, what came of it gives the name
    chosen = laid.consumer if laid.consumer and request.layout == registry.AUTO else request.layout
    mark = registry.output_suffix(chosen)
    if not request.target_given and (request.single or mark != registry.output_suffix(request.layout)):
        return dataclasses.replace(
            request, target=outputs.default_output(request.source, mark, directory=True)
        )
    if laid.config_name != "config.json" and (request.single or request.file_format.for_torch):
        raise OutputError(
            f"{laid.consumer} reads safetensors and {laid.config_name}:"
            f" make {request.target} a directory of them"
        )
    return request
