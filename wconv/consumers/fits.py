"""Whether weights fit their config.json: what its fields say plainly, without knowing every shape.

A model that was cut short, saved while it was spread over devices, or put beside another model's config
would load wrongly or not at all; one line says so before anything is written. What a config may leave open
(layers of several kinds, rows that only some consumers have) is not judged.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from wconv.consumers import shape_check, shapes
from wconv.consumers.as_loaded import Written, as_loaded
from wconv.consumers.fields import (
    EMBEDDING,
    EXTRA_ROWS,
    HEAD,
    HIDDEN,
    LAYER,
    LAYERS,
    NORM,
    PARTS,
    ROOT_FIRST,
    SKIPPED,
    SOMETIMES,
    TIED,
    VOCABULARY,
)
from wconv.errors import LayoutError
from wconv.layouts.apply import Layout
from wconv.layouts.rules import DropRule
from wconv.tensors.lazy import LazyTensor

KEPT = "; --layout hf keeps it as it is"


def empty(tensors: Mapping[str, LazyTensor]) -> list[str]:
    """The floating tensors without elements."""
    return [name for name, tensor in tensors.items() if 0 in tensor.shape and tensor.dtype.is_floating]


def check_filled(tensors: Mapping[str, LazyTensor], sources: Mapping[str, tuple[str, ...]]) -> None:
    """Refuses floating tensors without elements: what saving a model left that was spread over devices.

    Raises:
        LayoutError: naming the first of them.
    """
    for name in empty(tensors):
        source = (sources.get(name) or (name,))[0]
        raise LayoutError(
            f"{source:.200} is empty (its shape is {list(tensors[name].shape)}): the model was saved while"
            " its weights were spread over devices (ZeRO-3, FSDP); gather them and save it again, or leave"
            " the empty ones out with --exclude"
        )


def check(
    tensors: Mapping[str, LazyTensor],
    sources: Mapping[str, tuple[str, ...]],
    config: Mapping[str, Any] | None,
    table: Layout | None,
    program: str | None = None,
) -> None:
    """Refuses a language model whose tensors are not those that its config tells of.

    Where the shapes of the program's own model are known, these are what it is compared with; what is written
    down here by hand is for the rest.

    Args:
        tensors: by the names that they are written under.
        sources: for each of these names the source's own.
        config: config.json; without one nothing is told, and nothing is checked.
        table: the layout that was applied; without one only whole layers that are missing are told.
        program: the consumer whose model it is to be.

    Raises:
        LayoutError: naming the tensor, what was found and what was expected.
    """
    if not config or not isinstance(config.get("model_type"), str):
        return
    judged = _judged((tensors, sources), config, table, program) if program and table is not None else None
    counted = not (judged and judged.places) and _field(config, LAYERS) is not None
    layers = _layers(tensors) if counted or not (judged or table is None) else {}
    if layers and not (judged and judged.places):
        _check_count(layers, config, complete=table is not None)
    if table is None:
        return
    if not judged and len(layers) > 2 and not _irregular(config, len(layers)):
        _check_alike(layers)
    lengths = _Lengths.of(config)
    for name, tensor in tensors.items():
        wanted = None if judged and judged.knows(name) else lengths.wanted(name, tensor)
        if wanted is not None and wanted[1] != tensor.shape[wanted[0]]:
            axis, length, field = wanted
            expected = [*tensor.shape[:axis], length, *tensor.shape[axis + 1 :]]
            source = (sources.get(name) or (name,))[0]
            raise LayoutError(
                f"{source:.200} has the shape {list(tensor.shape)}, but config.json's {field} wants"
                f" {expected}: these weights and this config.json are not of one model{KEPT}"
            )
    if not judged or not any(_of_head(kind) for kind in judged.kinds):
        _check_head(tensors, config, table)


def _judged(
    written: Written, config: Mapping[str, Any], table: Layout, program: str
) -> shape_check.Judged | None:
    """What the shapes of the program's own model were compared with; None where they are not known."""
    known = shapes.find(program, config["model_type"])
    loaded = as_loaded(written, config, table, program) if known is not None else None
    if known is None or loaded is None:
        return None
    return shape_check.check(known, *loaded, config, program)


def _layers(tensors: Mapping[str, LazyTensor]) -> dict[int, dict[str, str]]:
    """Layer → the rest of each name → the whole name, of the language model."""
    layers: dict[int, dict[str, str]] = {}
    for name in tensors:
        if match := LAYER.match(name):
            layers.setdefault(int(match["number"]), {})[name[match.end() :]] = name
    return layers


