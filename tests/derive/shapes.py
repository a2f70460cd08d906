"""Learns the shapes of a consumer's parameters in fields of config.json: `python -m tests.derive.shapes`.

The consumer's own model is built, without memory for its parameters, for a tiny config and for many that
differ from it in one field or in several. Which expression of fields explains each length at all of them is
solved for; which values of other fields make a difference is kept as a condition. What nothing explains stays
unchecked. Writes `wconv/consumers/PROGRAM/shapes/MODEL_TYPE.toml`.
"""

from __future__ import annotations

import copy
import functools
import inspect
import itertools
import json
import logging
import math
import random
import re
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from tests.derive import fixtures, programs, shape_fields, shape_proof, tables
from tests.derive.programs import PACKAGES, Program, probe, program
from tests.derive.shape_fields import Change
from wconv.consumers import shapes
from wconv.consumers.shapes import (
    UNCHECKED,
    Condition,
    ShapeTable,
    TensorKind,
    Where,
    kind_of,
    lookup,
    value_of,
)

Config = dict[str, Any]
Shape = tuple[int, ...]
Numbers = tuple[int, ...]

SECONDS = 5
"""For one model to be built."""

JOINT = 32
"""Configs in which several fields differ."""

REGIMES = 8
"""Fields' values that make a difference, for which everything is learned anew."""

NEEDED_PARTS: Mapping[str, tuple[str, ...]] = {"mlx-lm": (), "mlx-vlm": ("language_model",)}
"""What a program loads no model without; of other parts it takes a model that has nothing of them."""

LARGEST = 16
"""A number in an expression that is no field's."""

OFTEN_ABSENT = re.compile(r"(.*_)?(head_dim|num_key_value_heads|num_kv_heads|n_kv_heads|rank)|embed_dim")
"""Sizes that configs of real models leave out, so that they follow from others."""

OF_A_KIND = re.compile(r"(.*\.)?\w+_(type|mode|cls|kind)")
"""Fields whose every value may mean a model of another make: such as were not tried are not judged."""

COUNTED = re.compile(r"layer|period|offset|freq|every|step|interval|dense|start|first|moe|pattern|stride")
"""Fields that may say in which layers something is."""

FACTORS = (1, 1, 2, 2, 4)


@dataclass
class Sample:
    """The consumer's model at one config.

    Attributes:
        changes: how the config differs from the first.
        held: general name → numbers of layers → shape.
        counts: where layers are numbered, with the numbers above → how many.
    """

    config: Config
    changes: tuple[Change, ...]
    parameters: Mapping[str, Shape]
    held: dict[str, dict[Numbers, Shape]] = field(default_factory=dict)
    counts: dict[str, set[int]] = field(default_factory=dict)

    def arrange(self, lists: Mapping[str, str]) -> None:
        table = ShapeTable(lists, ())
        self.held, self.counts = {}, {}
        for name, shape in self.parameters.items():
            general, numbers = table.general(name)
            self.held.setdefault(general, {})[numbers] = shape
        above: dict[tuple[str, Numbers], int] = {}
        for general, rows in self.held.items():
            parts = general.split(".")
            places = [at for at, part in enumerate(parts) if part == "#"]
            for numbers in rows:
                for order, at in enumerate(places):
                    key = (".".join(parts[:at]), numbers[:order])
                    above[key] = max(above.get(key, 0), numbers[order] + 1)
        for (place, _), count in above.items():
            self.counts.setdefault(place, set()).add(count)


class TooLongError(Exception):
    """A model takes too long to build."""


