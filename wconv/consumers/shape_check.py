"""Compares a model's tensors with what its consumer's own model holds (`shapes.py`)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from wconv.consumers.shapes import ShapeTable, TensorKind, active, fields_of, lookup, value_of
from wconv.errors import LayoutError
from wconv.tensors.lazy import LazyTensor, Shape

KEPT = "; --layout hf keeps it as it is"
QUANTIZED = ("quantization", "quantization_config")
MOST_PLACES = 20_000
"""Numbers of layers that are looked at for one kind of tensor."""

TIED = "tie_word_embeddings"

Numbers = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """What was compared, so that nothing is judged twice.

    Attributes:
        kinds: general names that the table knows, whether or not they count for the config.
        places: where layers were counted.
        names: the tensors of the kinds that count for the config.
    """

    table: ShapeTable
    kinds: frozenset[str] = frozenset()
    places: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()

    def knows(self, name: str) -> bool:
        """Whether a tensor was compared: its kind counts for the config."""
        return name in self.names


@dataclass
class _Model:
    """A model's tensors by their general names."""

    tensors: Mapping[str, LazyTensor]
    sources: Mapping[str, tuple[str, ...]]
    config: Mapping[str, Any]
    table: ShapeTable
    whose: str
    held: dict[str, dict[Numbers, str]] = field(default_factory=dict)

    def source(self, name: str) -> str:
        """What the source calls a tensor that comes of one alone."""
        found = self.sources.get(name) or (name,)
        return found[0] if len(found) == 1 else name


def check(
    table: ShapeTable,
    tensors: Mapping[str, LazyTensor],
    sources: Mapping[str, tuple[str, ...]],
    config: Mapping[str, Any],
    program: str,
) -> Judged:
    """Refuses tensors of other shapes than the consumer's model has, too many layers, and missing tensors.

    Of a model that has less than three quarters of the kinds of tensors that its consumer wants, no
    kind is missed as a whole, but for an output layer that the config says there is: it is an excerpt.
    Nor of one that has tensors of which the program may make those that it lacks.

    Args:
        tensors: by the names that they are written under.
        sources: for each of these names the source's own.
        program: the consumer's name, for what is said.

    Raises:
        LayoutError: naming the tensor, what was found and what was expected.
    """
    model = _Model(tensors, sources, config, table, f"{program}'s {config.get('model_type')}")
    for name in tensors:
        general, numbers = table.general(name)
        model.held.setdefault(general, {})[numbers] = name
    places = frozenset(place for place in table.lists if _counted(place, model))
    rows = tuple(active(table, config))
    for row in rows:
        _check_shapes(row, model)
    required = [row for row in rows if not row.optional and _part_is_there(row, model)]
    for row in required:
        if row.name in model.held:
            _check_layers(row, model)
    missing = [(row, first) for row in required if row.name not in model.held for first in _first(row, model)]
    plain = not any(config.get(name) for name in QUANTIZED)
    whole = 4 * sum(row.name in model.held for row in required) >= 3 * len(required)
    # of what is there and not wanted, the program's sanitize may make what is wanted and not there
    whole = whole and not _unwanted(rows, model)
    for row, numbers in missing:
        tied = _tied(row)
        if plain and (whole or (tied and lookup(config, tied) is False)):
            _refuse_missing(row, numbers, model)
    kinds = frozenset(row.name for row in table.rows)
    counted = {row.name for row in rows}
    known = (held.values() for general, held in model.held.items() if general in counted)
    return Judged(table, kinds, places, frozenset(itertools.chain.from_iterable(known)))


def _unwanted(rows: tuple[TensorKind, ...], model: _Model) -> bool:
    """Whether there are tensors that the program's model has for other values of the config's fields."""
    wanted = {row.name for row in rows}
    return any(row.name in model.held and row.name not in wanted for row in model.table.rows)


def _counted(place: str, model: _Model) -> bool:
    """Whether the layers at a place are as many as the config says; False where that is not known.

    Raises:
        LayoutError: they are not.
    """
    count = model.table.count(place, model.config)
    depth = place.count("#")
    if count is None:
        return False
    found: dict[Numbers, dict[int, str]] = {}
    for general, held in model.held.items():
        if general.startswith(place + ".#"):
            for numbers, name in held.items():
                found.setdefault(numbers[:depth], {}).setdefault(numbers[depth], name)
    wants = f"config.json's {model.table.lists[place]} wants {count:,}"
    for layers in found.values():
        extra = max(layers)
        if extra >= count:
            raise LayoutError(
                f"{model.source(layers[extra]):.200} is of one layer too many: {wants}, the weights have"
                f" {len(layers):,}{KEPT}"
            )
    if place in _whole(model):
        for numbers, layers in found.items():
            first = next(number for number in itertools.count() if number not in layers)
            if first < count:
                where = _named(f"{place}.#", (*numbers, first))
                raise LayoutError(
                    f"{where} is missing: {wants} layers and the weights have {len(layers):,}{KEPT}"
                )
    return True


