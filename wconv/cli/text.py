"""What is printed: lines, JSON, and the plan of a conversion."""

from __future__ import annotations

import io
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
    text = "\n".join(one_line(called(line)) for line in lines)
    out = sys.stdout
    if not isinstance(out, io.TextIOWrapper):
        click.echo(text)
        return
    # an encoding that lacks an arrow shows its number
    errors = out.errors
    out.reconfigure(errors="backslashreplace")
    try:
        click.echo(text)
    finally:
        out.reconfigure(errors=errors)


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
        print_lines([*plan_lines(prepared), *prepared.report.lines(), *more, last])


def plan_data(prepared: Conversion) -> dict[str, Any]:
    """What a conversion would write, as plain data."""
    exists = os.path.lexists(prepared.report.output)
    return {**prepared.report.to_dict(), "output_exists": exists, "plan": prepared.plan_dict()}


def plan_lines(prepared: Conversion) -> Iterator[str]:
    """A line for each shard of a plan and for each of its tensors, with the old name where it changes."""
    from wconv.wording import plural

    plan, sources = prepared.plan, prepared.sources
    for shard in plan.shards:
        yield f"{shard.filename}  {shard.nbytes:,} bytes"
        for entry in shard.entries:
            made_of = sources.get(shard.label(entry.name), ())
            old = "" if made_of in ((), (entry.name,)) else f"  ← {_first_and_last(made_of)}"
            cast = "" if entry.tensor.dtype is entry.dtype else f" (from {entry.tensor.dtype.name})"
            yield f"  {entry.name}  {entry.dtype.name}{cast}  {list(entry.shape)}{old}"
    count = sum(len(shard.entries) for shard in plan.shards)
    elements = sum(entry.tensor.size for entry in plan.entries)
    yield (
        f"total: {plural(count, 'tensor')}, {elements:,} elements, {plural(len(plan.shards), 'shard')},"
        f" {plan.nbytes:,} bytes"
    )


def _first_and_last(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} … {names[-1]} ({len(names)})"
