"""`wconv convert SOURCE`, which is also `wconv SOURCE`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wconv.cli import gguf
from wconv.cli.options import (
    HELP,
    PATH,
    SOURCE,
    located,
    named_values,
    option,
)
from wconv.cli.places import places
from wconv.cli.proofs import VERIFY_LOAD, ConvertCommand, VerifyOption, check_before, proofs_of
from wconv.cli.text import print_json, print_lines, show_plan
from wconv.cli.uploading import uploaded, uploading
from wconv.cli.values import complete_dtype, complete_layout, dtype_name, dtype_table, executor_name
from wconv.consumers import registry
from wconv.consumers.mlx.dtypes import TARGETS

if TYPE_CHECKING:
    from wconv.consumers.quantization.recipes import Quantize
    from wconv.conversion.planned import Conversion


LAYOUTS = (
    f"{', '.join(name for name in registry.layout_names() if name not in registry.way_back_names())};"
    f" back: {' or '.join(registry.way_back_names())}."
    f" Adapters also: {', '.join(registry.adapter_layout_names())}.  [default: auto]"
)
RESULT, QUANTIZE, WHAT = "The result", "Quantization", "What is converted"
HOW, RUN, SUMMARY = "How it is read", "The run", "Messages"


@click.command(cls=ConvertCommand, epilog=dtype_table(), context_settings=HELP)
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
    callback=dtype_name,
    shell_complete=complete_dtype,
    help=f"Cast floating tensors: {', '.join(TARGETS)}; their own by default.",
)
@option(RESULT, "--layout", default="auto", metavar="NAME", help=LAYOUTS, shell_complete=complete_layout)
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
@option(HOW, "--keep-source", is_flag=True, help="Keep what is fetched of a model of the hub in its cache.")
@option(HOW, "--bandwidth", metavar="SIZE", help="Bytes that are fetched a second at most: 10MB, 1GiB, …")
@option(HOW, "--allow-inflation", is_flag=True, help="Allow tensors far larger than their file.")
@click.option("--expand", is_flag=True, hidden=True)
@option(HOW, "--skip-unreadable", is_flag=True, help="Go on without tensors that cannot be read.")
@option(
    RUN,
    "--also",
    metavar="NAME:OPTIONS",
    multiple=True,
    help="Make one more output of the same reading, as --also q4:'-q'; repeatable.",
)
@option(RUN, "--overwrite", is_flag=True, help="Replace an existing output.")
@option(RUN, "--resume", is_flag=True, help="Continue an interrupted run.")
@option(RUN, "--strict", is_flag=True, help="Make a value that overflows an error.")
@option(
    RUN, "--upload-repo", metavar="ORG/NAME", help="Upload the result to the hub, with a card and a receipt."
)
@option(RUN, "--dry-run", is_flag=True, help="Print the plan and write nothing.")
@option(
    RUN,
    "--verify",
    cls=VerifyOption,
    is_flag=True,
    help="Read the result again and prove that every byte is right; =load: have its program load it, too.",
)
@click.option(VERIFY_LOAD, is_flag=True, hidden=True)
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
    callback=executor_name,
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
    verify_load: bool,
    upload_repo: str | None,
    receipt: Path | None,
    no_sync: bool,
    jobs: int | None,
    executor: str | None,
    also: tuple[str, ...],
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

    if gguf.is_wanted(parameters):
        others = {"-q": parameters["quantize"], "--resume": resume, "--dry-run": dry_run, "--verify": verify}
        others |= {
            "--receipt": receipt,
            "--optimizer": parameters["optimizer"],
            "--rules": parameters["rules"],
        }
        lines = gguf.write_gguf(others, parameters, overwrite=overwrite, jobs=jobs)
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
    if also:
        from wconv.cli.also import convert_several, parsed

        if any(given is not None for given in (receipt, q_report, executor, upload_repo)):
            raise click.UsageError(
                "--receipt, --q-report, --executor and --upload-repo are for one output:"
                " leave them or --also out"
            )
        how = {"overwrite": overwrite, "resume": resume, "strict": strict, "jobs": jobs, "sync": not no_sync}
        outputs = parsed(convert, also)
        show = {"dry_run": dry_run, "verify": verify, "quiet": quiet, "as_json": as_json}
        convert_several(parameters, outputs, asked, how, **show)
        return
    wanted = uploading(parameters, None if dry_run else upload_repo, overwrite=overwrite)
    upload = click.get_current_context().with_resource(wanted)
    prepared = planned(**parameters)
    if q_report is not None:
        from wconv.conversion.quantize import check_report

        check_report(prepared, q_report, overwrite=overwrite)
    if dry_run:
        show_plan(prepared, quiet=quiet, as_json=as_json)
        return
    if verify_load:
        check_before(prepared)
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
    proofs = proofs_of(prepared, report, load=verify_load, jobs=jobs) if verify or verify_load else ()
    if upload is not None and upload.repository and prepared.report.output.suffix == "":
        receipt = receipt or prepared.report.output / "wconv.json"
    if receipt is not None:
        from wconv.examine.receipt import write_receipt

        write_receipt(prepared, receipt, jobs=jobs)
    report, sent = uploaded(upload, report) if all(proof.good for proof in proofs) else (report, [])
    if as_json:
        print_json({**report.to_dict(), **{proof.name: proof.found.to_dict() for proof in proofs}})
    elif not quiet:
        proved = (line for proof in proofs for line in proof.found.lines())
        print_lines([*report.lines(), *proved, *report.closing_lines(), *sent])
    if not all(proof.good for proof in proofs):
        sys.exit(1)


def planned(**parameters: Any) -> Conversion:
    """The conversion that the command's options ask for, planned."""
    from wconv.conversion.prepare import prepare

    source, output, arguments = asked(**parameters)
    return prepare(source, output, **arguments)


def asked(
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
    keep_source: bool = False,
    bandwidth: str | None = None,
    **parameters: Any,
) -> tuple[str | Path, Path | None, dict[str, Any]]:
    """The source, the output and the arguments of `prepare` that the command's options ask for."""
    if bandwidth is not None:
        from wconv.conversion.request import limit_bandwidth

        limit_bandwidth(bandwidth)
    if include_fov:
        options = {"include_fov": True, **options}
    source, output = places(source, destination, model, output)
    recipe = _recipe(quantize, q_bits, q_group_size, q_mode, quant_predicate, q_rule, q_like)
    arguments = {
        **parameters,
        "options": options,
        "allow_inflation": allow_inflation or expand,
        "quantize": recipe,
    }
    return located(source, revision, token, keep=keep_source), output, arguments


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
