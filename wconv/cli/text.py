"""What is printed: lines, JSON, and the plan of a conversion."""

from __future__ import annotations

import io
import itertools
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import click

from wconv.errors import called, message, one_line

if TYPE_CHECKING:
    from wconv.conversion.planned import Conversion


def print_lines(lines: Iterable[str]) -> None:
    """Prints lines; what is not printable in them is shown, not obeyed."""
    out = sys.stdout
    if not isinstance(out, io.TextIOWrapper):
        _echo(lines)
        return
    # an encoding that lacks an arrow shows its number
    errors = out.errors
    out.reconfigure(errors="backslashreplace")
    try:
        _echo(lines)
    finally:
        out.reconfigure(errors=errors)


AT_ONCE = 4096
"""Lines that are printed at once: a plan has a hundred thousand, which would be in memory several times."""


def _echo(lines: Iterable[str]) -> None:
    left = iter(lines)
    some = list(itertools.islice(left, AT_ONCE))
    while True:
        shown = list(map(called, some))
        if not "".join(shown).isprintable():
            shown = list(map(one_line, shown))
        click.echo("\n".join(shown))
        some = list(itertools.islice(left, AT_ONCE))
        if not some:
            return


def print_json(value: Mapping[str, Any]) -> None:
    """Prints plain data for programs."""
    import json

    click.echo(called(json.dumps(value, indent=2)))


def fail(text: str, code: int = 1, *, as_json: bool = False) -> NoReturn:
    """Ends the program: one line for a person, or `{"error": …}` where programs read the summary."""
    if as_json:
        print_json({"error": message(text)})
    else:
        click.echo(f"wconv: {message(text)}", err=True)
    sys.exit(code)


def show_plan(prepared: Conversion, *, quiet: bool, as_json: bool) -> None:
    """Prints what a conversion would write."""
    from wconv.wording import gigabytes

    target = prepared.report.output
    exists = os.path.lexists(target)
    if as_json:
        print_json(plan_data(prepared))
    elif not quiet:
        sizes = prepared.report.quantization.sizes if prepared.report.quantization else {}
        shown = ", ".join(f"{name}: {gigabytes(size)}" for name, size in sizes.items())
        more = [f"sizes by recipe: {shown}"] if shown else []
        found = f"{target} exists already" if exists else f"{target} does not exist yet"
        last = f"would write {target}: {gigabytes(prepared.plan.nbytes)}; {found}"
        print_lines(itertools.chain(plan_lines(prepared), prepared.report.lines(), more, [last]))


def plan_data(prepared: Conversion) -> dict[str, Any]:
    """What a conversion would write, as plain data."""
    exists = os.path.lexists(prepared.report.output)
    return {**prepared.report.to_dict(), "output_exists": exists, "plan": prepared.plan_dict()}


def plan_lines(prepared: Conversion) -> Iterator[str]:
    """A line for each shard of a plan and for each of its tensors, with the old name where it changes."""
    from wconv.wording import plural

    plan, sources = prepared.plan, prepared.sources
    elements = 0
    known: dict[tuple[str, str, tuple[int, ...]], tuple[str, int]] = {}
    for shard in plan.shards:
        yield f"{shard.filename}  {shard.nbytes:,} bytes"
        in_directory = "/" in shard.filename
        for entry in shard.entries:
            name, tensor = entry.name, entry.tensor
            source, dtype, shape = tensor.dtype.name, entry.dtype.name, tensor.shape
            told = known.get((source, dtype, shape))
            if told is None:
                cast = "" if source == dtype else f" (from {source})"
                told = known[source, dtype, shape] = f"{dtype}{cast}  {list(shape)}", math.prod(shape)
            elements += told[1]
            made_of = sources.get(shard.label(name) if in_directory else name, ())
            old = "" if made_of in ((), (name,)) else f"  ← {_first_and_last(made_of)}"
            yield f"  {name}  {told[0]}{old}"
    count = sum(len(shard.entries) for shard in plan.shards)
    yield (
        f"total: {plural(count, 'tensor')}, {elements:,} elements, {plural(len(plan.shards), 'shard')},"
        f" {plan.nbytes:,} bytes"
    )


def _first_and_last(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} … {names[-1]} ({len(names)})"
