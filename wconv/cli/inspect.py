"""`wconv inspect SOURCE`."""

from __future__ import annotations

from pathlib import Path

import click

from wconv.cli.options import HELP, PATH
from wconv.cli.text import print_json, print_lines


@click.command(
    short_help="Show what is in a file or directory, without running any of it.",
    context_settings=HELP,
)
@click.argument("source", type=PATH)
@click.option("--key", metavar="PATH", help="Where the state dict lies in a wrapped PyTorch checkpoint.")
@click.option("--allow-inflation", is_flag=True, help="Allow tensors far larger than their file.")
@click.option("--expand", is_flag=True, hidden=True)
@click.option("--json", "as_json", is_flag=True, help="Print plain data for programs.")
def inspect(source: Path, key: str | None, allow_inflation: bool, expand: bool, as_json: bool) -> None:
    """Show what is in SOURCE: every tensor's name, dtype and shape, and what else the file says."""
    from wconv import opening
    from wconv.examine.inspect import lines, to_dict

    opened = opening.open(source, key=key, allow_inflation=allow_inflation or expand, skip_unreadable=True)
    if as_json:
        print_json(to_dict(opened))
    else:
        print_lines(lines(opened))
