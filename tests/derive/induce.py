"""From the origins of a program's parameters to the rules that make them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from tests.derive.cutting import write_slices
from tests.derive.induction import Induction, Traced, shapeless, single
from tests.derive.names import general, grouped, merged
from tests.derive.plain_rules import drops
from tests.derive.renames import renames
from tests.derive.stacking import write_joins, write_stacks
from tests.derive.trace import Origin, UntraceableError
from wconv.layouts.rules import CopyRule, Rule


def rules(traces: Sequence[Traced], *, whole: bool = False) -> list[Rule]:
    """The rules that make a program's parameters of the first trace's checkpoint; the others tell numbers.

    Raises:
        UntraceableError: something that no rule writes.
    """
    induction = Induction(traces, whole)
    trace, made = induction.trace, induction.made
    simple, slices, stacks, joins = _by_verb(induction)
    first: dict[str, str] = {}
    copies: dict[str, str] = {}
    for name, origin in simple.items():
        source = origin.sources[0]
        if source in slices:
            raise UntraceableError(f"{source} is used whole and in part")
        if source in first:
            copies[name] = first[source]
        else:
            first[source] = name
    # the copy is the name that differs from the source's
    wanted = dict(first)
    made.renames = renames(wanted, whole=induction.whole)
    used = {source for origin in trace.origins.values() for source in origin.sources}
    made.drops = drops(trace.shapes, used)
    _write_after(induction, simple, copies)
    _write_copies(induction, copies)
    write_slices(induction, slices)
    write_stacks(induction, stacks)
    write_joins(induction, joins)
    before = [rule for rows in made.before.values() for rule in rows]
    return [*made.drops, *made.renames, *before, *made.structure, *made.after, *made.copies]


def _by_verb(
    induction: Induction,
) -> tuple[dict[str, Origin], dict[str, list[str]], dict[str, Origin], dict[str, Origin]]:
    simple: dict[str, Origin] = {}
    slices: dict[str, list[str]] = defaultdict(list)
    stacks: dict[str, Origin] = {}
    joins: dict[str, Origin] = {}
    for name, origin in induction.trace.origins.items():
        verbs = [step[0] for step in origin.steps]
        if "stack" in verbs:
            stacks[name] = origin
        elif "join" in verbs or "stack join" in verbs:
            joins[name] = origin
        elif "slice" in verbs:
            slices[origin.sources[0]].append(name)
        else:
            simple[name] = origin
    return simple, slices, stacks, joins


def _write_after(induction: Induction, simple: Mapping[str, Origin], copies: Mapping[str, str]) -> None:
    """What is done to single tensors, by their final names."""
    steps = {name: (origin.steps, origin.added) for name, origin in simple.items() if name not in copies}
    found = grouped(steps, lambda value: (shapeless(value[0]), value[1]))
    rows: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for pattern, (done, added) in found.items():
        for step in done:
            rows[induction.what(step, pattern)].append(pattern)
        if added:
            rows["add", added].append(pattern)
    for what, patterns in rows.items():
        for (pattern,) in merged((one,) for one in patterns):
            induction.made.after.append(single(what, pattern))


def _write_copies(induction: Induction, copies: Mapping[str, str]) -> None:
    pairs = {general(source): [] for source in copies.values()}
    for name, source in copies.items():
        if general(name) not in pairs[general(source)]:
            pairs[general(source)].append(general(name))
    for source, targets in pairs.items():
        for target in targets:
            if target.count("#") != source.count("#"):
                raise UntraceableError(f"{source} is copied to a place for each number")
            induction.made.copies.append(CopyRule(source, target))
