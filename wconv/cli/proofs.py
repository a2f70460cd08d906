"""`--verify` and `--verify=load`: what is proved of a result after it was written."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import click

from wconv.cli.options import GroupedCommand, GroupedOption

if TYPE_CHECKING:
    from wconv.conversion.planned import Conversion
    from wconv.conversion.report import Report
    from wconv.examine.load_check import LoadCheck
    from wconv.examine.verify import Verification

VERIFY_LOAD = "--verify-load"
"""What `--verify=load` is to click, in which an option with a value would take the next word for it."""


class VerifyOption(GroupedOption):
    """`--verify`, which `--help` shows with what may follow it."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        return "--verify[=load]", self.help or ""


class ConvertCommand(GroupedCommand):
    """The command whose `--verify` may be followed by `=load`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for word in args:
            if word.startswith("--verify=") and word != "--verify=load":
                raise click.UsageError(f"{word:.60} is not known: --verify alone, or --verify=load")
        return super().parse_args(ctx, [VERIFY_LOAD if word == "--verify=load" else word for word in args])


class Proof(NamedTuple):
    """What was found of a result, and its name in the summary."""

    name: str
    found: Verification | LoadCheck
    good: bool


def check_before(prepared: Conversion) -> None:
    """Refuses, before anything is written, a result that no program can load here. Raises `WconvError`."""
    from wconv.examine.load_check import check_loadable

    check_loadable(prepared)


def proofs_of(prepared: Conversion, report: Report, *, load: bool, jobs: int | None) -> tuple[Proof, ...]:
    """Reads a result again; and has its program load it where that was asked for and every byte is right."""
    from wconv.examine.load_check import load_check
    from wconv.examine.verify import verify_planned

    found = verify_planned(prepared, jobs=jobs)
    proof = Proof("verified", found, found.proved)
    if not load or not found.proved:
        return (proof,)
    loaded = load_check(report.output, report.layout)
    return proof, Proof("loaded", loaded, loaded.loads)
