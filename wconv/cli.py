"""The command: parse, call, print. `wconv PATH` converts; other jobs are sub-commands."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import click

from wconv import __version__, dtypes
from wconv.errors import WconvError, one_line
from wconv.storable import SUBSTITUTES, TARGETS

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


class DefaultsToConvert(click.Group):
    """A group whose first word may be a path: `wconv PATH …` is `wconv convert PATH …`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        first = args[0] if args else "--help"
        if first not in self.commands and first not in ("--help", "--version"):
            args = ["convert", *args]
        return super().parse_args(ctx, args or ["--help"])

    def invoke(self, ctx: click.Context) -> Any:
        signal.signal(signal.SIGTERM, _interrupt)
        # numpy's BLAS would start a thread for each core, none of which ever works
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        gc.disable()  # what a command makes lives until it ends: looking for garbage is a fifth of its time
        try:
            return super().invoke(ctx)
        except WconvError as error:
            _fail(str(error))
        except KeyboardInterrupt:
            click.echo("wconv: interrupted; repeat the command with --resume to go on", err=True)
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            sys.stderr.close()
            sys.exit(1)
        except OSError as error:
            _fail(f"{error.filename or 'the summary'} cannot be written: {error.strerror or error}")
        finally:
            gc.enable()

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.commands["convert"].format_help(ctx, formatter)
        others = {name: command for name, command in sorted(self.commands.items()) if name != "convert"}
        with formatter.section("Other commands (wconv COMMAND --help)"):
            formatter.write_dl([(name, command.get_short_help_str(80)) for name, command in others.items()])


