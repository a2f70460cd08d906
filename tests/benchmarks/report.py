"""Measurements as a table of programs and a table of goals."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from tests.benchmarks.case import Goal
from tests.benchmarks.measure import Spent


@dataclass
class Measured:
    """One program's runs; `failure` says why there are none."""

    runs: list[Spent] = field(default_factory=list)
    anonymous: int | None = None
    failure: str = ""

    def walls(self) -> list[float]:
        return [run.wall for run in self.runs]

    def processors(self) -> list[float]:
        return [run.processor for run in self.runs]


def lines(measured: Mapping[str, Measured], goals: Sequence[Goal]) -> Iterator[str]:
    """Two Markdown tables: each program, with its ratios to the first one, and each goal."""
    first = next(iter(measured), "")
    ratios = f"wall / {first} | user + system / {first}"
    yield f"| program | wall s | best | user + system s | {ratios} | anonymous MB |"
    yield "|---|---|---|---|---|---|---|"
    for name, one in measured.items():
        if one.failure:
            yield f"| {name} | {one.failure} | | | | | |"
            continue
        memory = "" if one.anonymous is None else f"{one.anonymous / 1e6:,.0f}"
        wall, best, processor = median(one.walls()), min(one.walls()), median(one.processors())
        user, system = (median([getattr(run, part) for run in one.runs]) for part in ("user", "system"))
        ratios = " | "
        if not measured[first].failure:
            ratios = " | ".join(f"{ratio:.2f}" for ratio in _paired(one, measured[first]))
        spent = f"{processor:.2f} ({user:.2f} + {system:.2f})"
        yield f"| {name} | {wall:.2f} | {best:.2f} | {spent} | {ratios} | {memory} |"
    yield ""
    yield "| wconv | against | wall | user + system | goal | |"
    yield "|---|---|---|---|---|---|"
    for goal in goals:
        yield _line(goal, measured)


def as_json(measured: Mapping[str, Measured], goals: Sequence[Goal]) -> dict[str, Any]:
    """The same, with every run."""
    programs = {
        name: {
            "failure": one.failure or None,
            "wall": one.walls(),
            "user": [run.user for run in one.runs],
            "system": [run.system for run in one.runs],
            "peak_anonymous": one.anonymous,
        }
        for name, one in measured.items()
    }
    return {"programs": programs, "goals": [dataclasses.asdict(goal) for goal in goals]}


def from_json(told: Mapping[str, Any]) -> tuple[dict[str, Measured], list[Goal]]:
    """What `as_json` was made of."""
    measured = {
        name: Measured(
            [Spent(*run) for run in zip(one["wall"], one["user"], one["system"], strict=True)],
            one["peak_anonymous"],
            one["failure"] or "",
        )
        for name, one in told["programs"].items()
    }
    return measured, [Goal(**goal) for goal in told["goals"]]


def _paired(ours: Measured, theirs: Measured) -> tuple[float, float]:
    """Medians of the ratios of runs of the same turn: by the clock, and of processors.

    Of what takes long there are fewer runs: those of the first turns.
    """
    walls = zip(ours.walls(), theirs.walls(), strict=False)
    processors = zip(ours.processors(), theirs.processors(), strict=False)
    return median([a / b for a, b in walls]), median([a / max(b, 1e-3) for a, b in processors])


def _line(goal: Goal, measured: Mapping[str, Measured]) -> str:
    ours = measured[goal.program]
    theirs = measured[goal.against] if goal.against else None
    failure = ours.failure or (theirs.failure if theirs else "")
    start = f"| {goal.program} | {goal.against or ''} |"
    if failure:
        return f"{start} {failure} | | | |"
    what = {"s": "", "MB": " (memory)", "processor s": " (user + system)"}[goal.quantity]
    if goal.quantity == "MB":
        if ours.anonymous is None or (theirs is not None and theirs.anonymous is None):
            limit = f"{goal.limit:.3g} (memory)" if goal.against else f"{goal.limit:g} MB"
            return f"{start} not measured | | ≤ {limit} | |"
        if theirs is not None:
            ratio = ours.anonymous / max(theirs.anonymous or 0, 1)
            return f"{start} {ratio:.3f} | | ≤ {goal.limit:.3g} (memory) | {_verdict(ratio, goal.limit)} |"
        value = ours.anonymous / 1e6
        return f"{start} {value:.3g} MB | | ≤ {goal.limit:g} MB | {_verdict(value, goal.limit)} |"
    if theirs is not None:
        wall, processor = _paired(ours, theirs)
        unit = ""
    else:
        wall, processor = median(ours.walls()), median(ours.processors())
        unit = " s"
    value = wall if goal.quantity == "s" else processor
    verdict = _verdict(value, goal.limit)
    return f"{start} {wall:.3g}{unit} | {processor:.3g}{unit} | ≤ {goal.limit:.3g}{unit}{what} | {verdict} |"


def _verdict(value: float, limit: float) -> str:
    return "reached" if value <= limit else "MISSED"
