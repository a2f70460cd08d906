"""`wconv verify OUTPUT`: against its source, or against its receipt."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wconv.cli.convert import convert, planned
from wconv.cli.options import HELP, PATH, SOURCE
from wconv.cli.text import print_json, print_lines

if TYPE_CHECKING:
    from wconv.examine.receipt_check import ReceiptCheck
    from wconv.examine.verify import Verification

RUN_ONLY = (
    "overwrite",
    "resume",
    "strict",
    "dry_run",
    "verify",
    "verify_load",
    "receipt",
    "no_sync",
    "q_report",
    "executor",
    "upload_repo",
    "also",
)
"""Options of `convert` that say nothing of what is written."""

OWN = ("jobs", "quiet", "as_json")
"""Options that both commands have."""


@click.command(
    context_settings={**HELP, "ignore_unknown_options": True},
)
@click.argument("output", type=PATH)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
@click.option("--against", "source", type=SOURCE, metavar="SOURCE", help="What it was made of.")
@click.option("--receipt", type=PATH, metavar="FILE", help="Its receipt; wconv.json in OUTPUT by default.")
@click.option(
    "-j", "--jobs", type=click.IntRange(1, 1_000_000), help="Threads; one for each core by default."
)
@click.option("--load", is_flag=True, help="Have the program that it is for load it, and run it once.")
@click.option("--json", "as_json", is_flag=True, help="Print plain data for programs.")
@click.option("--quiet", is_flag=True, help="Print nothing: the exit code tells.")
def verify(
    output: Path,
    options: tuple[str, ...],
    source: str | None,
    receipt: Path | None,
    jobs: int | None,
    load: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compute every tensor of OUTPUT anew from SOURCE and compare the bytes; exit with 1 where one differs.

    Add the options that OUTPUT was converted with, as --dtype float16 or -q. Without --against, the digest of
    every tensor is compared with a receipt, which convert --receipt wrote.
    """
    proof: Verification | ReceiptCheck
    if source is None:
        from wconv.examine.receipt_check import check_receipt

        if options:
            raise click.UsageError(f"{options[0]:.60} says how SOURCE was converted: add --against SOURCE")
        proof = check_receipt(output, receipt, jobs=jobs)
    else:
        if receipt is not None:
            raise click.UsageError("--against and --receipt exclude each other: choose one")
        proof = _anew(output, source, options, jobs)
    loaded = None
    if load and proof.proved:
        from wconv.examine.load_check import load_check

        loaded = load_check(output)
    if as_json:
        print_json({**proof.to_dict(), **({"loaded": loaded.to_dict()} if loaded is not None else {})})
    elif not quiet:
        print_lines([*proof.lines(), *(loaded.lines() if loaded is not None else ())])
        if source is not None and not proof.proved and not options:
            click.echo("if it was converted with options, as --dtype or -q, add them here", err=True)
    sys.exit(0 if proof.proved and (loaded is None or loaded.loads) else 1)


def _anew(output: Path, source: str, options: tuple[str, ...], jobs: int | None) -> Verification:
    from wconv.examine.verify import verify_planned

    with convert.make_context("verify", [source, str(output), *options]) as context:
        parameters = {name: value for name, value in context.params.items() if name not in OWN}
    for name in RUN_ONLY:
        parameters.pop(name)
    return verify_planned(planned(**parameters), jobs=jobs)
