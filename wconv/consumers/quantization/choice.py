"""Which weights of a model that is laid out for a consumer its own converter would quantize, and how."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wconv.consumers import registry
from wconv.consumers.quantization.kinds import LayerKinds, Tensors
from wconv.consumers.quantization.mixed import Mixed
from wconv.consumers.quantization.modules import STACKS
from wconv.consumers.quantization.recipes import Quantize, Rules, base_of
from wconv.consumers.quantization.tables import Answer, FixedForm, QuantizationTable, Row
from wconv.errors import WconvError
from wconv.layouts.layer_rule import LayerRule
from wconv.tensors import dtypes
from wconv.tensors.quantize import Quantization

FLOATS = ("float32", "float16", "bfloat16")
NORM = re.compile(r"(^|_)(norm|ln)\d*$|norm$")


@dataclass(slots=True)
class LayerChoice:
    """What becomes of each tensor.

    Attributes:
        quantized: how a weight is stored, by its name (with `.weight`).
        left: why a tensor stays as it is, by name: one entry for all others.
        config: what goes into config.json: `quantization` and `quantization_config`, as the consumer's
            converter writes them; empty where its program reads all from the files.
        unmatched: the user's rules that found no layer.
        overruled: the user's rules of which later rules took every layer.
        bytes: of all tensors when they are quantized so.
        elements: of all tensors.
    """

    quantized: dict[str, Quantization] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    unmatched: tuple[str, ...] = ()
    overruled: tuple[str, ...] = ()
    bytes: int = 0
    elements: int = 0

    @property
    def bits_per_weight(self) -> float:
        """Bits that one element takes on average, dense ones included."""
        return self.bytes * 8 / self.elements if self.elements else 0.0

    def undivided(self) -> tuple[str, ...]:
        """The weights that stay dense only because no group divides their rows."""
        return tuple(name for name, why in self.left.items() if why.startswith(UNDIVIDED))


UNDIVIDED = "no group of "

DIGIT = re.compile("[0-9]")
"""In an expression: what may tell layers apart by their numbers."""

NO_MATRIX = "not a matrix of weights"


def choose_layers(
    consumer: str, model_type: str, config: Mapping[str, Any], tensors: Tensors, recipe: Quantize
) -> LayerChoice:
    """The choice of a consumer's converter, without a model and without arrays.

    Args:
        consumer: its name (`registry.quantizing` are those that have a converter).
        model_type: config.json's; for a consumer with a fixed form "<family>" or "<family>/<component>".
        config: config.json's content.
        tensors: as the dense conversion would write them, in the dtypes that it would give them.
        recipe: what the user asks for.

    Raises:
        WconvError: the recipe asks for what the mode or the consumer does not have.
    """
    model = LayerKinds.of(tensors, recipe.rules)
    chooser = _Chooser(consumer, model_type, config, model, recipe)
    choice = LayerChoice()
    entries: dict[str, Any] = {}
    answers: dict[str, _Decision | str] = {}
    for names in chooser.alike(model.kinds):
        shape, dtype = tensors[names[0]]
        answer = chooser.answer(names[0], tuple(shape), dtype)
        answers.update(dict.fromkeys(names, answer))
        size = math.prod(shape)
        choice.elements += size * len(names)
        choice.bytes += _bytes(size, dtype, answer) * len(names)
    for name in tensors:
        answer = answers[name]
        if isinstance(answer, str):
            choice.left[name] = answer
            continue
        how, entry = answer
        choice.quantized[name] = how
        if entry is not None:
            entries[name.removesuffix(".weight")] = entry
    if chooser.table.fixed is None:
        written = {**chooser.head, **entries}
        choice.config = {"quantization": written, "quantization_config": written}
    choice.unmatched, choice.overruled = chooser.rules.unmatched(), chooser.rules.overruled()
    return choice


def refused_layers(
    consumer: str, model_type: str, config: Mapping[str, Any], tensors: Tensors
) -> dict[str, str]:
    """Why a consumer has no quantized form of some weights, by their names: its loader would refuse one.

    Args:
        consumer: the name of one that reads settings of layers.
        tensors: as the dense conversion would write them.
    """
    chooser = _Chooser(consumer, model_type, config, LayerKinds.of(tensors, ()), Quantize())
    found = {name: chooser.refused(name, tuple(shape), dtype) for name, (shape, dtype) in tensors.items()}
    return {name: why for name, why in found.items() if why}


def sizes(
    consumer: str, model_type: str, config: Mapping[str, Any], tensors: Tensors, recipes: Sequence[Quantize]
) -> list[int | None]:
    """The bytes of all tensors by each of several recipes with the same rules; None where it does not fit."""
    model = LayerKinds.of(tensors, recipes[0].rules)
    found: list[int | None] = []
    for recipe in recipes:
        try:
            chooser = _Chooser(consumer, model_type, config, model, recipe)
        except WconvError:
            found.append(None)
            continue
        total = 0
        for names in chooser.alike(model.kinds):
            shape, dtype = tensors[names[0]]
            answer = chooser.answer(names[0], tuple(shape), dtype)
            total += _bytes(math.prod(shape), dtype, answer) * len(names)
        found.append(total)
    return found


_Decision = tuple[Quantization, "dict[str, Any] | None"]


def _bytes(size: int, dtype: str, answer: _Decision | str) -> int:
    if isinstance(answer, str):
        return (size * dtypes.by_name(dtype).bits + 7) // 8
    how = answer[0]
    scale = dtypes.by_name(how.scale_dtype(dtype)).bits * (2 if how.has_biases else 1)
    return (size * how.bits + size // how.group_size * scale) // 8


class _Chooser:
    """All that is the same for every weight of one model."""

    def __init__(
        self, consumer: str, model_type: str, config: Mapping[str, Any], model: LayerKinds, recipe: Quantize
    ) -> None:
        self.table = table = _table(consumer)
        family, self.prefix = model_type, ""
        if table.fixed is not None:
            family, _, component = model_type.partition("/")
            recipe = _in_fixed_form(recipe, family, consumer, table.fixed)
            self.prefix = f"{component}/" if component else ""
        self.consumer = consumer
        self.module = _module(consumer, table, family, config)
        self.base = base_of(consumer, table, recipe)
        self.paths = model.paths
        self.rules = Rules(recipe, self.base, model.found(self.prefix))
        self.tensors = model.tensors
        self.mixed = Mixed.of(table, self.module, recipe, self.paths)
        before = config.get("quantization")
        self.fine = isinstance(before, dict)
        self.head: dict[str, Any] = dict(before) if isinstance(before, dict) else _entry(self.base)
        last = _layers(config) - 1
        self.exceptions = [
            (row, re.compile(row.pattern.replace("LAST", str(last)))) for row in table.exceptions(self.module)
        ]
        self.plain = re.compile(table.plain(self.module) or "(?!)")
        self.has_scales = any(name.endswith(".scales") for name in model.tensors)

    def alike(self, kinds: list[list[str]]) -> Iterator[list[str]]:
        """The names in groups that have one answer each."""
        told_apart = any(row.beside is not None or DIGIT.search(one.pattern) for row, one in self.exceptions)
        told_apart = told_apart or bool(DIGIT.search(self.plain.pattern)) or self.has_scales
        for names in kinds:
            if told_apart:
                yield from ([name] for name in names)
            elif len(names) == 1 or not (self.rules.any or self.mixed):
                yield names
            else:
                parts: dict[Any, list[str]] = {}
                for name in names:
                    path = name.removesuffix(".weight")
                    number = self.mixed.number(path) if self.mixed else 0
                    parts.setdefault((number, self.rules.place(self.prefix + path)), []).append(name)
                yield from parts.values()

    def answer(
        self, name: str, shape: tuple[int, ...], dtype: str
    ) -> tuple[Quantization, dict[str, Any] | None] | str:
        """How a weight is stored and its entry in config.json, or why it stays as it is."""
        path = name.removesuffix(".weight")
        asked = self.rules.of(self.prefix + path) if path in self.paths and path != name else None
        why = self._unfit(name, path, shape, dtype)
        if why:
            return why
        if asked is not None:
            rule, wanted = asked
            if wanted is None:
                return f"the rule {rule} keeps it dense"
            own = self._consumer(path, shape) if self.table.fixed is not None else True
            if isinstance(own, str):
                return own  # it asks the same on loading, and would find a weight of another shape
            entry: Answer = _entry(wanted)
        else:
            own = self._consumer(path, shape)
            if isinstance(own, str):
                return own
            entry = own
        how = self.base if isinstance(entry, bool) else _read(entry, self.base)
        if shape[-1] % how.group_size:
            return _undivided(shape, how.group_size)
        if isinstance(entry, bool):
            return how, _entry(self.base) if self.fine else None
        return how, dict(entry)

    def refused(self, name: str, shape: tuple[int, ...], dtype: str) -> str | None:
        """Why the consumer's loader takes no quantized form of a tensor."""
        path = name.removesuffix(".weight")
        why = self._unfit(name, path, shape, dtype)
        if why is None and self._exception(path, shape) is False:
            return f"{self.consumer} keeps it dense in this kind of model"
        return why

    def _unfit(self, name: str, path: str, shape: tuple[int, ...], dtype: str) -> str | None:
        """Why no program could quantize this tensor."""
        last = path.rpartition(".")[2]
        if path == name or len(shape) < 2:
            return NO_MATRIX
        if dtype not in FLOATS:
            return f"its numbers are {dtype}, which is not quantized"
        if f"{path}.scales" in self.tensors:
            return "quantized already"
        inside = path.split(".")
        listed = inside[-2] if last.isdigit() and len(inside) > 1 else last
        if len(shape) > 3 or (len(shape) == 3 and listed not in STACKS):
            return "not a matrix: the weight of a convolution"
        if NORM.search(last):
            return "the weight of a normalization"
        if 0 in shape:
            return "empty"
        if self.plain.search(path):
            return f"{self.consumer} has no quantized form of it: a bare matrix in its model"
        return None

    def _consumer(self, path: str, shape: tuple[int, ...]) -> Answer | str:
        """What the consumer's converter says where the user has no rule."""
        group_size = self.base.group_size
        if not self.table.asks_group_last and shape[-1] % group_size:
            return _undivided(shape, group_size)
        if any(part in path for part in self.table.skipped):
            return self.table.skipped_why
        if self.mixed is not None:
            if shape[-1] % group_size:
                return _undivided(shape, group_size)
            return self.mixed.answer(path, shape)
        answer = self._exception(path, shape)
        if answer is False:
            return f"{self.consumer} keeps it dense in this kind of model"
        if isinstance(answer, Mapping) and "fallback_group_size" in answer:
            fallback = answer["fallback_group_size"]
            fits = shape[-1] % group_size == 0 or shape[-1] % fallback
            return {**_entry(self.base), "group_size": group_size if fits else fallback}
        return _undivided(shape, group_size) if shape[-1] % group_size else answer

    def _exception(self, path: str, shape: tuple[int, ...]) -> Answer:
        for row, pattern in self.exceptions:
            if pattern.search(self.prefix + path) and self._holds(row, path, shape):
                return row.answer
        return True

    def _holds(self, row: Row, path: str, shape: tuple[int, ...]) -> bool:
        return (
            (row.beside is None or f"{path.rpartition('.')[0]}.{row.beside}" in self.paths)
            and (row.multiple is None or any(side % row.multiple for side in shape))
            and (not row.at_bits or self.base.bits in row.at_bits)
        )


