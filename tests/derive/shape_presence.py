"""In which layers a tensor is, and how many layers there are, by the fields that tell."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tests.derive import shape_fields
from tests.derive.shape_expressions import solve
from tests.derive.shape_samples import Config, Numbers, Sample
from wconv.consumers import shapes
from wconv.consumers.shapes import (
    UNCHECKED,
    Condition,
    ShapeTable,
    TensorKind,
    Where,
    lookup,
    value_of,
)

COUNTED = re.compile(r"layer|period|offset|freq|every|step|interval|dense|start|first|moe|pattern|stride")
"""Fields that may say in which layers something is."""


def layer_lists(samples: Sequence[Sample], frozen: frozenset[str], config: Config) -> dict[str, str]:
    """Where the numbers in names count layers: as many as some field says."""
    known: dict[str, str] = {}
    while True:
        table = ShapeTable(known, ())
        seen: dict[str, list[tuple[Config, int]]] = {}
        for sample in samples:
            most: dict[tuple[str, Numbers, str], int] = {}
            for name in sample.parameters:
                general, numbers = table.general(name)
                parts = general.split(".")
                for at in range(1, len(parts)):
                    if parts[at].isdecimal():
                        before = parts[:at].count("#")
                        key = (".".join(parts[:at]), numbers[:before], "")
                        most[key] = max(most.get(key, 0), int(parts[at]) + 1)
                        break
            for (place, _, _), count in most.items():
                seen.setdefault(place, []).append((sample.config, count))
        new = {}
        for place, counts in seen.items():
            if len({count for _, count in counts}) == 1:
                continue
            new[place] = _count(counts) or UNCHECKED
        if not new:
            return known
        known.update(new)


def _count(counts: Sequence[tuple[Config, int]]) -> str | None:
    """The field that says how many, in every config."""
    candidates = [
        path
        for path, value in shape_fields.leaves(counts[0][0])
        if type(value) is int and value == counts[0][1]
    ]
    for path in sorted(candidates, key=lambda path: ("layer" not in path, path.count("."), len(path))):
        if all(value_of(path, config) == count for config, count in counts):
            return path
    found = list(shape_fields.leaves(counts[0][0], lists=True))
    others = [f"len({path})" for path, value in found if isinstance(value, list)]
    others += [f"{path} {sign} 1" for path, value in found if type(value) is int for sign in "-+"]
    for told in others:
        if all(value_of(told, config) == count for config, count in counts):
            return told
    return None


def tensor_kind(
    name: str, samples: Sequence[Sample], numbers: Sequence[str], frozen: Mapping[str, int]
) -> TensorKind:
    """What is known of the tensors of one kind."""
    where, optional = _presence(name, samples)
    ranks = {len(shape) for sample in samples for shape in sample.held.get(name, {}).values()}
    if len(ranks) != 1:
        return TensorKind(name, (), where=where, optional=optional)
    axes = []
    for axis in range(ranks.pop()):
        points = []
        for sample in samples:
            found = {shape[axis] for shape in sample.held.get(name, {}).values()}
            if len(found) > 1:
                points = []
                break
            if found:
                points.append((sample, found.pop()))
        axes.append(solve(points, numbers, frozen) if points else UNCHECKED)
    return TensorKind(name, tuple(axes), where=where, optional=optional)


def _presence(name: str, samples: Sequence[Sample]) -> tuple[Where | None, bool]:
    """In which layers a tensor is, by the first rule that holds in every sample."""
    seen: list[tuple[Config, list[int], list[int]]] = []
    if "#" not in name:
        return None, any(name not in sample.held for sample in samples)
    place = name.split(".#")[0]
    for sample in samples:
        has = {numbers[0] for numbers in sample.held.get(name, {})}
        everything = range(max(sample.counts.get(place, {0})))
        seen.append((sample.config, sorted(has), [one for one in everything if one not in has]))
    if not any(lacking for _, _, lacking in seen):
        return None, False
    for where in _rules(seen):
        if all(
            all(where.holds(config, layer) is True for layer in has)
            and all(where.holds(config, layer) is False for layer in lacking)
            for config, has, lacking in seen
        ):
            return where, False
    return None, True


def _rules(seen: Sequence[tuple[Config, list[int], list[int]]]) -> Iterator[Where]:
    """What could tell in which layers a tensor is: one field, or the first layers and every so many."""
    config = seen[0][0]
    found = list(shape_fields.leaves(config, lists=True))
    for path, value in found:
        if isinstance(value, list):
            kinds: list[Any] = []
            for other, has, _ in seen:
                told = lookup(other, path)
                if not isinstance(told, list):
                    continue
                for layer in has:
                    if layer < len(told) and not any(shapes.same(told[layer], one) for one in kinds):
                        kinds.append(told[layer])
            if kinds and all(isinstance(one, str | int) for one in kinds):
                yield Where((Condition(path, "values", tuple(kinds)),))
    numbers = [(path, value) for path, value in found if type(value) is int and value < 64]
    numbers = [(path, value) for path, value in numbers if COUNTED.search(path.rpartition(".")[2])]
    starts = [Condition(path, "from") for path, _ in numbers]
    yield from (Where((one,)) for one in starts)
    yield from (Where((replace(one, kind="below"),)) for one in starts)
    steps = []
    for path, value in numbers:
        if value > 0:
            rests = [0, -1, *(other for other, _ in numbers if other != path)]
            steps += [Condition(path, "every", (rest,)) for rest in rests]
    yield from (Where((one,), others) for one in steps for others in (False, True))
    for start, step in itertools.product(starts, steps):
        if start.field != step.field:
            yield from (Where((start, step), others) for others in (False, True))
