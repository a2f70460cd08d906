"""Tensors that are cut: into parts with names of their own, or into numbered ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from tests.derive.induction import Induction, Traced, shapeless, single, slice_of
from tests.derive.names import general, grouped, merged, numbered
from tests.derive.trace import Shape, UntraceableError
from wconv.layouts.conditions import Setting
from wconv.layouts.reverse_rules import UnstackRule
from wconv.layouts.rules import ReshapeRule, SplitRule


def write_slices(induction: Induction, slices: Mapping[str, list[str]]) -> None:
    """Splits, by the source's name as the renamings leave it."""
    items = {}
    slices = _unstacked(induction, slices)
    for source, names in slices.items():
        origins = [induction.trace.origins[name] for name in names]
        parts = sorted(zip(names, origins, strict=True), key=lambda one: (slice_of(one[1])[2], one[0]))
        items[source] = (tuple(general(name) for name, _ in parts), tuple(one.steps for _, one in parts))
    found = grouped(items, lambda value: (value[0], [shapeless(steps) for steps in value[1]]))
    rows: dict[tuple[Any, ...], list[tuple[str, ...]]] = defaultdict(list)
    for source, (targets, steps) in found.items():
        first = next(name for name in slices if general(name) == source)
        key = _split_key(induction, first, source, targets, steps)
        rows[key].append((induction.name_now(first), *targets))
    write_splits(induction, rows)


def _unstacked(induction: Induction, slices: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Writes rules for tensors that are cut into numbered ones, and gives the others."""
    left, made = {}, dict[tuple[str, str], tuple[tuple[Any, ...], ...]]()
    for source, names in slices.items():
        names = sorted(names, key=lambda name: slice_of(induction.trace.origins[name])[2])
        steps = [induction.trace.origins[name].steps for name in names]
        target = numbered(names)
        if (
            target is None
            or len({one[1:] for one in steps}) > 1
            or any(one[0][:2] != ("slice", 0) for one in steps)
        ):
            left[source] = names
        else:
            made[induction.name_now(source), target] = steps[0][1:]
    counts = [
        max((len(names) for names in _cut_by_source(trace).values()), default=0) for trace in induction.traces
    ]
    for (source, target), after in made.items():
        count = induction.fields.of(counts, "expert")
        widths = [
            trace.shapes[name][-1]
            for trace in induction.traces
            for name in trace.shapes
            if _leads(source, name)
        ]
        inner = induction.fields.of(widths[: len(induction.traces)])
        if count is None or inner is None:
            raise UntraceableError(f"{source} is cut into numbers that no field of config.json explains")
        induction.made.structure.append(ReshapeRule(source, (count, -1, inner), (-1, inner)))
        induction.made.structure.append(UnstackRule(source, target, count))
        for step in after:
            induction.made.structure.append(
                single(induction.what_of_part(step, general_of(target)), general_of(target))
            )
    return left


def write_splits(induction: Induction, rows: Mapping[tuple[Any, ...], list[tuple[str, ...]]]) -> None:
    for (reshaped, axis, sizes, interleaved, after), members in rows.items():
        for source, *targets in merged(members):
            if reshaped:
                induction.made.structure.append(ReshapeRule(source, reshaped[0], reshaped[1]))
            induction.made.structure.append(SplitRule(source, tuple(targets), axis, sizes, interleaved))
            for target, what in zip(targets, after, strict=True):
                induction.made.structure.extend(single(one, target) for one in what)


def _split_key(
    induction: Induction,
    first: str,
    source: str,
    targets: Sequence[str],
    steps: Sequence[tuple[tuple[Any, ...], ...]],
) -> tuple[Any, ...]:
    shape = induction.trace.shapes[first]
    reshaped: Any = None
    lead = steps[0][0]
    if lead[0] == "reshape":
        reshaped = _reshaped_source(induction, first, source, lead[1])
        shape = lead[1]
        steps = [one[1:] for one in steps]
    cuts = [one[0] for one in steps]
    axis = cuts[0][1]
    if any(cut[0] != "slice" or cut[1] != axis for cut in cuts):
        raise UntraceableError(f"{source} is cut along several axes")
    sizes, interleaved = sizes_of(induction, source, targets, cuts, shape[axis])
    after = tuple(
        tuple(induction.what_of_part(step, target) for step in one[1:])
        for one, target in zip(steps, targets, strict=True)
    )
    return (reshaped, axis - len(shape), sizes, interleaved, after)


def _reshaped_source(induction: Induction, first: str, source: str, shape: Shape) -> tuple[Any, Any]:
    count = [
        next(
            (
                origin.steps[0][1][0]
                for origin in trace.origins.values()
                if origin.sources[0] == first and origin.steps and origin.steps[0][0] == "reshape"
            ),
            0,
        )
        for trace in induction.traces
    ]
    heads = induction.fields.of(count, "head")
    inner = induction.fields.of(
        [trace.shapes[first][-1] for trace in induction.traces if first in trace.shapes]
    )
    if heads is None or inner is None or len(shape) != 3:
        raise UntraceableError(
            f"{source} is taken apart into {shape}, which no field of config.json explains"
        )
    return (heads, -1, inner), (-1, inner)


def sizes_of(
    induction: Induction, source: str, targets: Sequence[str], cuts: Sequence[tuple[Any, ...]], whole: int
) -> tuple[tuple[Setting, ...], bool]:
    lengths = [(stop - start) // step for _, _, start, stop, step in cuts]
    if sum(lengths) != whole:
        raise UntraceableError(f"a part of {source} is left out")
    if cuts[0][4] > 1:
        if [cut[2] for cut in cuts] != list(range(len(cuts))):
            raise UntraceableError(f"{source} is cut in an order of its own")
        return (), True
    if len(set(lengths)) == 1:
        return (), False
    found = []
    for target, length in zip(targets, lengths, strict=True):
        values = [length, *(_length_elsewhere(induction, other, target) for other in induction.traces[1:])]
        setting = induction.fields.of(values)
        if setting is None:
            raise UntraceableError(f"{source} is cut into {lengths}, which no field of config.json explains")
        found.append(setting)
    return tuple(found), False


def _length_elsewhere(induction: Induction, trace: Traced, target: str) -> int:
    for name, origin in trace.origins.items():
        if general(name) == target:
            cut = next((step for step in origin.steps if step[0] == "slice"), None)
            if cut is not None:
                return int((cut[3] - cut[2]) // cut[4])
    return -1


def _cut_by_source(trace: Traced) -> dict[str, list[str]]:
    """For each source that is cut along its first axis, the names of its parts."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, origin in trace.origins.items():
        if origin.steps and origin.steps[0][:2] == ("slice", 0):
            found[origin.sources[0]].append(name)
    return found


def _leads(pattern: str, name: str) -> bool:
    """Whether a source's name ends as a pattern does, which renamings of its beginning leave."""
    return general(name).split(".")[-3:] == pattern.split(".")[-3:]


def general_of(pattern: str) -> str:
    """The pattern with any number in place of the one that is counted."""
    return pattern.replace("{e}", "#")
