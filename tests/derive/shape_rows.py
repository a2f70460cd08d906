"""Rows of a table of shapes: of which values of fields they are known, and what is left out of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tests.derive import shape_fields
from tests.derive.programs import Program, probe
from tests.derive.shape_fields import Change
from tests.derive.shape_judging import fails
from tests.derive.shape_samples import Config, Sample, differs
from wconv.consumers import shapes
from wconv.consumers.shapes import (
    UNCHECKED,
    ShapeTable,
    TensorKind,
    kind_of,
)

LARGEST = 16
"""A number in an expression that is no field's."""


OF_A_KIND = re.compile(r"(.*\.)?\w+_(type|mode|cls|kind)")
"""Fields whose every value may mean a model of another make: such as were not tried are not judged."""


def kinds_of_parts(config: Config, singles: Sequence[Sample], first: Sample) -> dict[str, tuple[Any, ...]]:
    """The model types of a config's parts and the like, each with those that make no difference."""
    result: dict[str, tuple[Any, ...]] = {}
    changed = {sample.changes[0].path for sample in singles}
    for path, value in shape_fields.leaves(config):
        told = OF_A_KIND.fullmatch(path) and path in changed
        if isinstance(value, str) and (path.endswith(".model_type") or told):
            same = [
                sample.changes[0].kind
                for sample in singles
                if sample.changes[0].path == path and not differs(sample, first)
            ]
            result[path] = tuple(dict.fromkeys([kind_of(value), *same]))
    return result


def of_its_kinds(row: TensorKind, kinds: Mapping[str, tuple[Any, ...]]) -> TensorKind:
    """A row that counts for a part of another model type only where that was tried."""
    parts = {name.rpartition(".")[0] for told in row.shape for name in shapes.fields_of(told)}
    when = dict(row.when)
    for path, known in kinds.items():
        if path.rpartition(".")[0] in parts:
            when.setdefault(path, known)
    return replace(row, when=when)


def without_literals(row: TensorKind) -> TensorKind:
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


def regimes(table: ShapeTable, first: Sample, outside: Sequence[Sample]) -> list[Change]:
    """Other kinds of values that make the most difference: for these everything is learned anew."""
    score: Counter[tuple[str, str]] = Counter()
    change_of: dict[tuple[str, str], Change] = {}
    for sample in outside:
        change = sample.changes[0]
        if change.kind in ("negative", "empty"):
            continue
        key = (change.path, repr(change.kind))
        wrong = sum(fails(row, sample, table) for row in table.rows)
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


def rows_only_for(
    rows: Sequence[TensorKind], change: Change, table: ShapeTable, outside: Sequence[Sample]
) -> list[TensorKind]:
    """The rows of which another kind of value makes something else than the first config says.

    None that has a layer's own number where the table counts layers: no tensor's general name is like it.
    """
    sample = next(one for one in outside if one.changes[0] == change)
    old = {row.name: row for row in table.rows}
    result = []
    for row in rows:
        if table.general(row.name)[0] != row.name:
            continue
        before = old.get(row.name)
        if before is None or fails(before, sample, table):
            result.append(replace(row, when={**row.when, change.path: (change.kind,)}))
    return result


def accepted_kinds(
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


def merged(rows: Sequence[TensorKind]) -> list[TensorKind]:
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
