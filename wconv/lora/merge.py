"""Adapters are matched to the weights of a model and added to them while they are written."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from wconv.consumers.adapters.modules import BASE_PREFIXES, CLIP, FAMILIES, MAIN, flat, respell, unflatten
from wconv.errors import FormatError, LayoutError, WconvError
from wconv.layouts.reverse_rules import same_bits
from wconv.layouts.rules import Rule
from wconv.lora.deltas import Merged, Product, ScaledNode, Term
from wconv.lora.generations import Generations
from wconv.lora.pieces import Marked, ModuleRows, pieces
from wconv.lora.read import Adapter, Lora
from wconv.quantized.names import recognise
from wconv.tensors.dtypes import DType
from wconv.tensors.lazy import LazyTensor


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """What an adapter does to one tensor, under the name that the adapter's file implies."""

    adapter: Adapter
    kind: str
    delta: LazyTensor
    magnitude: LazyTensor | None = None


class View:
    """The names of a model's tensors as one program spells them, and the rows that each stands for."""

    def __init__(
        self, tensors: Mapping[str, LazyTensor], pieces: Mapping[str, tuple[ModuleRows, ...]]
    ) -> None:
        self.tensors = tensors
        self.pieces = pieces
        self._flat: dict[str, list[str]] = {}
        for name in tensors:
            module, _, kind = name.rpartition(".")
            for prefix in BASE_PREFIXES:
                if module.startswith(prefix):
                    self._flat.setdefault(f"{flat(module.removeprefix(prefix))}.{kind}", []).append(name)

    def find(self, change: Change) -> str | None:
        """The tensor that a change is meant for."""
        place = change.adapter.place
        if place.flat:
            keys = (f"{one}.{change.kind}" for one in (place.module, place.module.removeprefix(flat(CLIP))))
            found = next((self._flat[key] for key in keys if key in self._flat), [])
            return found[0] if len(found) == 1 else None
        modules = (place.full, place.module, place.module.removeprefix(CLIP))
        names = (f"{prefix}{module}" for module in modules for prefix in BASE_PREFIXES)
        return next(
            (f"{name}.{change.kind}" for name in names if f"{name}.{change.kind}" in self.tensors), None
        )


def merge(
    tensors: Mapping[str, LazyTensor],
    loras: Sequence[Lora],
    to: Mapping[str, DType] | None = None,
    where: str = "the model",
    respelling: Sequence[Rule] = (),
) -> dict[str, LazyTensor]:
    """A state dict with adapters added to its weights, in order, without reading anything.

    Args:
        to: a weight → the dtype to which its sum is rounded, where that is not its own.
        where: the model, for messages.
        respelling: rules that bring several generations of the model's names to one.

    Raises:
        WconvError: an adapter fits nothing, or not what it is meant for; nothing is merged then.
    """
    terms: dict[str, list[Term]] = {}
    views = _views(tensors)
    again = Generations(tensors, respelling)
    bases = dict(tensors)
    for lora in loras:
        taken: dict[str, str] = {}
        strays: list[Adapter] = []
        replaced = _replaced(lora, next(views()), again, strays)
        for name, tensor in replaced.items():
            if bases[name] is not tensors[name] or name in terms:
                raise FormatError(f"{lora.path} replaces {name}, which another adapter changes: merge one")
            _check_float(name, tensors[name], where)
            bases[name] = tensor
            terms[name] = []
        for adapter in lora.adapters:
            if adapter.up is None and not adapter.diffs:
                continue
            found = _terms(adapter, lora, views, again)
            if found is None:
                strays.append(adapter)
                continue
            for name, base, term in found:
                if taken.setdefault(name, adapter.name) != adapter.name:
                    raise FormatError(
                        f"{lora.path}: {taken[name]} and {adapter.name} are both meant for {name} of {where}"
                    )
                terms.setdefault(base, []).append(term)
        if strays:
            raise WconvError(_strays(strays, lora, tensors, where))
    merged = dict(tensors)
    for name, found_terms in terms.items():
        rounded = (to or {}).get(name, tensors[name].dtype)
        _check_float(name, tensors[name], where)
        merged[name] = Merged(name, bases[name], tuple(found_terms), rounded)
    return merged


