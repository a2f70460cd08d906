"""`--also NAME:OPTIONS`: more outputs of the same source, which is read once for all."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from wconv.cli.text import plan_data, print_json, print_lines, show_plan

if TYPE_CHECKING:
    from wconv.conversion.options import ConvertOptions
    from wconv.conversion.planned import Conversion

OWN = ("The result", "Quantization", "What is converted")
"""The groups of options that an output has of its own; the others hold for all."""

FOR_ALL = ("output", "variant")
"""Options of these groups that it has not: where it goes is its name, and the source is one."""

NOT_WITH = {"receipt": "--receipt", "q_report": "--q-report", "executor": "--executor"}
"""Options of the run that are for one output."""


@dataclass(frozen=True, slots=True)
class Also:
    """One more output.

    Attributes:
        parameters: of the command, as if its options had been given to it.
    """

    name: str
    parameters: dict[str, Any]

    def place(self, main: Path) -> Path:
        """Where it goes: its name is a path if it has a `/`, and else is added to that of the main output."""
        from wconv.conversion.several import place_beside

        return Path(self.name) if "/" in self.name else place_beside(main, self.name)


def parsed(command: click.Command, texts: Sequence[str]) -> list[Also]:
    """The outputs that were asked for with `--also`. Raises: `click.UsageError`."""
    found: list[Also] = []
    for text in texts:
        name, colon, rest = text.partition(":")
        if not colon or not name.strip("./") or name in [one.name for one in found]:
            form = "is not NAME:OPTIONS, as in --also q4:'-q --q-bits 4'"
            twice = "has a name that is given already"
            raise click.UsageError(f"--also {text[:60]!r} {twice if colon and name.strip('./') else form}")
        try:
            words = shlex.split(rest)
        except ValueError as error:
            raise click.UsageError(f"--also {text[:60]!r}: {error}") from None
        with command.make_context(f"--also {name:.60}", ["SOURCE", *words]) as context:
            for one in command.params:
                given = context.get_parameter_source(one.name or "") is ParameterSource.COMMANDLINE
                own = getattr(one, "group", None) in OWN and one.name not in FOR_ALL
                if given and not own and one.name != "source":
                    what = one.opts[0] if one.opts[0].startswith("-") else "another path"
                    raise click.UsageError(f"--also {name:.60}: {what} is not for one output alone")
            found.append(Also(name, dict(context.params)))
    return found


def convert_several(
    parameters: dict[str, Any],
    outputs: Sequence[Also],
    asked: Callable[..., tuple[Any, Path | None, dict[str, Any]]],
    how: dict[str, Any],
    *,
    dry_run: bool,
    verify: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Plans, writes and proves the main output and the others, and prints what was done.

    Args:
        parameters: the command's that say what is converted, and to what.
        asked: makes source, place and options of such parameters.
        how: arguments of the run.
    """
    from wconv.conversion.options import options_of
    from wconv.conversion.several import plan_several, raise_first, run_several

    source, place, arguments = asked(**parameters)
    wanted: list[tuple[Any, ConvertOptions]] = [(place, options_of("prepare", arguments))]
    for also in outputs:
        own = {one: also.parameters[one] for one in parameters}
        for name in ("key", "config", "allow_inflation", "expand", "skip_unreadable", "variant"):
            own[name] = parameters[name]
        _, _, more = asked(**{**own, "source": str(source), "destination": None, "model": None})
        wanted.append((also.place, options_of("prepare", more)))
    planned = plan_several(source, wanted)
    names = [also.name for also in outputs]
    if dry_run:
        if as_json:
            first, *rest = map(plan_data, planned)
            print_json({**first, "also": dict(zip(names, rest, strict=True))})
        for one in planned if not as_json else ():
            show_plan(one, quiet=quiet, as_json=False)
        return
    progress = None
    if not quiet and not as_json:
        from wconv.cli.progress import for_stream

        progress = for_stream(sys.stderr, sum(one.plan.nbytes for one in planned))
    try:
        reports, errors = run_several(planned, progress=progress, **how)
    finally:
        if progress is not None:
            progress.clear()
    proofs = [
        _proof(one, how["jobs"]) if verify and done is not None else None
        for one, done in zip(planned, reports, strict=True)
    ]
    told: list[dict[str, Any]] = []
    for report, proof, error in zip(reports, proofs, errors, strict=True):
        if report is None:
            told.append({"error": str(error)})
            continue
        told.append({**report.to_dict(), **({"verified": proof.to_dict()} if proof is not None else {})})
        if not as_json and not quiet:
            print_lines([*report.lines(), *(proof.lines() if proof else ()), *report.closing_lines()])
    if as_json and reports[0] is not None:
        print_json({**told[0], "also": dict(zip(names, told[1:], strict=True))})
        if any(errors):
            sys.exit(1)
    raise_first(planned, errors)
    if any(proof is not None and not proof.proved for proof in proofs):
        sys.exit(1)


def _proof(planned: Conversion, jobs: int | None) -> Any:
    from wconv.examine.verify import verify_planned

    return verify_planned(planned, jobs=jobs)
