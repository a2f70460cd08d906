"""Planning a conversion: everything that is decided before the first byte is read or written."""

from __future__ import annotations

import dataclasses
import os
from typing import Unpack

from wconv.consumers.lay_out import HUB
from wconv.consumers.registry import AUTO
from wconv.conversion import components, own_form
from wconv.conversion.components import Pipeline
from wconv.conversion.model import plan_model
from wconv.conversion.options import (
    ConvertArguments,
    ConvertOptions,
    check_layout_options,
    options_of,
    takes_options,
)
from wconv.conversion.planned import Conversion
from wconv.conversion.request import Request, make_request
from wconv.errors import FormatError, LayoutError, os_errors_as


@takes_options(ConvertArguments)
def prepare(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str] | None = None,
    **options: Unpack[ConvertArguments],
) -> Conversion:
    """Plans a conversion without reading a tensor or writing a byte.

    Args:
        src: a model directory or a weights file.
        dst: a directory, or a `.safetensors`, `.pt`, `.pth` or `.bin` file; beside the source when absent.
        options: `help(wconv.ConvertOptions)` describes each.

    Raises:
        WconvError: the source cannot be read, fits no layout, or an argument is wrong.

    Example:
        >>> planned = wconv.prepare("Logics-Parsing", dtype="float16")
        >>> planned.report.dtypes
        {'bfloat16 → float16': 1}
    """
    return plan(src, dst, options_of("prepare", options))


def _of_another_form(request: Request, pipeline: Pipeline, own: str) -> Pipeline:
    """The pipeline that a program has written, for another layout: the hub's is what its tables undo."""
    quantized = any(own_form.is_quantized(one.path) for one in pipeline.components)
    plain = request.options.dequantize or not quantized
    if request.layout == HUB and request.options.rules is None and plain:
        picked = request.options.component
        try:
            known = components.find_components(request.source, own, picked=picked)
        except LayoutError:
            known = None
        layouts = {one.name: one.layout for one in known.components} if known is not None else {}
        if all(layouts.get(one.name) is not None for one in pipeline.components):
            undone = (
                dataclasses.replace(one, layout=layouts[one.name], undone=True) for one in pipeline.components
            )
            return dataclasses.replace(pipeline, components=tuple(undone))
    return dataclasses.replace(pipeline, command="", known=own_form.nothing_undoes(own))


@os_errors_as(FormatError, "read")
def plan(
    src: str | os.PathLike[str], dst: str | os.PathLike[str] | None, options: ConvertOptions
) -> Conversion:
    """What `prepare` does, for options that are one object."""
    request = make_request(src, dst, options)
    pipeline = components.find_components(
        request.source, request.layout, picked=options.component, variant=options.variant
    )
    own = own_form.written_by(one.path for one in pipeline.components) if pipeline is not None else None
    if pipeline is not None and own is not None and request.layout == AUTO and options.rules is None:
        # what its program has written stays in that program's form
        request = dataclasses.replace(request, layout=own)
        pipeline = components.find_components(
            request.source, own, picked=options.component, variant=options.variant
        )
    elif pipeline is not None and own is not None and request.layout != own:
        pipeline = _of_another_form(request, pipeline, own)
    if pipeline is None:
        placed = own_form.layout_of_place(request.source, request.layout)
        conversion = plan_model(request if placed is None else dataclasses.replace(request, layout=placed))
    else:
        from wconv.conversion.pipeline import plan_pipeline

        conversion = plan_pipeline(request, pipeline)
    if options.options:
        report = conversion.report
        whose = f"{request.source} for {report.layout}" if report.layout else str(request.source)
        check_layout_options(options.options, conversion.layout_options, whose)
    return conversion