class Builder:
    """Builds a program's model for configs, each once."""

    def __init__(self, prog: Program, model_type: str, ends: float) -> None:
        self.prog, self.model_type, self.ends = prog, model_type, ends
        self.module = prog.module(model_type)

    def __call__(self, config: Config, changes: tuple[Change, ...] = ()) -> Sample | None:
        """The model at a config; None where the program has none."""
        if time.process_time() > self.ends:
            return None
        signal.signal(signal.SIGVTALRM, _stop)
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
        try:
            made = self._parameters(copy.deepcopy(config))
        except (Exception, SystemExit, TooLongError):
            return None
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        if len(made) > 20_000 or any(0 in shape for shape in made.values()):
            return None
        return Sample(config, changes, made)

    def _parameters(self, config: Config) -> dict[str, Shape]:
        from mlx.utils import tree_flatten

        make = programs._mlx_lm if self.prog.name == "mlx-lm" else programs._mlx_vlm
        model, _ = make(self.module, config)
        return {name: tuple(array.shape) for name, array in tree_flatten(model.parameters())}


def _stop(*_: object) -> None:
    raise TooLongError


def learn(prog: Program, model_type: str, config: Config, seconds: float = 25, seed: int = 7) -> ShapeTable:
    """The table of a model type, from one tiny config that its model can be built for.

    Raises:
        ValueError: it cannot be built.
    """
    build = Builder(prog, model_type, time.process_time() + seconds)
    first = build(config)
    if first is None:
        raise ValueError("the program has no model for the tiny config")
    chance = random.Random(seed)
    changes = list(shape_fields.changes(prog, model_type, config))
    singles, frozen = _singles(build, first, changes)
    effective = {one.path for sample in singles for one in sample.changes if _differs(sample, first)}
    table, outside = _learn(build, first, singles, frozen, effective, chance)
    accepted, any_shape = _accepted(prog, model_type, config, first, table)
    rows = [*table.rows]
    for change in _regimes(table, first, outside)[:REGIMES]:
        again = change.applied(config)
        other = build(again)
        if other is None:
            continue
        usable = [
            one
            for one in changes
            if one.path != change.path and (one.path in effective or one.kind == "number")
        ]
        others, still = _singles(build, other, usable)
        also = effective | {
            one.path for sample in others for one in sample.changes if _differs(sample, other)
        }
        more, _ = _learn(build, other, others, frozen | still, also, chance)
        if any(more.lists.get(place) != told for place, told in table.lists.items() if place in more.lists):
            continue
        rows += _only(more.rows, change, table, outside)
    effective |= {name for row in rows for one in row.shape for name in shapes.fields_of(one)}
    table, rows = _verified(build, config, rows, table, changes, effective, chance)
    rows = [replace(row, optional=True) if row.name in accepted else row for row in rows]
    rows = [replace(row, shape=()) if row.name in any_shape else row for row in rows]
    rows = [_without_literals(row) for row in rows]
    kinds = _kinds_of_parts(config, singles, first)
    rows = [_of_its_kinds(row, kinds) for row in rows]
    return replace(table, rows=tuple(_merged(rows)), needed_parts=NEEDED_PARTS[prog.name])


def _kinds_of_parts(config: Config, singles: Sequence[Sample], first: Sample) -> dict[str, tuple[Any, ...]]:
    """The model types of a config's parts and the like, each with those that make no difference."""
    result: dict[str, tuple[Any, ...]] = {}
    changed = {sample.changes[0].path for sample in singles}
    for path, value in shape_fields.leaves(config):
        told = OF_A_KIND.fullmatch(path) and path in changed
        if isinstance(value, str) and (path.endswith(".model_type") or told):
            same = [
                sample.changes[0].kind
                for sample in singles
                if sample.changes[0].path == path and not _differs(sample, first)
            ]
            result[path] = tuple(dict.fromkeys([kind_of(value), *same]))
    return result


def _of_its_kinds(row: TensorKind, kinds: Mapping[str, tuple[Any, ...]]) -> TensorKind:
    """A row that counts for a part of another model type only where that was tried."""
    parts = {name.rpartition(".")[0] for told in row.shape for name in shapes.fields_of(told)}
    when = dict(row.when)
    for path, known in kinds.items():
        if path.rpartition(".")[0] in parts:
            when.setdefault(path, known)
    return replace(row, when=when)


