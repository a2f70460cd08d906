"""The command: parse, call, print. `wconv PATH` converts; other jobs are sub-commands."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from wconv import __version__, machine
from wconv.cli import signals
from wconv.cli.options import DefaultsToConvert, GroupedCommand, GroupedOption
from wconv.consumers.names import BACK, NAMES, OF_ADAPTERS
from wconv.conversion.output_dtypes import SUBSTITUTES, TARGETS
from wconv.errors import Interrupted, WconvError, message, one_line
from wconv.tensors import dtypes

if TYPE_CHECKING:
    from wconv.conversion.planned import Conversion


class Program(DefaultsToConvert):
    """The group as a process: signals, exit codes, and every failure as one line or as JSON."""

    def invoke(self, ctx: click.Context) -> Any:
        signals.catch()
        # numpy's BLAS would start a thread for each core, none of which ever works
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        gc.disable()  # what a command makes lives until it ends: looking for garbage is a fifth of its time
        as_json = "--json" in [*ctx._protected_args, *ctx.args]
        try:
            machine.check()
            return super().invoke(ctx)
        except WconvError as error:
            _fail(str(error), as_json=as_json)
        except click.ClickException as error:
            if as_json:
                _fail(error.format_message(), error.exit_code, as_json=True)
            if isinstance(error, click.UsageError):
                raise click.UsageError(message(error.format_message()), error.ctx) from None
            raise
        except Interrupted:
            text = "interrupted; repeat the command with --resume to go on"
            _fail(text, signals.exit_code(), as_json=as_json)
        except KeyboardInterrupt:
            _fail("interrupted", signals.exit_code(), as_json=as_json)
        except BrokenPipeError:
            sys.stderr.close()
            sys.exit(1)
        except OSError as error:
            _fail(
                f"{error.filename or 'the summary'} cannot be written: {error.strerror or error}",
                as_json=as_json,
            )
        finally:
            gc.enable()


class NamedPath(click.Path):
    """A path that is not empty: an unset variable must not mean the working directory."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            raise WconvError(
                f"{param.get_error_hint(ctx) if param else 'a path'} is empty: was a variable not set?"
            )
        return super().convert(value, param, ctx)


PATH = NamedPath(path_type=Path)


def _fail(text: str, code: int = 1, *, as_json: bool = False) -> NoReturn:
    """Ends the program: one line for a person, or `{"error": …}` where programs read the summary."""
    if as_json:
        _print_json({"error": message(text)})
    else:
        click.echo(f"wconv: {message(text)}", err=True)
    sys.exit(code)


def _print(lines: Iterable[str]) -> None:
    # an encoding that lacks an arrow shows its number
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    click.echo("\n".join(map(one_line, lines)))


def _dtype_table() -> str:
    rows = (f"{row.source:16} → {row.written:10} {row.summary}" for row in SUBSTITUTES)
    return "\b\nWhat MLX cannot hold is written as (--dtype goes first for floating types):\n" + "\n".join(
        rows
    )


def _complete_layout(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in (*NAMES, *OF_ADAPTERS) if name.startswith(incomplete)]


