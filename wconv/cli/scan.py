"""`wconv scan SOURCE`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from wconv.cli.options import HELP, PATH
from wconv.cli.text import print_json, print_lines

RUNS = 2
"""The exit code where code would run."""


@click.command(context_settings=HELP)
@click.argument("source", type=PATH)
@click.option("--disassemble", is_flag=True, help="Print the programs of the pickles in a file.")
@click.option("--json", "as_json", is_flag=True, help="Print plain data for programs.")
@click.option("--sarif", "as_sarif", is_flag=True, help="Print SARIF, for code hosts and editors.")
@click.option("--quiet", is_flag=True, help="Print nothing: the exit code tells.")
def scan(source: Path, disassemble: bool, as_json: bool, as_sarif: bool, quiet: bool) -> None:
    """Say what SOURCE, a file or a directory, would have other programs run; exit with 2 where it would.

    Pickles are followed without running anything, hidden ones too. danger: code of the file's choice; code: a
    package's or the directory's own code; note: what else one should know.
    """
    from wconv.examine.scan.scan import disassembled
    from wconv.examine.scan.scan import scan as look

    if disassemble:
        print_lines(disassembled(source))
        return
    found = look(source)
    if as_sarif:
        print_json(found.to_sarif())
    elif as_json:
        print_json(found.to_dict())
    elif not quiet:
        print_lines(found.lines())
    sys.exit(RUNS if found.runs else 0)