def _check_count(
    layers: Mapping[int, Mapping[str, str]],
    config: Mapping[str, Any],
    *,
    complete: bool,
) -> None:
    stated = _field(config, LAYERS)
    if stated is None or any(part.get(name) for part in (config, *_parts(config)) for name in SKIPPED):
        return
    field, count = stated
    missing = next(number for number in itertools.count() if number not in layers)
    if missing < count:
        sample = next(iter(next(iter(layers.values())).values()))
        raise LayoutError(
            f"{_place(sample)}{missing} is missing: config.json's {field} wants {count:,} layers and the"
            f" weights have {len(layers):,}{KEPT}"
        )
    extra = max(layers)
    if complete and extra >= count:
        name = next(iter(layers[extra].values()))
        raise LayoutError(
            f"{name:.200} is of one layer too many: config.json's {field} wants {count:,}, the weights have"
            f" {len(layers):,}{KEPT}"
        )


def _place(name: str) -> str:
    """What stands before the number of a name's layer."""
    match = LAYER.match(name)
    return name[: match.start("number")] if match else ""


def _check_alike(layers: Mapping[int, Mapping[str, str]]) -> None:
    """A layer that lacks what all others have, and has nothing of its own in its place, lost something."""
    counts: dict[str, int] = {}
    for names in layers.values():
        for rest in names:
            counts[rest] = counts.get(rest, 0) + 1
    for number, names in layers.items():
        if any(counts[rest] < len(layers) - 1 for rest in names):
            continue
        for rest, count in counts.items():
            if count == len(layers) - 1 and rest not in names and rest.endswith(".weight"):
                other = next(at for at in layers if at != number)
                place = _place(layers[other][rest])
                raise LayoutError(
                    f"{place}{number}.{rest:.200} is missing: all other layers have such a tensor{KEPT}"
                )


def _irregular(config: Mapping[str, Any], count: int) -> bool:
    """Whether the config tells of layers of several kinds, or of such as use another's tensors."""
    for part in (config, *_parts(config)):
        for name, value in part.items():
            if name in SOMETIMES and value:
                return True
            if isinstance(value, list) and len(value) == count and any(item != value[0] for item in value):
                return True
    return False


@dataclass(frozen=True, slots=True)
class _Lengths:
    """Lengths of axes that the config gives, each with the field that does; None where none does."""

    rows: tuple[str, int] | None
    columns: tuple[str, int] | None
    more: int
    """Rows of an embedding beyond those of the vocabulary."""

    @staticmethod
    def of(config: Mapping[str, Any]) -> _Lengths:
        more = EXTRA_ROWS.get(str(config.get("model_type")), 0)
        return _Lengths(_field(config, VOCABULARY), _field(config, HIDDEN), more)

    def wanted(self, name: str, tensor: LazyTensor) -> tuple[int, int, str] | None:
        """The axis of a tensor whose length a field of the config gives, that length and the field."""
        rows, columns = self.rows, self.columns
        dimensions = len(tensor.shape)
        if dimensions == 1:
            if columns is not None and NORM.fullmatch(name) and tensor.dtype.is_floating:
                return 0, columns[1], columns[0]
        elif dimensions == 2:
            is_head = HEAD.fullmatch(name) is not None
            if not is_head and not EMBEDDING.fullmatch(name):
                return None
            if rows is not None:
                length = rows[1] + (0 if is_head else self.more)
                if tensor.shape[0] != length:
                    return 0, length, rows[0]
            if columns is not None and tensor.dtype.is_floating:
                return 1, columns[1], columns[0]
        return None


def _check_head(tensors: Mapping[str, LazyTensor], config: Mapping[str, Any], table: Layout) -> None:
    """A model that is said not to be tied needs an output layer."""
    if not any(HEAD.fullmatch(name) for name in _plain_names(table)):
        return
    if any(
        isinstance(rule, DropRule) and rule.when is None and HEAD.search(rule.source) for rule in table.rules
    ):
        return
    stated = [part[TIED] for part in (config, *_parts(config)) if isinstance(part.get(TIED), bool)]
    if not stated or any(stated) or any(_of_head(name) for name in tensors):
        return
    raise LayoutError(
        f"the output layer is missing (lm_head.weight or the like): config.json says {TIED}: false{KEPT}"
    )


def _of_head(name: str) -> bool:
    """Whether a tensor belongs to an output layer, in whatever form its weights are."""
    base, dot, _ = name.rpartition(".")
    return HEAD.fullmatch(f"{base}.weight" if dot else name) is not None


def _plain_names(table: Layout) -> Iterator[str]:
    from wconv.layouts.patterns import written_out

    for pattern in table.names:
        yield from written_out(pattern)


def _parts(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [part for name in PARTS if isinstance(part := config.get(name), Mapping)]


def _field(config: Mapping[str, Any], names: tuple[str, ...]) -> tuple[str, int] | None:
    """A number that a field gives, of the language model's part where there is one; None where two differ."""
    parts = _parts(config)
    places = [config, *parts] if config.get("model_type") in ROOT_FIRST else (parts or [config])
    for part in places:
        found = {name: part[name] for name in names if type(part.get(name)) is int and part[name] > 0}
        if found:
            return next(iter(found.items())) if len(set(found.values())) == 1 else None
    return None
