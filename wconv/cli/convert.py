"""`wconv convert SOURCE`, which is also `wconv SOURCE`."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wconv.cli.gguf import gguf_wanted, write_gguf
from wconv.cli.options import (
    HELP,
    PATH,
    SOURCE,
    GroupedCommand,
    located,
    named_values,
    option,
)
from wconv.cli.text import print_json, print_lines, show_plan
from wconv.consumers import registry
from wconv.consumers.mlx.dtypes import SUBSTITUTES, TARGETS
from wconv.errors import WconvError

if TYPE_CHECKING:
    from wconv.consumers.quantization.recipes import Quantize
    from wconv.conversion.planned import Conversion


def _dtype_table() -> str:
    rows = (f"{row.source:16} → {row.written:10} {row.summary}" for row in SUBSTITUTES)
    return "\b\nWhat MLX cannot hold is written as (--dtype goes first for floating types):\n" + "\n".join(
        rows
    )


def _complete_layout(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    return [
        name
        for name in (*registry.layout_names(), *registry.adapter_layout_names())
        if name.startswith(incomplete)
    ]


def _dtype_name(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The dtype that weights are to be written in, by any of its names: "fp16", "torch.float16"."""
    if value is None:
        return None
    from wconv.tensors import dtypes

    with contextlib.suppress(WconvError):
        name = dtypes.by_name(value).name
        if name in TARGETS:
            return name
    raise click.BadParameter(f"{value[:60]!r} is not one of {', '.join(TARGETS)}.")


def _complete_dtype(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in TARGETS if name.startswith(incomplete)]