def _interrupt(number: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def _fail(message: str) -> NoReturn:
    click.echo("wconv: " + " ".join(message.split("\n")), err=True)
    sys.exit(1)


def _print(lines: Iterable[str]) -> None:
    # an encoding that lacks an arrow shows its number
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    click.echo("\n".join(map(one_line, lines)))


def _dtype_table() -> str:
    rows = (f"{row.source:18} → {row.written:10} {row.why}" for row in SUBSTITUTES)
    return "\b\nWhat MLX cannot hold is written as (--dtype goes first for floating types):\n" + "\n".join(
        rows
    )


def entry() -> NoReturn:
    """The command as a process, which ends at once: to free a large plan takes a tenth of a second."""
    code: Any = 1
    try:
        main()
    except SystemExit as stop:
        code = stop.code
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def _dtype_name(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The dtype that weights are to be written in, by any of its names: "fp16", "torch.float16"."""
    if value is None:
        return None
    with contextlib.suppress(WconvError):
        name = dtypes.by_name(value).name
        if name in TARGETS:
            return name
    raise click.BadParameter(f"{value[:60]!r} is not one of {', '.join(TARGETS)}.")


def _dtype_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in TARGETS if name.startswith(incomplete)]


@click.group(cls=DefaultsToConvert, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="wconv")
def main() -> None:
    """Moves model weights without torch."""


@main.command(epilog=_dtype_table(), context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Directory, or a .safetensors or .pt file."
)
@click.option(
    "--format",
    type=click.Choice(["safetensors", "pt"]),
    help="pt: files that torch loads, in the hub's layout.",
)
@click.option(
    "--dtype",
    callback=_dtype_name,
    shell_complete=_dtype_names,
    metavar=f"[{'|'.join(TARGETS)}]",
    help="Cast floating tensors; the source's own by default.",
)
@click.option(
    "--layout",
    default="auto",
    show_default=True,
    help="auto, mlx-lm, mlx-vlm, mflux, diffusers, or back: hf, bfl. Of adapters also peft, kohya, comfyui.",
)
@click.option(
    "--rules", type=click.Path(path_type=Path), metavar="FILE", help="Rules of your own; see wconv rules."
)
@click.option("--include", metavar="REGEX", help="Convert only tensors whose source name matches.")
@click.option("--exclude", metavar="REGEX", help="Leave out tensors whose source name matches.")
@click.option("--max-shard-size", metavar="SIZE", help="500MB, …; 5GB by default, 2GiB for mflux.")
@click.option("--component", metavar="NAME", multiple=True, help="Of a pipeline, only this; repeatable.")
@click.option("--variant", metavar="NAME", help="Take the weights called so, as model.fp16.safetensors.")
@click.option("--key", metavar="PATH", help="Where the state dict lies in a wrapped PyTorch checkpoint.")
@click.option("--expand", is_flag=True, help="Allow tensors far larger than their file.")
@click.option(
    "--optimizer", is_flag=True, help="Write the state of Adam, AdamW or SGD for mlx.optimizers too."
)
@click.option(
    "--merge-lora", metavar="FILE[:SCALE]", multiple=True, help="Add an adapter to the weights; repeatable."
)
@click.option("--include-fov", is_flag=True, help="Keep a field-of-view network that the layout drops.")
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
@click.option("--resume", is_flag=True, help="Continue an interrupted run.")
@click.option("--strict", is_flag=True, help="Make a value that overflows an error.")
@click.option("--dry-run", is_flag=True, help="Print the plan and write nothing.")
@click.option("-j", "--jobs", type=click.IntRange(1), help="Threads; one for each core by default.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def convert(
    source: Path,
    output: Path | None,
    include_fov: bool,
    overwrite: bool,
    resume: bool,
    strict: bool,
    dry_run: bool,
    jobs: int | None,
    quiet: bool,
    as_json: bool,
    **parameters: Any,
) -> None:
    """Convert SOURCE, a Hugging Face model directory or a weights file, to MLX.

    The result is SOURCE-MLX beside it, or what --output names. Nothing appears there before it is complete.
    """
    from wconv.pipeline import prepare, run
    from wconv.report import plan_lines

    options = {"include_fov": True} if include_fov else None
    prepared = prepare(source, output, options=options, **parameters)
    if dry_run:
        if as_json:
            _print_json({**prepared.report.to_dict(), "plan": prepared.plan_dict()})
        elif not quiet:
            _print([*plan_lines(prepared.plan, prepared.sources), *prepared.report.lines()])
        return
    bar = None
    if sys.stderr is not None and sys.stderr.isatty() and not quiet:
        from wconv.progress import Bar

        bar = Bar(prepared.plan.nbytes)
    try:
        report = run(prepared, overwrite=overwrite, resume=resume, strict=strict, jobs=jobs, progress=bar)
    finally:
        if bar is not None:
            bar.clear()
    if as_json:
        _print_json(report.to_dict())
    elif not quiet:
        _print([*report.lines(), *report.closing_lines()])


def _print_json(value: dict[str, Any]) -> None:
    import json

    click.echo(json.dumps(value, indent=2))


@main.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--key", metavar="PATH", help="Where the state dict lies in a wrapped PyTorch checkpoint.")
@click.option("--expand", is_flag=True, help="Allow tensors that are far larger than their file.")
@click.option("--json", "as_json", is_flag=True, help="Print plain data for programs.")
def inspect(source: Path, key: str | None, expand: bool, as_json: bool) -> None:
    """Show what is in SOURCE: every tensor's name, dtype and shape, and what else the file says."""
    from wconv import checkpoint
    from wconv.inspect import lines, to_dict

    opened = checkpoint.open(source, key=key, expand=expand)
    if as_json:
        _print_json(to_dict(opened))
    else:
        _print(lines(opened))


@main.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("model_type", required=False)
@click.option(
    "--layout", default="auto", show_default=True, help="The consumer, for models with several tables."
)
def rules(model_type: str | None, layout: str) -> None:
    """List the models that have rules; print those of MODEL_TYPE as a file that --rules takes."""
    from wconv import layouts
    from wconv.layouts.rules_file import write

    if model_type is None:
        rows = list(layouts.describe())
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        _print(f"{row[0]:{widths[0]}}  {row[1]:{widths[1]}}  {row[2]}" for row in rows)
        return
    click.echo(write(layouts.find(model_type, layout)), nl=False)
