"""The page of documentation with all figures, from what `--json` wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks import report
from tests.benchmarks.cases import CASES
from tests.benchmarks.measure import ROOT

PAGE = ROOT / "wconv" / "docs" / "speed.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"


def lines(found: dict[str, Any]) -> Iterator[str]:
    """The machine, then each case that was measured: what it is, its programs and its goals."""
    size = "" if found["scale"] == 1 else f", data of {found['scale']:g} times the size"
    yield f"Measured on {found['machine']}{size}."
    for name in CASES:
        if name not in found["cases"]:
            continue
        measured, goals = report.from_json(found["cases"][name])
        runs = max((len(one.runs) for one in measured.values()), default=0)
        yield from ("", f"**{name}**, medians of {runs} runs. {CASES[name].about}", "")
        yield from report.lines(measured, goals)


def write(found: dict[str, Any], page: Path = PAGE) -> None:
    """Puts the figures between their two marks in the page.

    Raises:
        ValueError: the page has no such marks.
    """
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no {BEGIN} with {END} after it")
    page.write_text("\n".join([before + begin, "", *lines(found), "", end + after]))