def _replaced(lora: Lora, own: View, again: Generations, strays: list[Adapter]) -> dict[str, LazyTensor]:
    """The tensors of the model whose place others take; `strays` gains what fits nothing.

    A tied output layer has no place where the embedding has taken the same.
    """
    replaced: dict[str, LazyTensor] = {}
    left: list[tuple[Adapter, LazyTensor]] = []
    for adapter in lora.adapters:
        for kind, tensor in adapter.wholes.items():
            if lora.strength != 1:
                raise WconvError(
                    f"{lora.path}: {adapter.name} takes the place of the model's own: its scale must be 1,"
                    f" not {lora.strength:g}"
                )
            change = Change(adapter, kind, tensor)
            name = own.find(change) or again.find(change.adapter.place, change.kind)
            if name is None:
                left.append((adapter, tensor))
            elif name in replaced:
                raise FormatError(f"{lora.path}: {adapter.name} and another take the place of {name}")
            elif tensor.shape != own.tensors[name].shape:
                raise FormatError(
                    f"{lora.path}: {adapter.name} has the shape {tensor.shape}, but {name} has"
                    f" {own.tensors[name].shape}: resize the model first"
                )
            else:
                replaced[name] = tensor
    for adapter, tensor in left:
        if not any(same_bits(tensor, other) for other in replaced.values()):
            strays.append(adapter)
    return replaced


def share(loras: Sequence[Lora], components: Collection[str]) -> dict[str, tuple[Lora, ...]]:
    """The adapters of each component of a pipeline.

    Raises:
        WconvError: one belongs to a component that is not there, or is not converted.
    """
    shared: dict[str, tuple[Lora, ...]] = {}
    for lora in loras:
        parts: dict[str, list[Adapter]] = {}
        for adapter in lora.adapters:
            meant = adapter.place.components or MAIN
            component = next((one for one in meant if one in components), None)
            if component is None:
                raise WconvError(
                    f"{lora.path}: {adapter.keys[0]} belongs to {' or '.join(meant)}, which is not among the"
                    f" components that are converted ({', '.join(components)})"
                )
            parts.setdefault(component, []).append(adapter)
        for component, adapters in parts.items():
            part = dataclasses.replace(lora, adapters=tuple(adapters))
            shared[component] = (*shared.get(component, ()), part)
    return shared


def _check_float(name: str, base: LazyTensor, where: str) -> None:
    if not base.dtype.is_floating or base.dtype.bits < 16:
        raise WconvError(
            f"{name} of {where} is stored in {base.dtype.name}: an adapter can be merged into a model that"
            " is not quantized; add -d (dequantize=True) if it is quantized for MLX"
        )


def _views(tensors: Mapping[str, LazyTensor]) -> Callable[[], Iterator[View]]:
    """The model's own names first, then those that diffusers has for another program's tensors."""
    made: list[View] = []

    def build() -> Iterator[View]:
        whole = {name: (ModuleRows(name, 0, one.shape[0]),) for name, one in tensors.items() if one.shape}
        yield View(tensors, whole)
        marked = {name: Marked(one, name) for name, one in tensors.items()}
        for rules in FAMILIES:
            try:
                renamed = {name: entry.tensor for name, entry in respell(rules, marked).items()}
            except LayoutError:
                continue
            if renamed.keys() != tensors.keys():
                placed = {name: pieces(one) for name, one in renamed.items() if one.shape}
                known = {name: found for name, found in placed.items() if found is not None}
                yield View({name: renamed[name] for name in known}, known)

    rest = build()

    def views() -> Iterator[View]:
        yield from made
        for view in rest:
            made.append(view)
            yield view

    return views


