"""Whether weights have the shapes that their consumer's own model has at their config.json.

What a consumer's model holds is learned from the consumer itself (`tests/derive/shapes.py`) and kept in
`consumers/PROGRAM/shapes/MODEL_TYPE.toml`: for each name its shape in fields of config.json, in which layers
it is, and for which values of other fields that was seen to be so. Nothing is said of a tensor where a config
has values for which nothing was learned.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MODEL_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,60}", re.ASCII)
MOST = 1 << 48
"""No length, and no field that one is made of, is larger."""

UNCHECKED = "?"
"""A length that no field explains."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What tells of a layer whether a tensor is in it.

    Attributes:
        field: the field of config.json that tells.
        kind: "values": a list with a member for each layer, one of `values`; "from" and "below": the number
            of the first layer, or of the first that has it no more; "every": layers whose number, divided by
            the field's, leaves one of `values`: numbers, -1 for the last, or the names of other fields.
    """

    field: str
    kind: str
    values: tuple[Any, ...] = ()

    def holds(self, config: Mapping[str, Any], layer: int) -> bool | None:
        """Whether it holds for a layer; None where the config does not tell."""
        told = lookup(config, self.field)
        if self.kind == "values":
            if not isinstance(told, list) or layer >= len(told):
                return None
            return any(same(told[layer], value) for value in self.values)
        if type(told) is not int or not 0 <= told < MOST:
            return None
        if self.kind != "every":
            return layer >= told if self.kind == "from" else layer < told
        rests = [lookup(config, one) if isinstance(one, str) else one for one in self.values]
        if told == 0 or any(type(one) is not int for one in rests):
            return None
        return layer % told in {one if one >= 0 else one + told for one in rests}


@dataclass(frozen=True, slots=True)
class Where:
    """In which of the layers a tensor is: in those for which all conditions hold, or in all others."""

    conditions: tuple[Condition, ...]
    others: bool = False

    def holds(self, config: Mapping[str, Any], layer: int) -> bool | None:
        """Whether a layer has it; None where the config does not tell."""
        told = [one.holds(config, layer) for one in self.conditions]
        return None if None in told else all(told) is not self.others


@dataclass(frozen=True, slots=True)
class TensorKind:
    """Tensors of one kind: their shape where the config is as it was when that was learned.

    Attributes:
        name: with `#` for the numbers of layers.
        shape: an expression for each axis, or `?`.
        when: field → what it may be (see `kind_of`).
        where: in which layers.
        optional: whether a model loads without it.
    """

    name: str
    shape: tuple[str, ...]
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    where: Where | None = None
    optional: bool = False

    def applies(self, config: Mapping[str, Any]) -> bool:
        """Whether the config's fields are among those of which this was learned."""
        return fits(self.when, config)

    def in_layer(self, config: Mapping[str, Any], numbers: tuple[int, ...]) -> bool | None:
        """Whether the model has it at these numbers; None where that is not known."""
        if self.where is None:
            return True
        return self.where.holds(config, numbers[0]) if numbers else None


@dataclass(frozen=True, slots=True)
class ShapeTable:
    """What is known of a model type.

    Attributes:
        lists: where layers are numbered → how many there are, as an expression; `?` where none tells.
        lists_when: the same → of which values of other fields that is known.
        rows: the tensors.
        needed_parts: the first words of names that a model must have some of; of all others a program takes a
            model without, if a checkpoint has nothing of them. Empty where all are needed.
    """

    lists: Mapping[str, str]
    rows: tuple[TensorKind, ...]
    lists_when: Mapping[str, Mapping[str, tuple[Any, ...]]] = field(default_factory=dict)
    needed_parts: tuple[str, ...] = ()

    def count(self, place: str, config: Mapping[str, Any]) -> int | None:
        """How many layers the model has at a place; None where that is not known."""
        expression = self.lists.get(place, UNCHECKED)
        return value_of(expression, config) if fits(self.lists_when.get(place, {}), config) else None

    def general(self, name: str) -> tuple[str, tuple[int, ...]]:
        """A name with `#` for the numbers of layers, and these numbers."""
        parts = name.split(".")
        numbers: list[int] = []
        for at in range(1, len(parts)):
            if parts[at].isdecimal() and len(parts[at]) < 8 and ".".join(parts[:at]) in self.lists:
                numbers.append(int(parts[at]))
                parts[at] = "#"
        return ".".join(parts), tuple(numbers)


class _Absent:
    """What `lookup` gives for a field that is not there, where null is something else."""


ABSENT = _Absent()


def lookup(config: Any, path: str, default: Any = None) -> Any:
    """A field by its path: `text_config.hidden_size`, `depths.0`."""
    found = config
    for key in path.split("."):
        if isinstance(found, Mapping) and key in found:
            found = found[key]
        elif isinstance(found, list) and key.isdecimal() and len(key) < 6 and int(key) < len(found):
            found = found[int(key)]
        else:
            return default
    return found