def _whole(model: _Model) -> set[str]:
    """Where every layer has something that is needed."""
    return {
        row.name.rpartition(".#")[0]
        for row in active(model.table, model.config)
        if "#" in row.name and not row.optional and row.where is None
    }


def _check_shapes(row: TensorKind, model: _Model) -> None:
    wanted = [value_of(told, model.config) for told in row.shape]
    right: set[Shape] = set()
    for numbers, name in model.held.get(row.name, {}).items():
        tensor = model.tensors[name]
        if tensor.shape in right:
            continue
        if not tensor.dtype.is_floating or f"{name.removesuffix('.weight')}.scales" in model.tensors:
            continue
        if not row.shape or not row.in_layer(model.config, numbers):
            continue
        if len(wanted) != tensor.ndim:
            if all(wanted):
                raise LayoutError(
                    f"{model.source(name):.200} has the shape {list(tensor.shape)}, but {model.whose} wants"
                    f" {wanted}{KEPT}"
                )
            continue
        wrong = [axis for axis, length in enumerate(wanted) if length not in (None, tensor.shape[axis])]
        if wrong:
            expected = [length or tensor.shape[axis] for axis, length in enumerate(wanted)]
            named = fields_of(row.shape[wrong[0]])
            who = f"config.json's {' and '.join(named)}" if named else model.whose
            raise LayoutError(
                f"{model.source(name):.200} has the shape {list(tensor.shape)}, but {who}"
                f" {'want' if len(named) > 1 else 'wants'} {expected}: these weights and this config.json"
                f" are not of one model{KEPT}"
            )
        right.add(tensor.shape)


def _part_is_there(row: TensorKind, model: _Model) -> bool:
    """Whether a model must have what a row is of: a part that it has nothing of may be left out."""
    part = row.name.partition(".")[0]
    needed = model.table.needed_parts
    return not needed or part in needed or any(name.partition(".")[0] == part for name in model.held)


def _wanted(row: TensorKind, model: _Model) -> Iterator[Numbers]:
    """The numbers of the layers that must have a row's tensor, as far as they are known."""
    parts = row.name.split(".")
    places = [".".join(parts[:at]) for at, part in enumerate(parts) if part == "#"]
    counts = [model.table.count(place, model.config) for place in places]
    if any(count is None for count in counts):
        return
    known = [count for count in counts if count is not None]
    for numbers in itertools.islice(_numbers(known), MOST_PLACES):
        if row.in_layer(model.config, numbers):
            yield numbers


def _numbers(counts: list[int]) -> Iterator[Numbers]:
    """All numbers below some counts, one after the other: the counts may be beyond all measure."""
    if not counts:
        yield ()
        return
    for number in range(counts[0]):
        for rest in _numbers(counts[1:]):
            yield (number, *rest)


def _first(row: TensorKind, model: _Model) -> Iterator[Numbers]:
    """The first place at which a tensor of a kind is wanted, if there is one."""
    yield from itertools.islice(_wanted(row, model), 1)


def _check_layers(row: TensorKind, model: _Model) -> None:
    """A kind of tensor that is in some layers is in all that want it."""
    held = model.held[row.name]
    for seen, numbers in enumerate(itertools.islice(_wanted(row, model), len(held) + 1)):
        if numbers not in held:
            other = "all other layers have" if seen < len(held) else "other layers have"
            raise LayoutError(f"{_named(row.name, numbers):.200} is missing: {other} such a tensor{KEPT}")


def _refuse_missing(row: TensorKind, numbers: Numbers, model: _Model) -> None:
    name = _named(row.name, numbers)
    module = name.rpartition(".")[0]
    if any(
        other.startswith(f"{module}.") and not model.tensors[other].dtype.is_floating
        for other in model.tensors
    ):
        return
    tied = _tied(row)
    if tied:
        stated = lookup(model.config, tied)
        said = f"says {TIED}: false" if stated is False else f"does not say {TIED}: true"
        raise LayoutError(f"the output layer is missing ({name:.200}): config.json {said}{KEPT}")
    raise LayoutError(f"{name:.200} is missing: {model.whose} does not load without it{KEPT}")


def _tied(row: TensorKind) -> str:
    """The field that says whether an output layer is the embedding, of a row that is there if it is not."""
    return next((path for path in row.when if path.rpartition(".")[2] == TIED), "")


def _named(name: str, numbers: Numbers) -> str:
    """A general name with its numbers."""
    first, *rest = name.split("#")
    return first + "".join(f"{number}{part}" for number, part in zip(numbers, rest, strict=True))