def _without_literals(row: TensorKind) -> TensorKind:
    """A row without lengths that are large numbers: these may be a field's that was not seen to matter.

    Where a field is absent, they are its default.
    """
    if any("absent" in kinds for kinds in row.when.values()):
        return row
    numbers = (max((int(one) for one in re.findall(r"(?<![\w.])\d+", told)), default=0) for told in row.shape)
    return replace(
        row,
        shape=tuple(
            UNCHECKED if number > LARGEST else told for told, number in zip(row.shape, numbers, strict=True)
        ),
    )


def _singles(build: Builder, first: Sample, changes: Iterable[Change]) -> tuple[list[Sample], frozenset[str]]:
    """The models at configs that differ in one field; numbers that could not be varied."""
    config, found = first.config, []
    tried: Counter[str] = Counter()
    varied: set[str] = set()
    idle: Counter[str] = Counter()
    for change in changes:
        if change.kind == "number" and idle[change.path] > 1:
            continue
        sample = build(change.applied(config), (change,))
        if sample is not None and change.kind == "number" and sample.parameters == first.parameters:
            idle[change.path] += 1
        if kind_of(lookup(config, change.path)) == "number":
            tried[change.path] += 1
        if sample is not None:
            found.append(sample)
            if change.kind == "number":
                varied.add(change.path)
    return found, frozenset(tried.keys() - varied)


def _differs(sample: Sample, first: Sample) -> bool:
    return sample.parameters != first.parameters


def _learn(
    build: Builder,
    first: Sample,
    singles: list[Sample],
    frozen: frozenset[str],
    effective: set[str],
    chance: random.Random,
) -> tuple[ShapeTable, list[Sample]]:
    """A table that holds at the first config's kinds of values; the samples at other kinds."""
    inside = [sample for sample in singles if _alike(first.config, sample)]
    outside = [
        sample
        for sample in singles
        if not _alike(first.config, sample) and (_differs(sample, first) or _often_absent(sample))
    ]
    numbers = sorted(
        {
            one.path
            for sample in inside
            for one in sample.changes
            if one.kind == "number" and one.path in effective
        }
    )
    listed = [
        one for sample in inside for one in sample.changes if one.kind == "list" and one.path in effective
    ]
    for _ in range(JOINT):
        picked = [
            Change(path, int(lookup(first.config, path) * chance.choice(FACTORS)))
            for path in numbers
            if chance.random() < 0.6
        ]
        if listed and chance.random() < 0.5:
            picked.append(chance.choice(listed))
        sample = _joint(build, first.config, picked)
        if sample is not None:
            inside.append(sample)
    inside.insert(0, first)
    lists = _lists(inside, frozen, first.config)
    for sample in (*inside, *outside):
        sample.arrange(lists)
    values = {
        path: number for path in frozen if type(number := lookup(first.config, path)) is int and number > 1
    }
    rows = []
    for name in first.held:
        rows.append(_row(name, inside, numbers, values))
    lists_when: dict[str, dict[str, tuple[Any, ...]]] = {}
    for place, told in lists.items():
        if told == UNCHECKED:
            continue
        bad = [one for one in outside if {value_of(told, one.config)} != one.counts.get(place, set())]
        good = _guard(first.config, singles, bad)
        if good:
            lists_when[place] = good
    table = ShapeTable(lists, (), lists_when)
    rows = [_guarded(row, table, first.config, singles, outside) for row in rows]
    return ShapeTable(lists, tuple(rows), lists_when), outside


def _joint(build: Builder, config: Config, picked: Sequence[Change]) -> Sample | None:
    changed = config
    try:
        for change in picked:
            changed = change.applied(changed)
    except (AttributeError, IndexError, TypeError):  # one takes away the part that another is in
        return None
    return build(changed, tuple(picked)) if picked else None


def _alike(config: Config, sample: Sample) -> bool:
    """Whether a sample's fields are of the same kinds as the first config's."""
    return all(
        shapes.same(kind_of(lookup(config, one.path, shapes.ABSENT)), one.kind) for one in sample.changes
    )