def _table(consumer: str) -> QuantizationTable:
    """What is known of a consumer's converter.

    Raises:
        WconvError: it does not read quantized models.
    """
    found = registry.find_consumer(consumer)
    if found is None or found.quantization is None:
        names = ", ".join(one.name for one in registry.quantizing())
        raise WconvError(f"{consumer!r} does not read quantized models: {names} do")
    return found.quantization()


def _in_fixed_form(recipe: Quantize, family: str, consumer: str, form: FixedForm) -> Quantize:
    """The recipe with the only mode and groups that a consumer writes.

    Raises:
        WconvError: it asks for others.
    """
    size = form.group_sizes.get(family, form.group_size)
    bits = recipe.bits or 4
    if recipe.mode != form.mode:
        raise WconvError(f"{consumer} stores {form.mode} quantization alone, not {recipe.mode}")
    if bits not in form.bits:
        raise WconvError(f"{consumer} does not have bits {bits}: it has {', '.join(map(str, form.bits))}")
    if recipe.group_size not in (None, size):
        raise WconvError(f"{consumer} stores groups of {size}, not of {recipe.group_size}")
    for rule in recipe.rules:
        mode = rule.mode if isinstance(rule, LayerRule) else None
        if mode not in (None, form.mode):
            raise WconvError(
                f"{consumer} stores {form.mode} quantization alone, not {mode} (the rule {rule})"
            )
    return Quantize(form.mode, bits, size, recipe.predicate, recipe.rules, recipe.like)


