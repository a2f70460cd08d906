"""Adapters of image models: from any naming to diffusers' modules, and on to any other naming."""

from __future__ import annotations

import dataclasses
import json
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wconv.consumers.adapters.families import FAMILIES, TEXTS, AdapterFamily
from wconv.consumers.adapters.modules import CLIP, WRAPPERS, backwards, flat, forwards, unflatten
from wconv.consumers.adapters.naming import Naming
from wconv.consumers.adapters.namings import METADATA
from wconv.consumers.lay_out import PreparedModel
from wconv.consumers.registry import adapter_naming, namings_of
from wconv.errors import LayoutError
from wconv.layouts.apply import LayoutResult, matches, nearest
from wconv.layouts.file_form import Form
from wconv.layouts.patterns import compile_pattern
from wconv.layouts.rules import Rule
from wconv.lora import peft
from wconv.lora.compose import rearranged, rows_of
from wconv.lora.deltas import ScaledNode
from wconv.lora.pieces import arranged
from wconv.lora.read import Adapter
from wconv.lora.scales import CONFIG
from wconv.tensors.lazy import LazyTensor, from_array

ONE_FILE = 1 << 62
WHOLE = "; wconv MODEL --merge-lora adds it to the weights"
NO_NAME = "leave them out with --exclude"

Home = tuple[str, str]
"""A component and one of its modules, by diffusers' names."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What a family makes of an adapter's modules.

    Attributes:
        names: for each adapter its own module, by the family's dotted names, and the component; None where
            the family has no such module.
    """

    family: AdapterFamily
    names: tuple[Home | None, ...]

    @property
    def count(self) -> int:
        """How many of the adapters' modules the family has."""
        return sum(home is not None for home in self.names)


def is_of_image_model(found: Sequence[Adapter]) -> bool:
    """Whether names of components, or of modules, show that the model makes images."""
    return any(
        (adapter.place.components and not _in_language_model(adapter.name))
        or any(_home(family, adapter) for family in FAMILIES)
        for adapter in found
    )


def _in_language_model(name: str) -> bool:
    """Whether what looks like a component is the part of a language model that has the layers.

    PEFT wraps a whole model, and Falcon, BLOOM, MPT and others call that part `transformer`.
    """
    return name.startswith(tuple(f"{wrapper}transformer." for wrapper in WRAPPERS))


def in_naming(found: Sequence[Adapter], layout: str) -> PreparedModel:
    """An image model's adapter in a naming.

    Args:
        layout: the naming's name; after a colon the family's, where the modules' names do not tell it.

    Raises:
        LayoutError: modules that no family has, or that the naming or its program has no way for; by name.
    """
    name, _, wanted = layout.partition(":")
    for adapter in found:
        _check_plain(adapter, adapter_naming(name, ""))
    _check_single(found)
    families = [family for family in FAMILIES if wanted in ("", family.name)]
    if not families:
        known = ", ".join(family.name for family in FAMILIES)
        raise LayoutError(f"--layout {layout}: {wanted!r} is none of the models that are known: {known}")
    fits = sorted((_fit(family, found) for family in families), key=lambda fit: -fit.count)
    best = fits[0]
    _check_unlike(found, best, [fit for fit in fits[1:] if fit.count == len(found)], name)
    naming = adapter_naming(name, best.family.name)
    _check_strays(found, best, naming)
    able = namings_of(best.family.name)
    if name not in able:
        raise LayoutError(f"--layout {name}: {best.family.name} has no such names; it has {', '.join(able)}")
    return _written(name, naming, best.family, _parts(found, best, naming))


def _check_single(found: Sequence[Adapter]) -> None:
    """Refuses the names of single files that are not converted, by the model's name."""
    for family in FAMILIES:
        for adapter in found if family.single else ():
            if adapter.place.module.startswith(family.single):
                raise LayoutError(
                    f"{adapter.keys[0]} is of {family.name}, by the names of its single files, which are not"
                    f" converted{WHOLE} of a single file"
                )


def _home(family: AdapterFamily, adapter: Adapter) -> Home | None:
    """The component and the module, as the family's rules know it; None where it has no such module."""
    place = adapter.place
    text = [component for component in place.components if component.startswith("text_encoder")]
    if text:
        component = next((part for part in text if part in family.texts), None)
        patterns = TEXTS[family.texts[component]] if component else ()
        return next(
            (
                (component, module)
                for name in (place.module, (flat(CLIP) if place.flat else CLIP) + place.module)
                if (module := unflatten(patterns, name) if place.flat else name)
                and matches(patterns, f"{module}.weight")
                and component
            ),
            None,
        )
    sources = tuple(rule.source for rule in (*family.alias_rules, *family.original))
    names = (*sources, *family.known, *family.modules)
    module = unflatten(names, place.module) if place.flat else place.module
    if module is None or _too_far(family, module):
        return None
    rows = rows_of(adapter)
    if adapter.up is not None and adapter.down is not None:
        columns = int(np.prod(adapter.down.shape[1:]))
        for pattern, ratio in family.ratios.items():
            if compile_pattern(pattern).match(f"{module}.weight") and rows != ratio * columns:
                return None
    try:
        made = arranged(forwards(family), {module: rows})
    except LayoutError:
        return None
    known = all(matches(family.known, f"{name}.weight") for name in made)
    return (family.main, module) if known else None


