"""The command as a program: its commands, signals, exit codes, and every failure as one line or as JSON."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import click

from wconv import __version__, machine
from wconv.cli import signals
from wconv.cli.convert import convert
from wconv.cli.options import HELP, DefaultsToConvert
from wconv.cli.text import fail
from wconv.errors import CALLED, Interrupted, WconvError, message

OTHERS = {
    "diff": "Say in what two checkpoints differ, by value.",
    "docs": "List the pages of the documentation, or show one.",
    "doctor": "Say whether a program would load a directory, and what mends it.",
    "inspect": "Show what is in a file or directory, without running any of it.",
    "rules": "List the models that have rules, or print the rules of one.",
    "scan": "Say what would run if other programs loaded it.",
    "verify": "Prove that a result is what a source gives, byte for byte.",
}
"""The commands but `convert`, and what `--help` says of them."""


class Program(DefaultsToConvert):
    """The group as a process: signals, exit codes, and every failure as one line or as JSON."""

    others = OTHERS

    def invoke(self, ctx: click.Context) -> Any:
        as_json = "--json" in [*ctx._protected_args, *ctx.args]
        try:
            with signals.caught(), _tuned():
                return self._invoke(ctx, as_json=as_json)
        except Interrupted:
            text = "interrupted; repeat the command with --resume to go on"
            fail(text, signals.exit_code(), as_json=as_json)
        except KeyboardInterrupt:
            fail("interrupted", signals.exit_code(), as_json=as_json)

    def _invoke(self, ctx: click.Context, *, as_json: bool) -> Any:
        try:
            machine.check()
            return super().invoke(ctx)
        except WconvError as error:
            fail(str(error), as_json=as_json)
        except click.ClickException as error:
            if as_json:
                fail(error.format_message(), error.exit_code, as_json=True)
            if isinstance(error, click.UsageError):
                raise click.UsageError(message(error.format_message()), error.ctx) from None
            raise
        except BrokenPipeError:
            sys.stderr.close()
            sys.exit(1)
        except OSError as error:
            fail(
                f"{error.filename or 'the summary'} cannot be written: {error.strerror or error}",
                as_json=as_json,
            )


@contextlib.contextmanager
def _tuned() -> Iterator[None]:
    """The settings of Python and of its libraries that suit a command, for the time of a block."""
    threads = os.environ.get("OPENBLAS_NUM_THREADS")
    if threads is None:
        # numpy's BLAS would start a thread for each core, none of which ever works
        os.environ["OPENBLAS_NUM_THREADS"] = "1"
    collects = gc.isenabled()
    gc.disable()  # what a command makes lives until it ends: looking for garbage is a fifth of its time
    try:
        yield
    finally:
        if collects:
            gc.enable()
        if threads is None:
            os.environ.pop("OPENBLAS_NUM_THREADS", None)


@click.group(cls=Program, context_settings=HELP)
@click.version_option(__version__, prog_name="wconv")
def main() -> None:
    """Moves model weights without torch."""


main.add_command(convert)


def entry() -> NoReturn:
    """The command as a process, which ends at once: to free a large plan takes a tenth of a second."""
    code: Any = 1
    signals.keep()
    gc.disable()  # at the end, too: to look through all that is left takes as long as to start
    try:
        main()
    except SystemExit as stop:
        code = stop.code
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    if CALLED:
        from wconv.checkpoints.locate import leave

        leave()
    if "mpi4py" in sys.modules:
        sys.exit(code)  # the other ranks wait to be told
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)
