"""`wconv diff A B`."""

from __future__ import annotations

import sys

import click

from wconv.cli.options import HELP, SOURCE
from wconv.cli.text import print_json, print_lines


@click.command(context_settings=HELP)
@click.argument("first", type=SOURCE)
@click.argument("second", type=SOURCE)
@click.option("--tolerance", type=float, default=0.0, help="Allow differences of values up to this.")
@click.option(
    "--relative-tolerance", type=float, default=0.0, help="Allow also this part of the larger of both values."
)
@click.option("--key", metavar="PATH", help="Where the state dict lies in a wrapped PyTorch checkpoint.")
@click.option(
    "-j", "--jobs", type=click.IntRange(1, 1_000_000), help="Threads; one for each core by default."
)
@click.option("--json", "as_json", is_flag=True, help="Print plain data for programs.")
@click.option("--quiet", is_flag=True, help="Print nothing: the exit code tells.")
def diff(
    first: str,
    second: str,
    tolerance: float,
    relative_tolerance: float,
    key: str | None,
    jobs: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Say in what FIRST and SECOND differ, and exit with 1 where tensors or their values do.

    Files and directories of any format and dtype, here, on the hub or at an address. Where names differ, both
    are brought to one layout first; weights in few bits are decoded.
    """
    from wconv.examine.diff import diff as compare

    found = compare(
        first, second, tolerance=tolerance, relative_tolerance=relative_tolerance, key=key, jobs=jobs
    )
    if as_json:
        print_json(found.to_dict())
    elif not quiet:
        print_lines(found.lines())
    sys.exit(0 if found.same else 1)
