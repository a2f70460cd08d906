"""Tensors that are made of several: stacked by number, or joined along an axis."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from tests.derive.cutting import sizes_of, write_splits
from tests.derive.induction import Induction, shapeless, single, slice_of_steps
from tests.derive.names import general, grouped, merged, numbered
from tests.derive.plain_rules import fits
from tests.derive.renames import renamed
from tests.derive.trace import Origin, UntraceableError
from wconv.layouts.conditions import Setting
from wconv.layouts.reverse_rules import JoinRule
from wconv.layouts.rules import StackRule


def write_stacks(induction: Induction, stacks: Mapping[str, Origin]) -> None:
    items = {name: _stack_of(induction, origin) for name, origin in stacks.items()}
    found = grouped(items, lambda value: (value[0], shapeless(value[1])))
    whole: dict[str, list[tuple[str, tuple[tuple[Any, ...], ...]]]] = defaultdict(list)
    rows = []
    after: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for target, (source, steps) in found.items():
        if any(step[0] == "slice" for step in steps):
            whole[source].append((target, steps))
            continue
        rows.append((source, target))
        for step in steps:
            after[_stacked_what(induction, step, target)].append(target)
    cut: dict[tuple[Any, ...], list[tuple[str, ...]]] = defaultdict(list)
    for source, parts in whole.items():
        between = source.replace(".{e}", "")
        rows.append((source, between))
        parts.sort(key=lambda one: (slice_of_steps(one[1])[2], one[0]))
        cuts = [slice_of_steps(steps) for _, steps in parts]
        shape = induction.trace.shapes[next(name for name in induction.trace.shapes if fits(source, name))]
        targets = [target for target, _ in parts]
        sizes, interleaved = sizes_of(induction, source, targets, cuts, shape[cuts[0][1]])
        then = tuple(
            tuple(_stacked_what(induction, step, target) for step in steps if step[0] != "slice")
            for target, steps in parts
        )
        cut[None, cuts[0][1] - len(shape), sizes, interleaved, then].append((between, *targets))
    count = _count_stacked(induction, stacks)
    for source, target in merged(rows):
        induction.made.structure.append(StackRule(source, target, count))
    write_splits(induction, cut)
    for what, patterns in after.items():
        for (pattern,) in merged((one,) for one in patterns):
            induction.made.structure.append(single(what, pattern))


def _stacked_what(induction: Induction, step: tuple[Any, ...], target: str) -> tuple[Any, ...]:
    if step[0] == "order" and step[1] == (1, 0):
        return ("order", "swap_last", None)
    raise UntraceableError(f"{target}: tensors that are rearranged before they are stacked")


def _stack_of(induction: Induction, origin: Origin) -> tuple[str, tuple[tuple[Any, ...], ...]]:
    names = [renamed(source, induction.made.renames) for source in origin.sources]
    pattern = numbered(names)
    if pattern is None:
        raise UntraceableError(f"{names[0]} and {len(names) - 1} more are stacked, which do not count from 0")
    return pattern, origin.steps[:-1]


def _count_stacked(induction: Induction, stacks: Mapping[str, Origin]) -> Setting | None:
    counts = []
    for trace in induction.traces:
        sizes = {
            len(origin.sources) for origin in trace.origins.values() if origin.steps[-1:] == (("stack",),)
        }
        if len(sizes) != 1:
            return None
        counts.append(sizes.pop())
    return induction.fields.of(counts, "expert") if len(counts) > 1 and stacks else None


def write_joins(induction: Induction, joins: Mapping[str, Origin]) -> None:
    items = {name: _join_of(induction, name, origin) for name, origin in joins.items()}
    found = grouped(items, lambda value: value)
    stacks, plain = [], defaultdict(list)
    for target, (parts, axis, stacked) in found.items():
        sources = parts
        if stacked:
            sources = tuple(part.replace(".{e}", "") for part in parts)
            stacks.extend(zip(parts, sources, strict=True))
        plain[axis, len(parts)].append((sources[0], *sources[1:], target))
    for source, target in merged(stacks):
        induction.made.structure.append(StackRule(source, target, _count_joined(induction)))
    for (axis, _), rows in plain.items():
        for source, *others, target in merged(rows):
            induction.made.structure.append(JoinRule(source, tuple(others), target, axis))


def _count_joined(induction: Induction) -> Setting | None:
    counts = []
    for trace in induction.traces:
        sizes = {
            len(origin.sources) // origin.steps[-1][2]
            for origin in trace.origins.values()
            if origin.steps and origin.steps[-1][0] == "stack join"
        }
        if len(sizes) != 1:
            return None
        counts.append(sizes.pop())
    return induction.fields.of(counts, "expert") if len(counts) > 1 else None


def _join_of(induction: Induction, name: str, origin: Origin) -> tuple[tuple[str, ...], int, bool]:
    step = origin.steps[-1]
    names = [renamed(source, induction.made.renames) for source in origin.sources]
    if step[0] == "join":
        shapes = {induction.trace.shapes[source][step[1]] for source in origin.sources}
        if len(shapes) != 1:
            raise UntraceableError(f"{name} is joined of parts of several lengths")
        if len(names) > 16:
            raise UntraceableError(f"{name} is joined of {len(names)} tensors")
        return tuple(general(one) for one in names), step[1], False
    per = step[2]
    columns = [numbered(names[at::per]) for at in range(per)]
    if None in columns:
        raise UntraceableError(f"{name} is made of {len(names)} tensors that do not count from 0")
    return tuple(str(column) for column in columns), step[1], True