def _terms(
    adapter: Adapter, lora: Lora, views: Callable[[], Iterator[View]], again: Generations
) -> list[tuple[str, str, Term]] | None:
    """Target, tensor of the model and what is added to it; None when the adapter fits nothing."""
    changes = list(_changes(adapter, lora))
    for view in views():
        found = [view.find(change) for change in changes]
        names = [name for name in found if name is not None]
        if len(names) == len(changes):
            pairs = zip(names, changes, strict=True)
            return [term for name, one in pairs for term in _placed(name, one, view, lora)]
    own = next(views())
    places = [(again.find(change.adapter.place, change.kind), change) for change in changes]
    if all(name is not None for name, _ in places):
        return [term for name, one in places for term in _placed(str(name), one, own, lora)]
    for rules in FAMILIES:
        spelled = [_respelled(rules, change) for change in changes]
        parts = {name: one for found_parts in spelled for name, one in (found_parts or {}).items()}
        if None in spelled or not parts:
            continue
        for known in views():
            if parts.keys() <= known.tensors.keys():
                return [term for name, one in parts.items() for term in _placed(name, one, known, lora)]
    return None


def _changes(adapter: Adapter, lora: Lora) -> Iterator[Change]:
    strength = lora.strength
    if adapter.up is not None and adapter.down is not None:
        if adapter.magnitude is not None and strength != 1:
            raise WconvError(
                f"{lora.path}: {adapter.name} is a DoRA, which sets the lengths of rows: its scale must be 1,"
                f" not {strength:g}"
            )
        flattened = adapter.down.reshape((adapter.down.shape[0], -1))
        delta = product(adapter.up, flattened, adapter.scale * strength)
        yield Change(adapter, "weight", delta, adapter.magnitude)
    for kind, diff in adapter.diffs.items():
        yield Change(adapter, kind, ScaledNode(diff, strength))


def product(up: LazyTensor, down: LazyTensor, scale: float) -> LazyTensor:
    """`scale · up @ down`, not computed yet."""
    return Product(up, down, scale, (up.shape[0], down.shape[1]))


def _respelled(rules: tuple[Rule, ...], change: Change) -> dict[str, Change] | None:
    """A change by diffusers' names where `rules` know its own; None where they do not."""
    place = change.adapter.place
    module = unflatten(tuple(rule.source for rule in rules), place.module) if place.flat else place.module
    if module is None:
        return None
    name = f"{module}.{change.kind}"
    try:
        deltas = respell(rules, {name: change.delta})
        lengths = respell(rules, {name: change.magnitude}) if change.magnitude is not None else {}
    except LayoutError:
        return None
    return {
        new: dataclasses.replace(
            change, delta=entry.tensor, magnitude=lengths[new].tensor if new in lengths else None
        )
        for new, entry in deltas.items()
    }


def _placed(name: str, change: Change, view: View, lora: Lora) -> Iterator[tuple[str, str, Term]]:
    target, delta = view.tensors[name], change.delta
    wide = math.prod(target.shape[1:])
    if not target.shape or delta.shape[0] != target.shape[0] or delta.size != target.size:
        raise FormatError(
            f"{lora.path}: {change.adapter.name} changes a weight of {delta.shape[0]} rows and"
            f" {delta.size // max(delta.shape[0], 1)} columns, but {name} has shape {target.shape}"
        )
    row = 0
    for piece in view.pieces[name]:
        whole = piece.rows == target.shape[0]
        part, lengths = delta, change.magnitude
        if not whole:
            part = delta.slice(0, row, row + piece.rows)
            lengths = lengths.slice(0, row, row + piece.rows) if lengths is not None else None
        if wide:
            yield name, piece.base, Term(part, piece.row, lengths, f"{lora.path}: {change.adapter.name}")
        row += piece.rows


def _strays(strays: Sequence[Adapter], lora: Lora, tensors: Mapping[str, LazyTensor], where: str) -> str:
    names = {name: flat(name.removesuffix(".weight")) for name in tensors}
    by_flat = {text: name for name, text in names.items()}
    listed = []
    for adapter in strays[:3]:
        wanted = flat(adapter.place.module)
        near = difflib.get_close_matches(wanted, by_flat, 1, 0.0)
        listed.append(f"{adapter.keys[0]} (nearest: {by_flat[near[0]] if near else 'none'})")
    more = f" and {len(strays) - 3} more" if len(strays) > 3 else ""
    found = recognise(tensors)
    if found is not None:
        return f"{where} is {found.scheme.title}: {lora.path} can be merged into a model in 16 bits"
    return f"{lora.path} has no place in {where} for {'; '.join(listed)}{more}: nothing was merged"