def _lists(samples: Sequence[Sample], frozen: frozenset[str], config: Config) -> dict[str, str]:
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


def _row(
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


def solve(points: Sequence[tuple[Sample, int]], numbers: Sequence[str], frozen: Mapping[str, int]) -> str:
    """The expression of fields that gives a length in every sample; `?` where there is none."""
    first, base = points[0]
    fields = []
    for path in numbers:
        near = [
            (lookup(sample.config, path), length)
            for sample, length in points
            if len(sample.changes) == 1 and sample.changes[0].path == path
        ]
        if any(length != base for _, length in near):
            fields.append((path, near))
    if len(fields) > 6:
        return UNCHECKED
    if not fields:
        if any(length != base for _, length in points) or _hidden(base, frozen):
            return UNCHECKED
        return str(base)
    choices = [_exponents(lookup(first.config, path), base, near) for path, near in fields]
    products = list(itertools.product(*choices))
    if len(products) > 100:
        return UNCHECKED
    rows, lengths = [], []
    for sample, length in points:
        values = [lookup(sample.config, path) for path, _ in fields]
        if any(type(value) is not int or value <= 0 for value in values):
            continue
        if not all(
            _regular(value, lookup(first.config, path))
            for value, (path, _) in zip(values, fields, strict=True)
        ):
            continue
        made = [_product(values, powers) for powers in products]
        if all(one.denominator == 1 for one in made):
            rows.append(made)
            lengths.append(length)
    if len(rows) < 3:
        return UNCHECKED
    solution = _solved(rows, lengths)
    if solution is None:
        return UNCHECKED
    if any(_hidden(abs(one.numerator), frozen) for one in solution if one):
        return UNCHECKED
    paths = [path for path, _ in fields]
    for expression in _written(paths, products, solution):
        told = [(value_of(expression, sample.config), length) for sample, length in points]
        if all(value is None or value == length for value, length in told):
            return expression
    return UNCHECKED


def _hidden(number: int, frozen: Mapping[str, int]) -> bool:
    """Whether a number could stand for a field that could not be varied."""
    return number > 1 and any(number % value == 0 for value in frozen.values())


def _exponents(value: int, base: int, near: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """To which powers a field may stand in a length, from how the length follows it alone."""
    whole = [(x, y) for x, y in near if _regular(x, value) and x != value] or list(near)
    if all(y * value == base * x for x, y in whole):
        return (1,)
    if all(y * x == base * value for x, y in whole):
        return (-1,)
    slopes = {Fraction(y - base, x - value) for x, y in whole if x != value}
    if len(slopes) == 1:
        return (0, 1)
    inverse = {Fraction(y - base) / (Fraction(1, x) - Fraction(1, value)) for x, y in whole if x != value}
    return (0, -1) if len(inverse) == 1 else (0, 1, 2)


def _regular(value: int, base: int) -> bool:
    """Whether a field is larger by a power of two, so that what was divided by it still can be."""
    return base > 0 and value % base == 0 and (value // base).bit_count() == 1


def _product(values: Sequence[int], powers: Sequence[int]) -> Fraction:
    result = Fraction(1)
    for value, power in zip(values, powers, strict=True):
        result *= Fraction(value) ** power
    return result


def _solved(rows: Sequence[Sequence[Fraction]], lengths: Sequence[int]) -> list[Fraction] | None:
    """The fewest products, with their numbers, that give every length."""
    matrix = np.array([[float(one) for one in row] for row in rows])
    wanted = np.array(lengths, float)
    columns = list(range(matrix.shape[1]))
    for most in (1, 2, 3):
        if len(columns) > 40 and most > 2:
            break
        for chosen in itertools.combinations(columns, most):
            part = matrix[:, chosen]
            if len(rows) < most + 2 or np.linalg.matrix_rank(part) < most:
                continue
            found, *_ = np.linalg.lstsq(part, wanted, rcond=None)
            if np.abs(part @ found - wanted).max() > 1e-6 * wanted.max():
                continue
            numbers = [Fraction(float(one)).limit_denominator(16) for one in found]
            if all(numbers) and all(
                sum(number * row[at] for number, at in zip(numbers, chosen, strict=True)) == length
                for row, length in zip(rows, lengths, strict=True)
            ):
                result = [Fraction(0)] * len(columns)
                for number, at in zip(numbers, chosen, strict=True):
                    result[at] = number
                return result
    return None


def _written(
    fields: Sequence[str], products: Sequence[Sequence[int]], numbers: Sequence[Fraction]
) -> Iterator[str]:
    """The ways to write a sum: divisions may come early, and be undone, where a program drops a remainder."""
    written: list[list[str]] = []
    signs = []
    for powers, number in sorted(zip(products, numbers, strict=True), key=lambda one: one[1] < 0):
        if not number:
            continue
        above = [name for name, power in zip(fields, powers, strict=True) for _ in range(max(power, 0))]
        below = [name for name, power in zip(fields, powers, strict=True) for _ in range(max(-power, 0))]
        size = abs(number)
        if size.denominator != 1:
            below.append(str(size.denominator))
        written.append(
            list(_orders(above, below, size.numerator, [one for one in fields if one not in below]))
        )
        signs.append(" - " if number < 0 else " + ")
    if not written or signs[0] == " - ":
        return
    for chosen in itertools.islice(itertools.product(*written), 200):
        yield "".join(sign + term for sign, term in zip(signs, chosen, strict=True)).removeprefix(" + ")


def _orders(above: list[str], below: list[str], number: int, fields: Sequence[str]) -> Iterator[str]:
    """A product, with its divisions after one of its factors; then with a division that is undone."""
    start = [str(number)] if number != 1 or not above else []
    for at in range(max(len(above), 1)):
        moved = [*above[at : at + 1], *above[:at], *above[at + 1 :]]
        if not below:
            yield "*".join([*start, *moved])
            break
        first, *rest = moved or [str(number)]
        yield "*".join([first + "".join(f"/{one}" for one in below), *rest, *(start if moved else [])])
        yield "*".join([*start, *moved]) + "".join(f"/{one}" for one in below)
    if not below:
        for undone, first in itertools.product(fields, above):
            if undone != first:
                rest = list(above)
                rest.remove(first)
                yield "*".join([f"{first}/{undone}", undone, *start, *rest])


def _wrong(row: TensorKind, table: ShapeTable, sample: Sample, mute: bool = False) -> bool:
    """Whether a row says of a sample what is not so; with `mute`, or cannot say what it says elsewhere."""
    held = sample.held.get(row.name, {})
    for numbers, shape in held.items():
        if row.in_layer(sample.config, numbers) is False:
            if not row.optional:
                return True
            continue
        if row.shape and len(row.shape) != len(shape):
            return True
        for told, length in zip(row.shape, shape, strict=False):
            value = value_of(told, sample.config)
            if told != UNCHECKED and value != length and (mute or value is not None):
                return True
    if row.optional:
        return False
    return any(numbers not in held for numbers in wanted(row, table, sample.config))


def wanted(row: TensorKind, table: ShapeTable, config: Config) -> Iterator[Numbers]:
    """The numbers of the layers that must have a row's tensor."""
    parts = row.name.split(".")
    counts = [table.count(".".join(parts[:at]), config) for at, part in enumerate(parts) if part == "#"]
    if any(count is None for count in counts):
        return
    for numbers in itertools.product(*(range(min(count or 0, 512)) for count in counts)):
        if row.in_layer(config, numbers):
            yield numbers


def _fails(row: TensorKind, sample: Sample, table: ShapeTable) -> bool:
    """Whether a row must not count for a sample: wrong there, or mute where another row could tell."""
    return _wrong(row, table, sample, mute=_often_absent(sample))


def _often_absent(sample: Sample) -> bool:
    """Whether a sample lacks a size that often follows from others."""
    return OFTEN_ABSENT.fullmatch(sample.changes[0].path.rpartition(".")[2]) is not None


def _guard(config: Config, singles: Sequence[Sample], bad: Sequence[Sample]) -> dict[str, tuple[Any, ...]]:
    """Of which kinds the fields may be that make a difference."""
    result: dict[str, tuple[Any, ...]] = {}
    wrong = {(one.path, repr(one.kind)) for sample in bad for one in sample.changes}
    for path in sorted({path for path, _ in wrong}):
        kinds = [kind_of(lookup(config, path, shapes.ABSENT))]
        for sample in singles:
            for one in sample.changes:
                known = any(shapes.same(one.kind, kind) for kind in kinds)
                if one.path == path and not known and (path, repr(one.kind)) not in wrong:
                    kinds.append(one.kind)
        result[path] = tuple(kinds)
    return result


def _guarded(
    row: TensorKind, table: ShapeTable, config: Config, singles: Sequence[Sample], outside: Sequence[Sample]
) -> TensorKind:
    bad = [sample for sample in outside if _fails(row, sample, table)]
    return replace(row, when=_guard(config, singles, bad))


def _regimes(table: ShapeTable, first: Sample, outside: Sequence[Sample]) -> list[Change]:
    """Other kinds of values that make the most difference: for these everything is learned anew."""
    score: Counter[tuple[str, str]] = Counter()
    change_of: dict[tuple[str, str], Change] = {}
    for sample in outside:
        change = sample.changes[0]
        if change.kind in ("negative", "empty"):
            continue
        key = (change.path, repr(change.kind))
        wrong = sum(_fails(row, sample, table) for row in table.rows)
        wrong += len(sample.held.keys() - first.held.keys())
        if wrong:
            score[key] = max(score[key], wrong)
            change_of.setdefault(key, change)
    return [
        change_of[key] for key, _ in sorted(score.items(), key=lambda item: (-_common(item[0]), -item[1]))
    ]


def _common(key: tuple[str, str]) -> int:
    """What configs of real models often have one way or the other."""
    path, kind = key
    field = path.rpartition(".")[2]
    return int(
        field in ("head_dim", "tie_word_embeddings", "num_key_value_heads")
        or ("bias" in field and kind in ("True", "False"))
        or (kind in ("True", "False", "'zero'"))
    )


def _only(
    rows: Sequence[TensorKind], change: Change, table: ShapeTable, outside: Sequence[Sample]
) -> list[TensorKind]:
    """The rows of which another kind of value makes something else than the first config says."""
    sample = next(one for one in outside if one.changes[0] == change)
    old = {row.name: row for row in table.rows}
    result = []
    for row in rows:
        before = old.get(row.name)
        if before is None or _fails(before, sample, table):
            result.append(replace(row, when={**row.when, change.path: (change.kind,)}))
    return result


def _verified(
    build: Builder,
    config: Config,
    rows: list[TensorKind],
    table: ShapeTable,
    changes: Sequence[Change],
    effective: set[str],
    chance: random.Random,
) -> tuple[ShapeTable, list[TensorKind]]:
    """The rows that are right, too, where several fields differ at once in any way."""
    usable = [one for one in changes if one.path in effective]
    by_path: dict[str, list[Change]] = {}
    for one in usable:
        by_path.setdefault(one.path, []).append(one)
    for _ in range(JOINT * 2):
        if not by_path:
            break
        paths = chance.sample(sorted(by_path), min(len(by_path), chance.choice((2, 2, 3, 4))))
        sample = _joint(build, config, [chance.choice(by_path[path]) for path in paths])
        if sample is None:
            continue
        sample.arrange(table.lists)
        for place in list(table.lists):
            count = table.count(place, sample.config)
            if count is not None and {count} != sample.counts.get(place, set()) and place in table.lists:
                other = dict(table.lists)
                other[place] = UNCHECKED
                table = replace(table, lists=other)
        rows = [_lessened(row, table, sample) for row in rows]
    return table, [row for row in rows if row.shape or not row.optional]


def _lessened(row: TensorKind, table: ShapeTable, sample: Sample) -> TensorKind:
    """A row without what a sample shows to be wrong."""
    if not row.applies(sample.config) or not _wrong(row, table, sample):
        return row
    held = sample.held.get(row.name, {})
    if not row.optional and _wrong(replace(row, shape=()), table, sample):
        row = replace(row, optional=True)
        if row.where is not None:
            row = replace(row, where=None)
    if _wrong(row, table, sample):
        axes = list(row.shape)
        for shape in held.values():
            if len(shape) != len(axes):
                return replace(row, shape=(), optional=True)
            for axis, length in enumerate(shape):
                value = value_of(axes[axis], sample.config)
                if value is not None and value != length:
                    axes[axis] = UNCHECKED
        row = replace(row, shape=tuple(axes))
    return row


def _accepted(
    prog: Program, model_type: str, config: Config, first: Sample, table: ShapeTable
) -> tuple[set[str], set[str]]:
    """The kinds of tensors without which the program loads all the same, and those of any shape."""
    import mlx.core as mx

    made = probe(prog, model_type, config)
    missing, any_shape = set(), set()
    for name, held in first.held.items():
        parts = name.split("#")
        numbers = max(held)
        one = "".join(part + (str(numbers[at]) if at < len(numbers) else "") for at, part in enumerate(parts))
        weights = {other: mx.zeros(shape) for other, shape in first.parameters.items() if other != one}
        larger = mx.zeros(tuple(length + 2 for length in held[numbers]))
        for found, tried in ((missing, weights), (any_shape, {**weights, one: larger})):
            try:
                loaded = made.fresh(dict(tried))
            except (Exception, SystemExit):
                continue
            if {key: tuple(array.shape) for key, array in loaded.items()} == made.now():
                found.add(name)
    return missing, any_shape


def _merged(rows: Sequence[TensorKind]) -> list[TensorKind]:
    """Rows that say the same for other kinds of one field's values, as one."""
    done: list[TensorKind] = []
    for row in rows:
        for at, other in enumerate(done):
            if (other.name, other.shape, other.where, other.optional) != (
                row.name,
                row.shape,
                row.where,
                row.optional,
            ):
                continue
            if other.when == row.when:
                break
            differing = [
                path
                for path in other.when.keys() | row.when.keys()
                if other.when.get(path) != row.when.get(path)
            ]
            if len(differing) == 1 and differing[0] in other.when and differing[0] in row.when:
                path = differing[0]
                kinds = [*other.when[path]]
                kinds += [one for one in row.when[path] if not any(shapes.same(one, kind) for kind in kinds)]
                done[at] = replace(other, when={**other.when, path: tuple(kinds)})
                break
        else:
            done.append(row)
    return done


def text(prog: Program, table: ShapeTable) -> str:
    """A table as its file."""
    lines = [f"# Learned from {prog.name} {prog.version}: its own model, built at many configs.", ""]
    if table.needed_parts:
        lines += [f"needed_parts = {_toml(table.needed_parts)}", ""]
    if table.lists:
        lines += ["[lists]", *(f"{_toml(place)} = {_toml(told)}" for place, told in table.lists.items()), ""]
    if table.lists_when:
        lines += [
            "[lists_when]",
            *(f"{_toml(place)} = {_toml(when)}" for place, when in table.lists_when.items()),
            "",
        ]
    groups: dict[str, list[TensorKind]] = {}
    for row in table.rows:
        groups.setdefault(repr((row.when, row.where, row.optional)), []).append(row)
    for group in groups.values():
        lines.append("[[rows]]")
        row = group[0]
        if row.when:
            lines.append(f"when = {_toml(row.when)}")
        if row.where:
            parts = [
                {key: value for key, value in vars_of(one).items() if value} for one in row.where.conditions
            ]
            lines.append(f"where = {_toml({'all': parts, **({'others': True} if row.where.others else {})})}")
        if row.optional:
            lines.append("optional = true")
        lines.append("[rows.shapes]")
        lines += [f"{_toml(one.name)} = {_toml(one.shape)}" for one in group]
        lines.append("")
    return "\n".join(lines)


def vars_of(condition: Condition) -> dict[str, Any]:
    return {"field": condition.field, "kind": condition.kind, "values": condition.values}


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_toml(key)} = {_toml(one)}" for key, one in value.items())
        return f"{{ {inner} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(one) for one in value)}]"
    return json.dumps(value, ensure_ascii=False)


def folder(prog: Program) -> Path:
    return Path(shapes.__file__).parent / prog.name.replace("-", "_") / "shapes"


def quiet() -> None:
    """Without the notes of the programs that are asked."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    inspect.signature = functools.cache(inspect.signature)


def prove(prog: Program, arguments: Sequence[str]) -> int:
    """Counts what the tables find of what the program refuses, and writes the page of it."""
    names = [one for one in arguments if not one.startswith("--")]
    ends = next((float(one[6:]) for one in arguments if one.startswith("--for=")), math.inf)
    ends += time.monotonic()
    rows = fixtures.load(prog.name)
    kept = shape_proof.load()
    mine = kept.setdefault(prog.name, {})
    wrong = 0
    for model_type in names or sorted(rows):
        table = shapes.find(prog.name, model_type.lower())
        if table is None or ("--missing" in arguments and model_type in mine) or time.monotonic() > ends:
            continue
        found = shape_proof.count(prog, model_type, rows[model_type]["config"], table)
        told = found.pop("false")
        mine[model_type] = {**found, **shape_proof.of_table(table)}
        wrong += bool(told)
        print(f"{model_type}: {mine[model_type]} {told}", flush=True)
    shape_proof.save(kept)
    return 1 if wrong else 0


def main(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] not in PACKAGES:
        print(__doc__)
        return 2
    quiet()
    prog = program(arguments[0])
    if "--prove" in arguments:
        return prove(prog, arguments[1:])
    rows = fixtures.load(prog.name)
    to = folder(prog)
    to.mkdir(parents=True, exist_ok=True)
    if "--missing" in arguments and not any(one.startswith("--half=") for one in arguments):
        halves = [
            subprocess.Popen([sys.executable, "-m", "tests.derive.shapes", *arguments, f"--half={at}"])
            for at in range(2)
        ]
        return max(half.wait() for half in halves)
    half = next((int(one[7:]) for one in arguments if one.startswith("--half=")), None)
    names = [one for one in arguments[1:] if not one.startswith("--")]
    ends = next((float(one[6:]) for one in arguments if one.startswith("--for=")), math.inf)
    ends += time.monotonic()
    first = sorted(rows, key=lambda name: (tables.written(prog.name, name) is None, name))
    for at, model_type in enumerate(names or first):
        if half is not None and at % 2 != half:
            continue
        row = rows[model_type]
        name = model_type.lower()
        path = to / f"{name}.toml"
        if "shapes" not in row or ("--missing" in arguments and path.exists()) or time.monotonic() > ends:
            continue
        start = time.process_time()
        try:
            table = learn(prog, model_type, row["config"])
        except (ValueError, ImportError, SystemExit) as error:
            print(f"{model_type}: {error}", flush=True)
            continue
        body = text(prog, table)
        assert sorted(map(repr, shapes.parse(body).rows)) == sorted(map(repr, table.rows)), model_type
        path.write_text(body)
        told = [axis for one in table.rows for axis in one.shape]
        print(
            f"{model_type}: {len(table.rows)} rows, {sum(axis != UNCHECKED for axis in told)} of {len(told)}"
            f" lengths, {sum(one.optional for one in table.rows)} optional,"
            f" {time.process_time() - start:.1f} s",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
