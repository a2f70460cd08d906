"""Measurements as a table of programs and a table of goals."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.benchmarks.cases import Goal


@dataclass
class Measured:
    """One program's runs; `failure` says why there are none."""

    seconds: list[float] = field(default_factory=list)
    anonymous: int | None = None
    failure: str = ""


def lines(measured: Mapping[str, Measured], goals: Sequence[Goal]) -> Iterator[str]:
    """Two Markdown tables."""
    yield "| program | median s | best s | peak anonymous MB |"
    yield "|---|---|---|---|"
    for name, one in measured.items():
        if one.failure:
            yield f"| {name} | {one.failure} | | |"
        else:
            memory = "" if one.anonymous is None else f"{one.anonymous / 1e6:,.0f}"
            median = statistics.median(one.seconds)
            yield f"| {name} | {median:.2f} | {min(one.seconds):.2f} | {memory} |"
    yield ""
    yield "| wconv | against | ratio of medians | median of ratios | goal | |"
    yield "|---|---|---|---|---|---|"
    for goal in goals:
        yield _line(goal, measured)


def _line(goal: Goal, measured: Mapping[str, Measured]) -> str:
    ours = measured[goal.program]
    theirs = measured[goal.against] if goal.against else None
    failure = ours.failure or (theirs.failure if theirs else "")
    start = f"| {goal.program} | {goal.against or ''} |"
    if failure:
        return f"{start} {failure} | | | |"
    if theirs is not None and goal.quantity == "MB":
        if ours.anonymous is None or theirs.anonymous is None:
            return f"{start} not measured | | ≤ {goal.limit:.3g} (memory) | |"
        ratio = ours.anonymous / theirs.anonymous
        return f"{start} {ratio:.3f} | | ≤ {goal.limit:.3g} (memory) | {_verdict(ratio, goal.limit)} |"
    if theirs is not None:
        ratio = statistics.median(ours.seconds) / statistics.median(theirs.seconds)
        paired = statistics.median(a / b for a, b in zip(ours.seconds, theirs.seconds, strict=True))
        return f"{start} {ratio:.3f} | {paired:.3f} | ≤ {goal.limit:.3g} | {_verdict(paired, goal.limit)} |"
    if goal.quantity == "MB":
        if ours.anonymous is None:
            return f"{start} not measured | | ≤ {goal.limit:g} MB | |"
        value = ours.anonymous / 1e6
    else:
        value = statistics.median(ours.seconds)
    unit = goal.quantity
    return f"{start} {value:.3g} {unit} | | ≤ {goal.limit:g} {unit} | {_verdict(value, goal.limit)} |"


def _verdict(value: float, limit: float) -> str:
    return "reached" if value <= limit else "MISSED"