def own_rules(consumer: str, model_type: str) -> Iterator[str]:
    """What a consumer's converter does by itself with a kind of model, each as a rule in a rules file."""
    table = _table(consumer)
    for row in table.exceptions(_module(consumer, table, model_type, {})):
        if isinstance(row.answer, Mapping):
            said = ", ".join(f"{key} = {json.dumps(value)}" for key, value in row.answer.items())
        else:
            said = f"quantize = {json.dumps(row.answer)}"
        where = ", where " + " and ".join(conditions) if (conditions := list(_conditions(row))) else ""
        yield f"{{ match = {json.dumps(row.pattern)}, {said} }}{where}"


def _conditions(row: Row) -> Iterator[str]:
    """The conditions of a row, as text."""
    if row.beside is not None:
        yield f"its parent has {row.beside}"
    if row.multiple is not None:
        yield f"a side is no multiple of {row.multiple}"
    if row.at_bits:
        yield f"the model gets {' or '.join(map(str, row.at_bits))} bits"


def _module(consumer: str, table: QuantizationTable, model_type: str, config: Mapping[str, Any]) -> str:
    """The consumer's own name of a kind of model."""
    architectures = config.get("architectures") or ()
    for name, module in table.by_architecture.items():
        if name in architectures:
            return module
    found = registry.find_consumer(consumer)
    if found is not None and found.ignores_case:
        model_type = model_type.lower()
    return table.modules.get(model_type, model_type)


def _layers(config: Mapping[str, Any]) -> int:
    """The number of layers that a config says, 0 when it does not."""
    for part in (config.get("text_config"), config):
        count = part.get("num_hidden_layers") if isinstance(part, Mapping) else None
        if isinstance(count, int):
            return count
    return 0


def _entry(how: Quantization) -> dict[str, Any]:
    return {"group_size": how.group_size, "bits": how.bits, "mode": how.mode}


def _read(entry: Mapping[str, Any], base: Quantization) -> Quantization:
    """What a consumer makes of a layer's entry: a mode that is not said is affine, with its own defaults."""
    return Quantization.of(entry.get("mode", "affine"), entry.get("bits"), entry.get("group_size"))


def _undivided(shape: tuple[int, ...], group_size: int) -> str:
    return f"{UNDIVIDED}{group_size} divides its rows of {shape[-1]}"
