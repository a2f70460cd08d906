"""`wconv doctor DIRECTORY`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from wconv.cli.options import HELP, PATH
from wconv.cli.text import print_json, print_lines

ILL = 1
"""The exit code where the program would not load it, or not as the model that it is."""


@click.command(context_settings=HELP)
@click.argument("directory", type=PATH)
@click.option("--for", "program", metavar="PROGRAM", help="Which program; the likeliest when absent.")
@click.option("--json", "as_json", is_flag=True, help="Print plain data for programs.")
@click.option("--quiet", is_flag=True, help="Print nothing: the exit code tells.")
def doctor(directory: Path, program: str | None, as_json: bool, quiet: bool) -> None:
    """Say whether a program would load DIRECTORY, and what mends it; exit with 1 where it would not.

    error: it is not loaded; wrong: it is not, or what is loaded is not the model; note: what else one should
    know.
    """
    from wconv.examine.doctor.doctor import doctor as examine

    found = examine(directory, program)
    if as_json:
        print_json(found.to_dict())
    elif not quiet:
        print_lines(found.lines())
    sys.exit(0 if found.is_healthy else ILL)