def _too_far(family: AdapterFamily, module: str) -> bool:
    block, _, rest = module.partition(".")
    number = rest.partition(".")[0]
    return number.isdigit() and int(number) >= family.blocks.get(block, 1 << 30)


def _onwards(family: AdapterFamily, naming: Naming) -> tuple[Rule, ...]:
    """From diffusers' names to those of a naming."""
    return {
        "diffusers": (),
        "original": backwards(family.original),
        "own": family.renamed,
    }[naming.modules]


def _fit(family: AdapterFamily, found: Sequence[Adapter]) -> Fit:
    return Fit(family, tuple(_home(family, adapter) for adapter in found))


def _targets(found: Sequence[Adapter], fit: Fit, naming: Naming) -> set[str]:
    """What the modules are called in a naming."""
    homes = [(adapter, home) for adapter, home in zip(found, fit.names, strict=True) if home is not None]
    rows = {
        module: rows_of(adapter) for adapter, (component, module) in homes if component == fit.family.main
    }
    made = arranged(forwards(fit.family), rows)
    counts = {module: sum(piece.rows for piece in found_pieces) for module, found_pieces in made.items()}
    texts = {
        naming.prefixes[fit.family.texts[component]].format(component) + module
        for _, (component, module) in homes
        if component != fit.family.main and fit.family.texts[component] in naming.prefixes
    }
    return texts | set(arranged(_onwards(fit.family, naming), counts))


def _check_unlike(found: Sequence[Adapter], best: Fit, rivals: Sequence[Fit], name: str) -> None:
    for rival in rivals if best.count == len(found) else ():
        first, second = (_targets(found, fit, adapter_naming(name, fit.family.name)) for fit in (best, rival))
        if first != second:
            both = (best.family, rival.family)
            # where only texts are adapted, one of them may have no such names
            able = [family.name for family in both if name in namings_of(family.name)] or [best.family.name]
            raise LayoutError(
                f"{found[0].keys[0]} and the others fit {best.family.name} and {rival.family.name} alike,"
                f" which call them differently: --layout {' or '.join(f'{name}:{family}' for family in able)}"
            )


def _check_strays(found: Sequence[Adapter], fit: Fit, naming: Naming) -> None:
    family = fit.family
    only = family.modules if naming.modules == "own" else family.known
    strays = [
        adapter
        for adapter, home in zip(found, fit.names, strict=True)
        if home is None or (naming.modules == "own" and not _reached(family, naming, adapter, home[1]))
    ]
    if strays:
        listed = "; ".join(
            f"{adapter.keys[0]} (nearest: {_nearest(only, adapter)})" for adapter in strays[:3]
        )
        more = f" and {len(strays) - 3} more" if len(strays) > 3 else ""
        what = (
            f"{naming.whom} applies no adapter to these modules of {family.name}"
            if naming.modules == "own"
            else f"{naming.whom}: these modules are not known in {family.name}"
        )
        raise LayoutError(f"{what}: {listed}{more}; {NO_NAME}")


def _reached(family: AdapterFamily, naming: Naming, adapter: Adapter, module: str) -> bool:
    rules = (*forwards(family), *_onwards(family, naming))
    return all(
        matches(family.modules, f"{made}.weight") for made in arranged(rules, {module: rows_of(adapter)})
    )


def _nearest(patterns: tuple[str, ...], adapter: Adapter) -> str:
    near = nearest(patterns, f"{adapter.place.module}.weight")
    return near[0].removesuffix(".weight") if near else "none"


def _check_plain(adapter: Adapter, naming: Naming) -> None:
    """Refuses what the program would refuse, or leave out without a word."""
    whom = naming.whom
    text = [part for part in adapter.place.components if part.startswith("text_encoder")]
    if text and len(naming.prefixes) == 1:
        raise LayoutError(
            f"{whom} applies no adapter to {text[0]}: leave {adapter.keys[0]} out with --exclude"
        )
    if adapter.magnitude is not None and not naming.keys.magnitude:
        raise LayoutError(f"{adapter.name} is a DoRA, which {whom} does not apply" + WHOLE)
    if (adapter.up is None or adapter.diffs) and not naming.keys.diff:
        raise LayoutError(f"{adapter.name} has whole differences, which {whom} is not given" + WHOLE)
    if naming.alpha == "always" and adapter.up is not None and adapter.scale == 0:
        raise LayoutError(f"{adapter.name} has the scale 0, which {whom} would take for none: leave it out")
    if naming.linear and adapter.down is not None and any(length != 1 for length in adapter.down.shape[2:]):
        raise LayoutError(f"{adapter.name} changes a convolution, which {whom} does not apply" + WHOLE)


