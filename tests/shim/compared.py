"""Writes what was compared with torch into the page `drop-torch`: `python -m tests.shim.compared`."""

from __future__ import annotations

import textwrap
from collections import Counter

from tests.shim import tables
from tests.shim.names import PAGE

START, END = "<!-- compared: written by tests/shim/compared.py -->", "<!-- end of compared -->"
SLOW = 3.0
"""From this ratio to torch's time on, a function is listed."""


def wrapped(text: str) -> str:
    return textwrap.fill(text, 128, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def versions(table: dict[str, dict[str, str]]) -> str:
    return ", ".join(f"{name} {version}" for name, version in table["versions"].items())


def converters() -> list[str]:
    """The converters, by program."""
    table = tables.read("converters")
    done: dict[str, list[str]] = {}
    notes = []
    for row in table["rows"]:
        program, _, what = row["what"].partition(": ")
        if row["result"].startswith("not run"):
            notes.append(f"- Not run: {row['what']} ({row['result'].removeprefix('not run: ')}).")
        else:
            said = "" if row["result"] == "the same bytes" else f" ({row['result']})"
            done.setdefault(program, []).append(f"`{what}`{said}")
    lines = [f"Converters that give the same bytes ({versions(table)}; scripts from their repositories):", ""]
    lines += [wrapped(f"- {program}: {', '.join(whats)}.") for program, whats in done.items()]
    return [*lines, *(wrapped(each) for each in notes)]


def suites() -> list[str]:
    """What others' suites say."""
    array, own = tables.read("array_api"), tables.read("safetensors_suite")
    passed = sum(row["passed"] for row in array["rows"])
    why = Counter(row["reason"] for row in array["rows"] if not row["passed"])
    reasons = "; ".join(f"{count}: {reason}" for reason, count in why.most_common())
    both = sum(row["wconv.torch"] == row["torch"] == "PASSED" for row in own["rows"])
    return [
        "Suites that others wrote:",
        "",
        wrapped(
            f"- array-api-tests ({versions(array)}): of {len(array['rows'])} tests that torch passes,"
            f" {passed} pass. The others, {reasons}."
        ),
        wrapped(f"- safetensors' own tests of torch ({versions(own)}): {both} of {len(own['rows'])} pass."),
        wrapped("- What torch's test_serialization saves on a CPU, in both of its formats, is read equal."),
    ]


def speed() -> list[str]:
    """Functions that are slower than three times torch."""
    table = tables.read("speed")
    slow = [row for row in sorted(table["rows"], key=lambda row: -row["ratio"]) if row["ratio"] > SLOW]
    listed = ", ".join(f"`{row['what']}` {row['ratio']:g}" for row in slow)
    count, quick, named = len(table["rows"]), len(table["rows"]) - len(slow), table["versions"]
    return [
        textwrap.fill(
            f"Of {count} calls on tensors of 16 MB, {quick} take at most three times as long as with torch"
            f" {named['torch']} on two threads ({named['machine']}). The others, with their ratios (`f`, `g`:"
            f" float32; `h`: float16; `b`: bfloat16; `i`: int32): {listed}.",
            128,
            break_long_words=False,
            break_on_hyphens=False,
        ),
    ]


def section() -> str:
    """The part of the page."""
    lines = [START, "", *converters(), "", *suites(), "", *speed(), "", END]
    return "\n".join(lines)


def replaced(page: str) -> str:
    """The page with the part as the tables have it."""
    before, rest = page.split(START)
    return before + section() + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