def _executor_name(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The name of an executor, as it was given. Raises: `click.BadParameter`."""
    if value is not None:
        from wconv import engines

        try:
            engines.parse(value)
        except WconvError as error:
            raise click.BadParameter(f"{error}.") from None
    return value


LAYOUTS = (
    f"{', '.join(name for name in registry.layout_names() if name not in registry.way_back_names())};"
    f" back: {' or '.join(registry.way_back_names())}."
    f" Adapters also: {', '.join(registry.adapter_layout_names())}.  [default: auto]"
)
RESULT, QUANTIZE, WHAT = "The result", "Quantization", "What is converted"
HOW, RUN, SUMMARY = "How it is read", "The run", "Messages"


@click.command(cls=GroupedCommand, epilog=_dtype_table(), context_settings=HELP)
@click.argument("source", type=SOURCE, required=False)
@click.argument("destination", type=PATH, required=False)
@click.option("--hf-path", "--model", "model", type=SOURCE, hidden=True)
@option(
    RESULT,
    "-o",
    "--output",
    "--mlx-path",
    type=PATH,
    metavar="PATH",
    help="DESTINATION by its other names: a directory, or a .safetensors or .pt file.",
)
@option(
    RESULT,
    "--dtype",
    metavar="DTYPE",
    callback=_dtype_name,
    shell_complete=_complete_dtype,
    help=f"Cast floating tensors: {', '.join(TARGETS)}; their own by default.",
)
@option(RESULT, "--layout", default="auto", metavar="NAME", help=LAYOUTS, shell_complete=_complete_layout)
@option(
    RESULT,
    "--format",
    type=click.Choice(["safetensors", "pt", "dcp", "gguf"]),
    help="pt: files that torch loads, in the hub's layout; dcp: a distributed checkpoint of one rank; gguf:"
    " for llama.cpp.",
)
@option(
    RESULT,
    "--rules",
    type=PATH,
    metavar="FILE",
    help="Rules of your own; see wconv rules.",
)
@option(RESULT, "--max-shard-size", metavar="SIZE", help="500MB, 1G, …; 5GB by default, 2GiB for mflux.")
@option(
    RESULT, "--optimizer", is_flag=True, help="Write the state of Adam, AdamW or SGD for mlx.optimizers too."
)
@option(
    RESULT,
    "--merge-lora",
    metavar="FILE[:SCALE]",
    multiple=True,
    help="Add an adapter to the weights; repeatable.",
)
@option(QUANTIZE, "-q", "--quantize", is_flag=True, help="Quantize, as the -q of mlx_lm.convert.")
@option(QUANTIZE, "--q-bits", type=click.IntRange(1, 64), help="Bits of a weight: 4 by default, 8 for mxfp8.")
@option(QUANTIZE, "--q-group-size", type=click.IntRange(1, 1_000_000), help="Weights that share a scale.")
@option(QUANTIZE, "--q-mode", metavar="MODE", help="affine (the default), mxfp4, mxfp8 or nvfp4.")
@option(QUANTIZE, "--quant-predicate", metavar="RECIPE", help="mixed_2_6, mixed_3_4, mixed_3_6, mixed_4_6.")
@option(
    QUANTIZE,
    "--q-rule",
    metavar="REGEX=BITS[:GROUP[:MODE]]",
    multiple=True,
    help="Layers stored in another way, or =none: dense; the last rule holds.",
)
@option(
    QUANTIZE,
    "--q-like",
    metavar="VERSION",
    help="Round as that MLX (0.29.4 to 0.32.4): mxfp4 and mxfp8 changed in 0.32.2.",
)
@option(QUANTIZE, "--q-report", type=PATH, metavar="FILE", help="Write the error of every weight, as JSON.")
@option(QUANTIZE, "-d", "--dequantize", is_flag=True, help="Decode weights in few bits, all of them.")
@option(WHAT, "--include", metavar="REGEX", help="Convert only tensors whose source name matches.")
@option(WHAT, "--exclude", metavar="REGEX", help="Leave out tensors whose source name matches.")
@option(WHAT, "--component", metavar="NAME", multiple=True, help="Of a pipeline, only this; repeatable.")
@option(WHAT, "--variant", metavar="NAME", help="Take the weights called so, as model.fp16.safetensors.")
@option(
    WHAT,
    "--option",
    "options",
    metavar="NAME=VALUE",
    multiple=True,
    callback=named_values,
    help="What a layout lets one choose, as include_fov=true; repeatable.",
)
@click.option("--include-fov", is_flag=True, hidden=True)
@option(HOW, "--key", metavar="PATH", help="Where the state dict lies in a wrapped PyTorch checkpoint.")
@option(HOW, "--config", type=PATH, metavar="DIR", help="Where config.json and the tokenizer are.")
@option(HOW, "--revision", metavar="NAME", help="Of a model of the hub: a branch, tag or commit.")
@option(HOW, "--token", metavar="TOKEN", help="For the hub, in place of HF_TOKEN or a login.")
@option(HOW, "--allow-inflation", is_flag=True, help="Allow tensors far larger than their file.")
@click.option("--expand", is_flag=True, hidden=True)
@option(HOW, "--skip-unreadable", is_flag=True, help="Go on without tensors that cannot be read.")
@option(RUN, "--overwrite", is_flag=True, help="Replace an existing output.")
@option(RUN, "--resume", is_flag=True, help="Continue an interrupted run.")
@option(RUN, "--strict", is_flag=True, help="Make a value that overflows an error.")
@option(RUN, "--dry-run", is_flag=True, help="Print the plan and write nothing.")
@option(RUN, "--verify", is_flag=True, help="Read the result again and prove that every byte is right.")
@option(
    RUN,
    "--receipt",
    type=PATH,
    metavar="FILE",
    help="Write what it was made of, and a digest of every tensor, as JSON.",
)
@option(
    RUN, "--no-sync", is_flag=True, help="Do not wait for the disk: a power loss may then empty the output."
)
@option(RUN, "-j", "--jobs", type=click.IntRange(1, 1_000_000), help="Threads; one for each core by default.")
@option(
    RUN,
    "--executor",
    metavar="NAME",
    callback=_executor_name,
    help="Write each file elsewhere: processes:N, dask://HOST:PORT, ray, mpi; see wconv docs clusters.",
)
@option(SUMMARY, "--quiet", is_flag=True, help="Print nothing but errors.")
@option(SUMMARY, "--json", "as_json", is_flag=True, help="Print the summary, or the error, as JSON.")
def convert(
    overwrite: bool,
    resume: bool,
    strict: bool,
    dry_run: bool,
    verify: bool,
    receipt: Path | None,
    no_sync: bool,
    jobs: int | None,
    executor: str | None,
    quiet: bool,
    as_json: bool,
    q_report: Path | None,
    **parameters: Any,
) -> None:
    """Convert SOURCE, a Hugging Face model directory or a weights file, to MLX.

    SOURCE may be on the hub (org/name) or at an address: it is read from there, and never whole on this disk.

    The result is DESTINATION, or SOURCE-MLX beside the source. Nothing appears there before it is complete.
    """
    from wconv.conversion.run import run

    if gguf_wanted(parameters):
        others = {"-q": parameters["quantize"], "--resume": resume, "--dry-run": dry_run, "--verify": verify}
        others |= {
            "--receipt": receipt,
            "--optimizer": parameters["optimizer"],
            "--rules": parameters["rules"],
        }
        places = _places(*(parameters[name] for name in ("source", "destination", "model", "output")))
        lines = write_gguf(*places, others, parameters, overwrite=overwrite, jobs=jobs)
        if not quiet:
            print_json({"lines": lines}) if as_json else print_lines(lines)
        return
    if q_report is not None and not parameters["quantize"]:
        raise click.UsageError(NOT_QUANTIZED)
    if q_report is not None and dry_run:
        raise click.UsageError("--q-report tells what a run has done: leave it or --dry-run out")
    if jobs is not None and executor is not None:
        raise click.UsageError(
            "--jobs is for threads here: an executor has as many workers as it has; say processes:N"
        )
    prepared = planned(**parameters)
    if q_report is not None:
        from wconv.conversion.quantize import check_report

        check_report(prepared, q_report, overwrite=overwrite)
    if dry_run:
        show_plan(prepared, quiet=quiet, as_json=as_json)
        return
    progress = None
    if not quiet and not as_json:
        from wconv.cli.progress import for_stream

        progress = for_stream(sys.stderr, prepared.plan.nbytes)
    try:
        report = run(
            prepared,
            overwrite=overwrite,
            resume=resume,
            strict=strict,
            jobs=jobs,
            executor=executor,
            progress=progress,
            sync=not no_sync,
        )
    finally:
        if progress is not None:
            progress.clear()
    if q_report is not None:
        from wconv.conversion.quantize import write_report

        write_report(prepared, q_report)
    proof = None
    if verify:
        from wconv.examine.verify import verify_planned

        proof = verify_planned(prepared, jobs=jobs)
    if receipt is not None:
        from wconv.examine.receipt import write_receipt

        write_receipt(prepared, receipt, jobs=jobs)
    if as_json:
        print_json({**report.to_dict(), **({"verified": proof.to_dict()} if proof is not None else {})})
    elif not quiet:
        print_lines([*report.lines(), *(proof.lines() if proof is not None else ()), *report.closing_lines()])
    if proof is not None and not proof.proved:
        sys.exit(1)


def planned(
    *,
    source: str | None,
    destination: Path | None,
    model: str | None,
    output: Path | None,
    revision: str | None,
    token: str | None,
    options: dict[str, Any],
    include_fov: bool,
    allow_inflation: bool,
    expand: bool,
    quantize: bool,
    q_bits: int | None,
    q_group_size: int | None,
    q_mode: str | None,
    quant_predicate: str | None,
    q_rule: tuple[str, ...],
    q_like: str | None,
    **parameters: Any,
) -> Conversion:
    """The conversion that the command's options ask for, planned."""
    from wconv.conversion.prepare import prepare

    if include_fov:
        options = {"include_fov": True, **options}
    source, output = _places(source, destination, model, output)
    return prepare(
        located(source, revision, token),
        output,
        options=options,
        allow_inflation=allow_inflation or expand,
        quantize=_recipe(quantize, q_bits, q_group_size, q_mode, quant_predicate, q_rule, q_like),
        **parameters,
    )


NOT_QUANTIZED = "--q-bits and its like say how to quantize: add -q"


def _recipe(
    wanted: bool,
    bits: int | None,
    group_size: int | None,
    mode: str | None,
    predicate: str | None,
    rules: tuple[str, ...],
    like: str | None,
) -> Quantize | None:
    """How the model is to be quantized; None where it is not."""
    if not wanted:
        if bits or group_size or mode or predicate or rules or like:
            raise click.UsageError(NOT_QUANTIZED)
        return None
    from wconv.conversion.quantize import make_recipe

    return make_recipe(
        mode=mode or "affine",
        bits=bits,
        group_size=group_size,
        predicate=predicate,
        rules=rules,
        like=like,
    )


def _places(
    source: str | None, destination: Path | None, model: str | None, output: Path | None
) -> tuple[str, Path | None]:
    """The source and the destination, each of which has two ways to be said but may be said once."""
    if model is not None:
        if destination is not None:
            raise click.UsageError("the source is given twice, as SOURCE and with --hf-path or --model")
        source, destination = model, None if source is None else Path(source)
    if source is None:
        raise click.UsageError("Missing argument 'SOURCE'.")
    if destination is not None and output is not None:
        raise click.UsageError(f"the output is given twice: {destination} and {output}")
    return source, destination if destination is not None else output
