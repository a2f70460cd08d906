"""A directory of several components: each is planned by itself, then all are one conversion."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wconv.checkpoints.checkpoint import Checkpoint
from wconv.consumers import registry
from wconv.consumers.lay_out import AS_STORED, HUB, NoLayoutError
from wconv.conversion.components import Component, Pipeline
from wconv.conversion.decode import nothing_to_decode
from wconv.conversion.model import plan_model
from wconv.conversion.planned import Conversion
from wconv.conversion.quantization_summary import joined as joined_summary
from wconv.conversion.report import Report, command_for
from wconv.conversion.request import Request
from wconv.errors import LayoutError, WconvError
from wconv.wording import gigabytes
from wconv.writing import sidecars
from wconv.writing.plan import Plan, within

if TYPE_CHECKING:
    from wconv.lora.read import Lora


def plan_pipeline(request: Request, pipeline: Pipeline) -> Conversion:
    """Plans each component of a directory that has several, and joins what comes of them.

    Raises:
        WconvError: one cannot be converted, or the request is for one model.
        LayoutError: the layout that was asked for knows none of them.
    """
    if request.single or request.options.optimizer:
        what = "--optimizer is for one model"
        what = what if request.options.optimizer else f"{request.target} is the name of a file"
        raise WconvError(f"{request.source} has several components: {what}")
    loras: Mapping[str, Sequence[Lora]] = {}
    if request.loras:
        from wconv.lora import steps

        loras = steps.share(request.loras, {one.name for one in pipeline.components})
    parts = {one.name: _component(request, one, loras.get(one.name, ())) for one in pipeline.components}
    of_consumer = isinstance(request.layout, str) and request.layout not in ("auto", HUB, AS_STORED)
    by_tables = of_consumer and request.options.rules is None
    if by_tables and all(part.report.layout is None for part in parts.values()):
        raise LayoutError(
            f"--layout {request.layout} has no rules for any component of {request.source}:"
            " --layout auto or hf keeps their names and layouts"
        )
    if request.options.dequantize and not any(part.checkpoint.made_of for part in parts.values()):
        raise nothing_to_decode(request)
    if request.options.quantize is not None:
        _check_quantized(request, parts)
    return join(pipeline, request.target, parts)


def _check_quantized(request: Request, parts: Mapping[str, Conversion]) -> None:
    """Refuses to quantize a model of which no component is.

    Raises:
        WconvError: it is so.
    """
    summaries = [part.report.quantization for part in parts.values() if part.report.quantization is not None]
    if not summaries:
        readers = ", ".join(one.name for one in registry.quantizing())
        raise WconvError(
            f"-q needs a model that is laid out for {readers}, and no component of {request.source} is:"
            " choose one of them by --layout"
        )
    if not any(summary.weights for summary in summaries):
        raise WconvError(f"-q found no weight to quantize in {request.source}: see --dry-run for its tensors")


def _component(request: Request, component: Component, loras: Sequence[Lora]) -> Conversion:
    """Plans one component; where "auto" finds a table that does not fit it, its names stay as they are."""
    own = dataclasses.replace(
        request,
        source=component.path,
        target=request.target / component.name,
        target_given=True,
        layout=component.layout or request.layout,
        variant=component.variant,
        loras=tuple(loras),
        part=True,
    )
    if component.undone:
        options = dataclasses.replace(request.options, rules=component.layout)
        return plan_model(dataclasses.replace(own, layout=HUB, options=options))
    try:
        return plan_model(own)
    except LayoutError as error:
        lacking = isinstance(error, NoLayoutError)
        if own.options.rules is not None or (own.layout != "auto" and not lacking):
            raise
        kept = plan_model(dataclasses.replace(own, layout=HUB))
        if lacking:
            return kept
        note = f"names and layouts unchanged: {error}"
        report = dataclasses.replace(kept.report, notes=(*kept.report.notes, note))
        return dataclasses.replace(kept, report=report)


def join(found: Pipeline, target: Path, parts: Mapping[str, Conversion]) -> Conversion:
    """One conversion out of one for each component, with one plan, one report and all other files."""
    plans = {name: part.plan for name, part in parts.items()}
    shards = tuple(
        dataclasses.replace(shard, filename=within(name, shard.filename))
        for name, plan in plans.items()
        for shard in plan.shards
    )
    plan = Plan(shards)
    files = tuple(file for part in parts.values() for file in part.checkpoint.files)
    names = tuple(parts)
    side_files = sidecars.find(found.path, files, components=names, picked=found.picked)
    first = next(iter(parts.values()))
    return dataclasses.replace(
        first,
        checkpoint=Checkpoint(found.path, first.checkpoint.format, {}, files),
        plan=plan,
        sources=_labelled({name: part.sources for name, part in parts.items()}),
        config=None,
        sidecars=side_files,
        report=_joined_report(
            found, target, plan, {name: part.report for name, part in parts.items()}, side_files
        ),
        parameters={"components": {name: dict(part.parameters) for name, part in parts.items()}},
        stamps=tuple(stamp for part in parts.values() for stamp in part.stamps),
        parts=parts,
        layout_options={
            name: value for part in parts.values() for name, value in part.layout_options.items()
        },
    )


def _joined_report(
    found: Pipeline, target: Path, plan: Plan, reports: Mapping[str, Report], side_files: sidecars.Sidecars
) -> Report:
    dtypes: Counter[str] = Counter()
    for report in reports.values():
        dtypes.update(report.dtypes)
    consumers = {report.layout for report in reports.values()}
    # a family's own layouts make one model; those that the components have alone do not
    known = (registry.find_consumer(name) for name in consumers if name)
    has_own = any(one is not None and one.role == "automatic" for one in known)
    foreign = found.command == registry.pipeline_command() and has_own
    notes = [f"{name}: {note}" for name, report in reports.items() for note in report.notes]
    return Report(
        source=found.path,
        output=target,
        model_type=found.kind,
        layout=consumers.pop() if len(consumers) == 1 else None,
        tensors_read=sum(report.tensors_read for report in reports.values()),
        tensors_written=sum(report.tensors_written for report in reports.values()),
        shards=tuple(shard.filename for shard in plan.shards),
        bytes_before=sum(report.bytes_before for report in reports.values()),
        bytes_after=plan.nbytes,
        dtypes=dict(dtypes.most_common()),
        kept=_labelled({name: report.kept for name, report in reports.items()}),
        dropped=_labelled({name: report.dropped for name, report in reports.items()}),
        skipped=_labelled({name: report.skipped for name, report in reports.items()}),
        left_out=side_files.left_out,
        config_added=tuple(f"{name}/{field}" for name, one in reports.items() for field in one.config_added),
        notes=(*found.notes, *notes),
        command="" if foreign or not found.command else command_for(found.command, target),
        known=f"the components are not all in the layout of a {found.kind}: load each by itself"
        if foreign
        else found.known,
        unchanged=_labelled({name: report.unchanged for name, report in reports.items()}),
        quantization=joined_summary(
            {name: report.quantization for name, report in reports.items() if report.quantization}
        ),
        components={name: f"{_whose(one)}, {gigabytes(one.bytes_after)}" for name, one in reports.items()},
    )


def _labelled(by_component: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {within(name, key): value for name, one in by_component.items() for key, value in one.items()}


def _whose(report: Report) -> str:
    return f"laid out for {report.layout}" if report.layout else "names and layouts unchanged"