def _parts(found: Sequence[Adapter], fit: Fit, naming: Naming) -> dict[Home, Adapter]:
    """The adapters by component and module, in the naming's names of modules."""
    family = fit.family
    adapters: dict[Home, Adapter] = {}
    for adapter, home in zip(found, fit.names, strict=True):
        assert home is not None
        twin = adapters.setdefault(home, adapter)
        if twin is not adapter:
            raise LayoutError(f"{adapter.keys[0]} and {twin.keys[0]} are both for {home[1]}")
    # one by one, so that what two of them would both become can be told by name
    known: dict[str, Adapter] = {}
    for module, adapter in (
        (home[1], adapter) for home, adapter in adapters.items() if home[0] == family.main
    ):
        for made, part in rearranged(forwards(family), {module: adapter}).items():
            twin = known.setdefault(made, part)
            if twin is not part:
                raise LayoutError(f"{part.keys[0]} and {twin.keys[0]} are both for {made}")
    main = rearranged(_onwards(family, naming), known)
    return {
        **{(family.main, module): adapter for module, adapter in main.items()},
        **{home: adapter for home, adapter in adapters.items() if home[0] != family.main},
    }


def _written(
    name: str, naming: Naming, family: AdapterFamily, parts: Mapping[Home, Adapter]
) -> PreparedModel:
    tensors: dict[str, LazyTensor] = {}
    sources: dict[str, tuple[str, ...]] = {}
    alphas: list[str] = []
    for (component, module), adapter in parts.items():
        kind = family.texts.get(component, "main")
        stem = naming.prefixes[kind].format(component) + (flat(module) if naming.flat else module)
        made = _tensors(naming, adapter, stem)
        if adapter.up is not None and (
            naming.alpha == "always" or (naming.alpha == "scaled" and adapter.scale != 1)
        ):
            alphas.append(f"{stem}.alpha")
            made[alphas[-1]] = from_array(np.array(peft.alpha_of(adapter), np.float32))
        tensors.update(made)
        sources.update(dict.fromkeys(made, adapter.keys))
    metadata = {"format": "pt"}
    config = None
    if naming.alpha == "config":
        config = peft.config({module: adapter for (_, module), adapter in parts.items()}, None)
    elif naming.alpha == "metadata" and any(adapter.scale != 1 for adapter in parts.values()):
        metadata[METADATA] = json.dumps(_by_component(parts))
    form = Form(naming.filename, ONE_FILE, metadata, needs_header=METADATA in metadata)
    notes = (f"an adapter of {family.name}: {len(parts)} layers",)
    applied = LayoutResult(tensors, keep_dtype=frozenset(alphas), sources=sources, notes=notes)
    rules = f"to the names {name}: {metadata} {config}"
    laid = PreparedModel(applied, name, "pt", naming.command, rules, form=form)
    return laid if config is None else dataclasses.replace(laid, config=config, config_name=CONFIG)


def _tensors(naming: Naming, adapter: Adapter, stem: str) -> dict[str, LazyTensor]:
    """The tensors of one module, without its alpha."""
    keys = naming.keys
    made: dict[str, LazyTensor] = {}
    if adapter.up is not None and adapter.down is not None:
        down, up = adapter.down, adapter.up
        if naming.linear:
            down = down.reshape(down.shape[:2])
        if naming.alpha == "none" and adapter.scale != 1:
            up = ScaledNode(up, adapter.scale)
        made[stem + keys.down] = down
        made[stem + keys.up] = up.reshape((*up.shape, *(1 for _ in down.shape[2:])))
    if adapter.magnitude is not None:
        made[stem + keys.magnitude] = adapter.magnitude.reshape((-1, 1) if keys.column else (-1,))
    for kind, key in (("weight", keys.diff), ("bias", keys.diff_b)):
        if kind in adapter.diffs:
            made[stem + key] = adapter.diffs[kind]
    return made


def _by_component(parts: Mapping[Home, Adapter]) -> dict[str, object]:
    """PEFT's settings, with the component's name before each, as diffusers has them."""
    flattened: dict[str, object] = {}
    for component in dict.fromkeys(map(operator.itemgetter(0), parts)):
        # of CLIP the ends of names, which fit with and without what transformers 5 leaves out
        own = {
            module.removeprefix(CLIP): adapter
            for (home, module), adapter in parts.items()
            if home == component
        }
        whole = not any(module.startswith(CLIP) for home, module in parts if home == component)
        described = peft.settings(own, whole=whole)
        flattened.update({f"{component}.{key}": value for key, value in described.items()})
    return flattened