def kind_of(value: Any) -> Any:
    """A field's value as `when` has it: what matters of it to a model's shapes.

    >>> kind_of(4096), kind_of(0), kind_of(None), kind_of(True), kind_of("silu"), kind_of(0.5)
    ('number', 'zero', 'null', True, '=silu', '=0.5')
    """
    if isinstance(value, bool):
        return value
    if value is ABSENT:
        return "absent"
    if value is None:
        return "null"
    if isinstance(value, int):
        return "number" if 0 < value < MOST else "zero" if value == 0 else "negative"
    if isinstance(value, str | float):
        return f"={value:.60}" if isinstance(value, str) else f"={value!r}"
    if isinstance(value, list):
        return "list" if value else "empty"
    return "part"


def fits(when: Mapping[str, tuple[Any, ...]], config: Mapping[str, Any]) -> bool:
    """Whether each of some fields is of one of the kinds that are named."""
    return all(
        any(same(kind_of(lookup(config, name, ABSENT)), kind) for kind in kinds)
        for name, kinds in when.items()
    )


def same(left: Any, right: Any) -> bool:
    """Whether two values are the same, True not being 1."""
    return type(left) is type(right) and bool(left == right)


@functools.lru_cache(4096)
def terms(expression: str) -> tuple[tuple[int, tuple[tuple[str, str], ...]], ...]:
    """An expression's terms: whether it is added (1) or taken away (-1), and its factors with `*` or `/`.

    >>> terms("hidden/heads*kv + 2*dim")
    ((1, (('*', 'hidden'), ('/', 'heads'), ('*', 'kv'))), (1, (('*', '2'), ('*', 'dim'))))
    """
    result = []
    for term in expression.replace(" - ", " + -").split(" + "):
        factors = re.findall(r"([*/]?)([^*/]+)", term.removeprefix("-"))
        steps = tuple((sign or "*", factor) for sign, factor in factors)
        result.append((-1 if term.startswith("-") else 1, steps))
    return tuple(result)


def value_of(expression: str, config: Mapping[str, Any]) -> int | None:
    """What an expression comes to, from left to right.

    None where a field is no plain number, a number too large, or a division not exact.
    """
    if expression == UNCHECKED:
        return None
    total = 0
    for sign, steps in terms(expression):
        product = 1
        for step, factor in steps:
            value = int(factor) if factor.isdecimal() else _number(factor, config)
            if type(value) is not int or not 0 <= value < MOST:
                return None
            if step == "*":
                product *= value
            elif value == 0 or product % value:
                return None
            else:
                product //= value
            if product >= MOST:
                return None
        total += sign * product
    return total if 0 < total < MOST else None


def _number(name: str, config: Mapping[str, Any]) -> Any:
    """A field, or the length of one that is a list: `len(layer_types)`."""
    if not name.startswith("len("):
        return lookup(config, name)
    told = lookup(config, name[4:-1])
    return len(told) if isinstance(told, list) else None


def fields_of(expression: str) -> list[str]:
    """The fields that an expression is made of, in order."""
    if expression == UNCHECKED:
        return []
    return list(
        dict.fromkeys(
            factor for _, steps in terms(expression) for _, factor in steps if not factor.isdecimal()
        )
    )


def active(table: ShapeTable, config: Mapping[str, Any]) -> Iterator[TensorKind]:
    """The rows that count for a config."""
    return (row for row in table.rows if row.applies(config))


def parse(text: str) -> ShapeTable:
    """A table from its file."""
    content = tomllib.loads(text)
    rows = []
    for group in content.get("rows", []):
        when = {name: tuple(kinds) for name, kinds in group.get("when", {}).items()}
        told = group.get("where")
        where = None
        if told:
            conditions = [
                Condition(one["field"], one["kind"], tuple(one.get("values", ()))) for one in told["all"]
            ]
            where = Where(tuple(conditions), told.get("others", False))
        for name, shape in group["shapes"].items():
            rows.append(TensorKind(name, tuple(shape), when, where, group.get("optional", False)))
    lists_when = {
        place: {name: tuple(kinds) for name, kinds in when.items()}
        for place, when in content.get("lists_when", {}).items()
    }
    needed = tuple(content.get("needed_parts", ()))
    return ShapeTable(content.get("lists", {}), tuple(rows), lists_when, needed)


def path_of(program: str, model_type: str) -> Path | None:
    """Where a model type's table is, if its name may be a file's."""
    if not MODEL_TYPE.fullmatch(model_type):
        return None
    return Path(__file__).parent / program.replace("-", "_") / "shapes" / f"{model_type.lower()}.toml"


@functools.lru_cache(16)
def find(program: str, model_type: str) -> ShapeTable | None:
    """The table of a program for a model type; None where nothing was learned."""
    path = path_of(program, model_type)
    if path is None or not path.is_file():
        return None
    text = path.read_text(encoding="utf-8")
    if text.startswith("same_as"):
        return find(program, tomllib.loads(text)["same_as"])
    return parse(text)
