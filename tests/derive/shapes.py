"""Learns the shapes of a consumer's parameters in fields of config.json: `python -m tests.derive.shapes`.

The consumer's own model is built, without memory for its parameters, for a tiny config and for many that
differ from it in one field or in several. Which expression of fields explains each length at all of them is
solved for; which values of other fields make a difference is kept as a condition. What nothing explains stays
unchecked. Writes `wconv/consumers/PROGRAM/shapes/MODEL_TYPE.toml`.
"""

from __future__ import annotations

import functools
import inspect
import logging
import math
import random
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.derive import fixtures, shape_fields, shape_proof, tables
from tests.derive.programs import PACKAGES, Program, program
from tests.derive.shape_fields import Change
from tests.derive.shape_judging import guard_of, guarded, lessened, often_absent
from tests.derive.shape_presence import layer_lists, tensor_kind
from tests.derive.shape_rows import (
    accepted_kinds,
    kinds_of_parts,
    merged,
    of_its_kinds,
    regimes,
    rows_only_for,
    without_literals,
)
from tests.derive.shape_samples import Builder, Config, Sample, differs, joint, singles_of
from tests.derive.shape_text import text
from wconv.consumers import shapes
from wconv.consumers.shapes import (
    UNCHECKED,
    ShapeTable,
    TensorKind,
    kind_of,
    lookup,
    value_of,
)

JOINT = 32
"""Configs in which several fields differ."""

REGIMES = 8
"""Fields' values that make a difference, for which everything is learned anew."""

NEEDED_PARTS: Mapping[str, tuple[str, ...]] = {"mlx-lm": (), "mlx-vlm": ("language_model",)}
"""What a program loads no model without; of other parts it takes a model that has nothing of them."""


FACTORS = (1, 1, 2, 2, 4)


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
    singles, frozen = singles_of(build, first, changes)
    effective = {one.path for sample in singles for one in sample.changes if differs(sample, first)}
    table, outside = _learn(build, first, singles, frozen, effective, chance)
    accepted, any_shape = accepted_kinds(prog, model_type, config, first, table)
    rows = [*table.rows]
    for change in regimes(table, first, outside)[:REGIMES]:
        again = change.applied(config)
        other = build(again)
        if other is None:
            continue
        usable = [
            one
            for one in changes
            if one.path != change.path and (one.path in effective or one.kind == "number")
        ]
        others, still = singles_of(build, other, usable)
        also = effective | {one.path for sample in others for one in sample.changes if differs(sample, other)}
        more, _ = _learn(build, other, others, frozen | still, also, chance)
        if any(more.lists.get(place) != told for place, told in table.lists.items() if place in more.lists):
            continue
        rows += rows_only_for(more.rows, change, table, outside)
    effective |= {name for row in rows for one in row.shape for name in shapes.fields_of(one)}
    table, rows = _verified(build, config, rows, table, changes, effective, chance)
    rows = [replace(row, optional=True) if row.name in accepted else row for row in rows]
    rows = [replace(row, shape=()) if row.name in any_shape else row for row in rows]
    rows = [without_literals(row) for row in rows]
    kinds = kinds_of_parts(config, singles, first)
    rows = [of_its_kinds(row, kinds) for row in rows]
    return replace(table, rows=tuple(merged(rows)), needed_parts=NEEDED_PARTS[prog.name])


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
        if not _alike(first.config, sample) and (differs(sample, first) or often_absent(sample))
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
        sample = joint(build, first.config, picked)
        if sample is not None:
            inside.append(sample)
    inside.insert(0, first)
    lists = layer_lists(inside, frozen, first.config)
    for sample in (*inside, *outside):
        sample.arrange(lists)
    values = {
        path: number for path in frozen if type(number := lookup(first.config, path)) is int and number > 1
    }
    rows = []
    for name in first.held:
        rows.append(tensor_kind(name, inside, numbers, values))
    lists_when: dict[str, dict[str, tuple[Any, ...]]] = {}
    for place, told in lists.items():
        if told == UNCHECKED:
            continue
        bad = [one for one in outside if {value_of(told, one.config)} != one.counts.get(place, set())]
        good = guard_of(first.config, singles, bad)
        if good:
            lists_when[place] = good
    table = ShapeTable(lists, (), lists_when)
    rows = [guarded(row, table, first.config, singles, outside) for row in rows]
    return ShapeTable(lists, tuple(rows), lists_when), outside


def _alike(config: Config, sample: Sample) -> bool:
    """Whether a sample's fields are of the same kinds as the first config's."""
    return all(
        shapes.same(kind_of(lookup(config, one.path, shapes.ABSENT)), one.kind) for one in sample.changes
    )


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
        sample = joint(build, config, [chance.choice(by_path[path]) for path in paths])
        if sample is None:
            continue
        sample.arrange(table.lists)
        for place in list(table.lists):
            count = table.count(place, sample.config)
            if count is not None and {count} != sample.counts.get(place, set()) and place in table.lists:
                other = dict(table.lists)
                other[place] = UNCHECKED
                table = replace(table, lists=other)
        rows = [lessened(row, table, sample) for row in rows]
    return table, [row for row in rows if row.shape or not row.optional]


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
    done = shape_proof.load().get(prog.name, {})
    wrong = 0
    for model_type in names or sorted(rows):
        table = shapes.find(prog.name, model_type.lower())
        if table is None or ("--missing" in arguments and model_type in done) or time.monotonic() > ends:
            continue
        found = shape_proof.count(prog, model_type, rows[model_type]["config"], table)
        told = found.pop("false")
        found |= shape_proof.of_table(table)
        wrong += bool(told)
        print(f"{model_type}: {found} {told}", flush=True)
        if told:
            shape_proof.leave(prog.name, model_type, f"what was learned is wrong elsewhere: {told[0]:.120}")
        else:
            shape_proof.keep(prog.name, model_type, found)
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
            shape_proof.leave(prog.name, model_type, f"not learned: {error!s:.120}")
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
