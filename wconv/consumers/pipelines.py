"""Models of several components: which layout each component has, by its place in a pipeline or by its config.

A pipeline directory says its class in `model_index.json`; a component of one, alone, its own class or model
type in `config.json`; a few models are a directory of well-known files.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from wconv.consumers import registry
from wconv.consumers.component_family import ComponentFamily
from wconv.errors import LayoutError
from wconv.layouts.apply import Layout

PREFIXES = ("", "model.diffusion_model.", "diffusion_model.", "net.")
"""What may stand before the names of a single file."""


def families(consumer: str) -> tuple[ComponentFamily, ...]:
    """All models of several components that a consumer knows."""
    found = registry.find_consumer(consumer)
    return found.families() if found is not None else ()


def places(consumer: str) -> Iterator[tuple[str, Layout]]:
    """ "flux/vae" and its layout, for every component of every family."""
    for family in families(consumer):
        for component, layout in family.components.items():
            yield f"{family.name}/{component}".rstrip("/"), layout


def place_of(consumer: str, layout: Layout | None) -> str:
    """ "flux/vae" for the layout of that component, "" for any other."""
    return next((place for place, known in places(consumer) if known is layout), "")


def of_pipeline(consumer: str, pipeline: str) -> ComponentFamily | None:
    """The family of a pipeline class; None when the consumer does not care for pipelines as such.

    Raises:
        LayoutError: the consumer has none.
    """
    for family in families(consumer):
        if pipeline in family.classes:
            return family
    known = ", ".join(name for family in families(consumer) for name in family.classes)
    if not known:
        return None
    raise LayoutError(
        f"{consumer} has no layout of a {pipeline or 'pipeline without a name'} (it has: {known})"
    )


def further_files(consumer: str) -> tuple[str, ...]:
    """The files in sub-directories by which a consumer's models are told."""
    wanted = (names for family in families(consumer) for names in family.files.values())
    return tuple(name for names in wanted for name in names if "/" in name)


def of_files(consumer: str, names: Collection[str]) -> tuple[ComponentFamily, dict[str, str]] | None:
    """The family that is told by the files of a directory, and each component's file.

    Raises:
        LayoutError: two files for one component.
    """
    for family in families(consumer):
        found = {
            component: [name for name in wanted if name in names]
            for component, wanted in family.files.items()
        }
        for component, files in found.items():
            if len(files) > 1:
                raise LayoutError(
                    f"{' and '.join(files)} are both a {component} of {family.name}: keep one of them"
                )
        if found and any(found.values()):
            return family, {component: files[0] for component, files in found.items() if files}
    return None


def kind_of(config: Mapping[str, Any]) -> str:
    """What a component's config.json says it is: its class in diffusers, its model type in transformers."""
    return str(config.get("_class_name") or config.get("model_type") or "")


def of_component(consumer: str, config: Mapping[str, Any] | None, names: Collection[str]) -> Layout | None:
    """The layout of a component by its own config alone; without one, by names that its tensors have.

    Raises:
        LayoutError: several families have such a component and lay it out differently.
    """
    if config is None:
        return _of_names(consumer, names)
    kind = kind_of(config)
    fitting = {
        family.name: layout
        for family in families(consumer)
        for layout in family.components.values()
        if kind and kind in layout.model_types
    }
    alone = [
        layout for family in families(consumer) for layout in _alone(family) if kind in layout.model_types
    ]
    if kind and alone:
        return alone[0]
    if len(set(map(str, fitting.values()))) > 1:
        raise LayoutError(
            f"a {kind} may be a part of {' or '.join(fitting)}, which {consumer} lays out differently:"
            " convert it from its pipeline's directory, with --component"
        )
    return next(iter(fitting.values()), None)


def _alone(family: ComponentFamily) -> tuple[Layout, ...]:
    """The layout of a model that is one directory, although its consumer sees parts in it."""
    return (family.components[""],) if set(family.components) == {""} else ()


def _of_names(consumer: str, names: Collection[str]) -> Layout | None:
    fitting = [
        layout
        for _, layout in places(consumer)
        for prefix in PREFIXES
        if layout.recognised_by and all(prefix + name in names for name in layout.recognised_by)
    ]
    return max(fitting, key=lambda layout: len(layout.recognised_by), default=None)