def _dtype_name(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The dtype that weights are to be written in, by any of its names: "fp16", "torch.float16"."""
    if value is None:
        return None
    with contextlib.suppress(WconvError):
        name = dtypes.by_name(value).name
        if name in TARGETS:
            return name
    raise click.BadParameter(f"{value[:60]!r} is not one of {', '.join(TARGETS)}.")


def _complete_dtype(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in TARGETS if name.startswith(incomplete)]


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


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="wconv")
def main() -> None:
    """Moves model weights without torch."""


def _option(group: str, *words: str, **settings: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(*words, cls=GroupedOption, group=group, **settings)


LAYOUTS = (
    f"{', '.join(name for name in NAMES if name not in BACK)}; back: {' or '.join(BACK)}."
    f" Adapters also: {', '.join(OF_ADAPTERS)}.  [default: auto]"
)
RESULT, WHAT, HOW, RUN, SUMMARY = "The result", "What is converted", "How it is read", "The run", "Messages"


@main.command(
    cls=GroupedCommand, epilog=_dtype_table(), context_settings={"help_option_names": ["-h", "--help"]}
)
@click.argument("source", type=PATH, required=False)
@click.argument("destination", type=PATH, required=False)
@click.option("--hf-path", "--model", "model", type=PATH, hidden=True)
@_option(
    RESULT,
    "-o",
    "--output",
    "--mlx-path",
    type=PATH,
    metavar="PATH",
    help="DESTINATION by its other names: a directory, or a .safetensors or .pt file.",
)
@_option(
    RESULT,
    "--dtype",
    metavar="DTYPE",
    callback=_dtype_name,
    shell_complete=_complete_dtype,
    help=f"Cast floating tensors: {', '.join(TARGETS)}; their own by default.",
)
@_option(RESULT, "--layout", default="auto", metavar="NAME", help=LAYOUTS, shell_complete=_complete_layout)
@_option(
    RESULT,
    "--format",
    type=click.Choice(["safetensors", "pt"]),
    help="pt: files that torch loads, in the hub's layout.",
)
@_option(
    RESULT,
    "--rules",
    type=PATH,
    metavar="FILE",
    help="Rules of your own; see wconv rules.",
)
@_option(RESULT, "--max-shard-size", metavar="SIZE", help="500MB, 1G, …; 5GB by default, 2GiB for mflux.")
@_option(
    RESULT, "--optimizer", is_flag=True, help="Write the state of Adam, AdamW or SGD for mlx.optimizers too."
)
@_option(
    RESULT,
    "--merge-lora",
    metavar="FILE[:SCALE]",
    multiple=True,
    help="Add an adapter to the weights; repeatable.",
)
@_option(WHAT, "--include", metavar="REGEX", help="Convert only tensors whose source name matches.")
@_option(WHAT, "--exclude", metavar="REGEX", help="Leave out tensors whose source name matches.")
@_option(WHAT, "--component", metavar="NAME", multiple=True, help="Of a pipeline, only this; repeatable.")
@_option(WHAT, "--variant", metavar="NAME", help="Take the weights called so, as model.fp16.safetensors.")
@_option(WHAT, "--include-fov", is_flag=True, help="Keep a field-of-view network that the layout drops.")
@_option(HOW, "--key", metavar="PATH", help="Where the state dict lies in a wrapped PyTorch checkpoint.")
@_option(HOW, "--expand", is_flag=True, help="Allow tensors far larger than their file.")
@_option(HOW, "--skip-unreadable", is_flag=True, help="Go on without tensors that cannot be read.")
@_option(RUN, "--overwrite", is_flag=True, help="Replace an existing output.")
@_option(RUN, "--resume", is_flag=True, help="Continue an interrupted run.")
@_option(RUN, "--strict", is_flag=True, help="Make a value that overflows an error.")
@_option(RUN, "--dry-run", is_flag=True, help="Print the plan and write nothing.")
@_option(
    RUN, "--no-sync", is_flag=True, help="Do not wait for the disk: a power loss may then empty the output."
)
@_option(
    RUN, "-j", "--jobs", type=click.IntRange(1, 1_000_000), help="Threads; one for each core by default."
)
@_option(SUMMARY, "--quiet", is_flag=True, help="Print nothing but errors.")
@_option(SUMMARY, "--json", "as_json", is_flag=True, help="Print the summary, or the error, as JSON.")
def convert(
    source: Path | None,
    destination: Path | None,
    model: Path | None,
    output: Path | None,
    include_fov: bool,
    overwrite: bool,
    resume: bool,
    strict: bool,
    dry_run: bool,
    no_sync: bool,
    jobs: int | None,
    quiet: bool,
    as_json: bool,
    **parameters: Any,
) -> None:
    """Convert SOURCE, a Hugging Face model directory or a weights file, to MLX.

    The result is DESTINATION, or SOURCE-MLX beside the source. Nothing appears there before it is complete.
    """
    from wconv.conversion.run import prepare, run

    options = {"include_fov": True} if include_fov else None
    source, output = _places(source, destination, model, output)
    prepared = prepare(source, output, options=options, **parameters)
    if dry_run:
        _show_plan(prepared, quiet=quiet, as_json=as_json)
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
            progress=progress,
            sync=not no_sync,
        )
    finally:
        if progress is not None:
            progress.clear()
    if as_json:
        _print_json(report.to_dict())
    elif not quiet:
        _print([*report.lines(), *report.closing_lines()])


def _places(
    source: Path | None, destination: Path | None, model: Path | None, output: Path | None
) -> tuple[Path, Path | None]:
    """The source and the destination, each of which has two ways to be said but may be said once."""
    if model is not None:
        if destination is not None:
            raise click.UsageError("the source is given twice, as SOURCE and with --hf-path or --model")
        source, destination = model, source
    if source is None:
        raise click.UsageError("Missing argument 'SOURCE'.")
    if destination is not None and output is not None:
        raise click.UsageError(f"the output is given twice: {destination} and {output}")
    return source, destination if destination is not None else output


def _show_plan(prepared: Conversion, *, quiet: bool, as_json: bool) -> None:
    from wconv.conversion.report import plan_lines
    from wconv.wording import gigabytes

    target = prepared.report.output
    exists = os.path.lexists(target)
    if as_json:
        _print_json({**prepared.report.to_dict(), "output_exists": exists, "plan": prepared.plan_dict()})
    elif not quiet:
        found = f"{target} exists already" if exists else f"{target} does not exist yet"
        last = f"would write {target}: {gigabytes(prepared.plan.nbytes)}; {found}"
        _print([*plan_lines(prepared.plan, prepared.sources), *prepared.report.lines(), last])


def _print_json(value: dict[str, Any]) -> None:
    import json

    click.echo(json.dumps(value, indent=2))


@main.command(
    short_help="Show what is in a file or directory, without running any of it.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("source", type=PATH)
@click.option("--key", metavar="PATH", help="Where the state dict lies in a wrapped PyTorch checkpoint.")
@click.option("--expand", is_flag=True, help="Allow tensors that are far larger than their file.")
@click.option("--json", "as_json", is_flag=True, help="Print plain data for programs.")
def inspect(source: Path, key: str | None, expand: bool, as_json: bool) -> None:
    """Show what is in SOURCE: every tensor's name, dtype and shape, and what else the file says."""
    from wconv.checkpoints import checkpoint
    from wconv.examine.inspect import lines, to_dict

    opened = checkpoint.open(source, key=key, allow_inflation=expand, skip_unreadable=True)
    if as_json:
        _print_json(to_dict(opened))
    else:
        _print(lines(opened))


@main.command(
    short_help="List the models that have rules, or print the rules of one.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("model_type", required=False)
@click.option(
    "--layout", default="auto", show_default=True, help="The consumer, for models with several tables."
)
def rules(model_type: str | None, layout: str) -> None:
    """List the models that have rules; print those of MODEL_TYPE as a file that --rules takes."""
    from wconv.consumers import registry
    from wconv.layouts.file.rules_file import write

    if model_type is None:
        rows = list(registry.describe())
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        _print(f"{row[0]:{widths[0]}}  {row[1]:{widths[1]}}  {row[2]}" for row in rows)
        return
    click.echo(write(registry.find(model_type, layout)), nl=False)


def _complete_topic(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    from wconv.cli.pages import topics

    return [topic for topic in topics() if topic.startswith(incomplete)]


@main.command(
    short_help="List the pages of the documentation, or show one.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("topic", required=False, shell_complete=_complete_topic)
@click.option("--markdown", is_flag=True, help="Print the page as it is written.")
def docs(topic: str | None, markdown: bool) -> None:
    """List the pages of the documentation, or show that of TOPIC."""
    from wconv.cli.pages import page, rendered, topics

    if topic is None:
        known = topics()
        width = max(map(len, known))
        _print(f"{name:{width}}  {title}" for name, title in known.items())
    elif markdown:
        click.echo(page(topic), nl=False)
    elif sys.stdout.isatty():
        click.echo_via_pager("\n".join(rendered(page(topic))) + "\n", color=True)
    else:
        click.echo("\n".join(rendered(page(topic))))
