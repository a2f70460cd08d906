"""Directories of several components: which there are, and which of them have weights."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wconv.checkpoints.index import is_plain
from wconv.checkpoints.variants import of_variant
from wconv.checkpoints.weights_files import is_weights, listdir
from wconv.consumers import pipelines, registry
from wconv.conversion import own_form
from wconv.errors import FormatError, WconvError
from wconv.formats.side_files import PIPELINE_INDEX as INDEX
from wconv.formats.side_files import read_json
from wconv.layouts.apply import Layout

WEIGHTLESS = re.compile(r"Tokenizer(Fast)?|Scheduler|Processor(Fast)?|FeatureExtractor")
"""How the names of classes end that have a config but no weights."""


@dataclass(frozen=True, slots=True)
class Component:
    """A part of a model that has weights of its own.

    Attributes:
        name: its sub-directory in the output.
        path: where its weights lie: a directory or a file.
        layout: the consumer's, where its place in the whole decides; None where its own config does.
        variant: of the weights, where there is one.
        undone: whether the layout is to be undone: the weights have it already.
    """

    name: str
    path: Path
    layout: Layout | None = None
    variant: str | None = None
    undone: bool = False


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A directory of components.

    Attributes:
        kind: its class, or what a consumer calls it.
        components: those that are to be converted.
        command: loads the result; `{model}` stands for its path.
        picked: the sub-directories that are wanted; None when all are.
        notes: what the user should be told.
        known: where there is no command, a sentence on what is known.
    """

    path: Path
    kind: str
    components: tuple[Component, ...]
    command: str
    picked: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    known: str = ""


def find_components(
    source: Path, layout: str | Layout, *, picked: Sequence[str] = (), variant: str | None = None
) -> Pipeline | None:
    """The components of a directory; None when it is a model by itself, or a file.

    Args:
        layout: what the caller asks for; a consumer may know the model as a whole.
        picked: names of the only components that are wanted.
        variant: "fp16" for `model.fp16.safetensors`.

    Raises:
        FormatError: a component is missing.
        LayoutError: the consumer does not know the pipeline.
        WconvError: there is no such component or variant.
    """
    found = None
    if (source / INDEX).is_file():
        found = _of_index(source, layout, picked)
    elif source.is_dir() and isinstance(layout, str):
        ways = (_of_files, _of_own_form, _of_directories)
        found = next((one for way in ways if (one := way(source, layout, picked)) is not None), None)
    if found is None:
        if picked:
            raise WconvError(f"{source} has no components: --component is for a directory with {INDEX}")
        return None
    return _of_variant(found, variant) if variant else found


def _of_index(source: Path, layout: str | Layout, picked: Sequence[str]) -> Pipeline:
    index = read_json(source / INDEX)
    kind = str(index.get("_class_name", ""))
    classes = {
        name: str(value[1])
        for name, value in index.items()
        if isinstance(value, list) and len(value) == 2 and value[1] is not None
    }
    for name in classes:
        if not is_plain(name):
            raise FormatError(f"{source / INDEX} names {name!r:.80}, no plain directory: refused")
    known = {*classes, *(entry.name for entry in os.scandir(source) if entry.is_dir())}
    unknown = [name for name in picked if name not in known]
    if unknown:
        raise WconvError(f"{source} has no component {unknown[0]!r:.80}: it has {', '.join(sorted(classes))}")
    family = pipelines.of_pipeline(layout, kind) if isinstance(layout, str) else None
    layouts: Mapping[str, Layout] = family.components if family else {}
    components: list[Component] = []
    notes: list[str] = []
    for name, one in classes.items():
        if picked and name not in picked:
            continue
        if not (source / name).is_dir():
            raise FormatError(
                f"{source / name} is missing: {INDEX} lists it; download it, or pick others with --component"
            )
        if not _has_weights(source / name, one):
            continue
        fitting = layouts.get(name)
        if family and fitting is None:
            notes.append(f"{name}: {layout} does not use it")
        elif fitting is not None and (other := own_form.other_kind(source / name, fitting)):
            notes.append(f"{name}: {layout} has no layout of a {other} in this place")
            fitting = None
        components.append(Component(name, source / name, fitting))
    if not components:
        raise FormatError(f"{source} has no weights among {', '.join(picked or classes) or 'its components'}")
    command = family.command if family else registry.pipeline_command()
    return Pipeline(source, kind, tuple(components), command, tuple(picked) or None, tuple(notes))


def _has_weights(directory: Path, kind: str) -> bool:
    """Whether a component has weights, or should have some: reading tells which are missing."""
    names = listdir(directory)
    return any(is_weights(name) for name in names) or (
        "config.json" in names and not re.search(f"(?:{WEIGHTLESS.pattern})$", kind)
    )


def _of_files(source: Path, layout: str, picked: Sequence[str]) -> Pipeline | None:
    further = {one for one in pipelines.further_files(layout) if (source / one).is_file()}
    found = pipelines.of_files(layout, {*listdir(source), *further})
    if found is None:
        return None
    family, files = found
    missing = [name for name in (picked or family.files) if name not in files]
    if missing:
        wanted = " or ".join(family.files.get(missing[0], ())) or "no such component"
        raise FormatError(f"{source} lacks the {missing[0]} of {family.name}: {wanted}")
    components = tuple(
        Component(name, source / file, family.components[name])
        for name, file in files.items()
        if not picked or name in picked
    )
    return Pipeline(source, family.name, components, family.command)


def _of_own_form(source: Path, layout: str, picked: Sequence[str]) -> Pipeline | None:
    """A directory without an index that a program has written in its own form."""
    if any(is_weights(name) for name in listdir(source)):
        return None
    found = own_form.find_family(source)
    if found is None:
        return None
    family, consumer, names = found
    _check_picked(source, picked, names)
    own = layout == consumer
    components = tuple(
        Component(name, source / name, family.components[name] if own else None)
        for name in names
        if not picked or name in picked
    )
    return Pipeline(source, family.name, components, family.command if own else "", tuple(picked) or None)


def _of_directories(source: Path, layout: str, picked: Sequence[str]) -> Pipeline | None:
    """A directory without an index that has all components of a model, which their tensors tell."""
    if any(is_weights(name) for name in listdir(source)):
        return None
    family = own_form.family_of_directories(source, layout)
    if family is None:
        return None
    _check_picked(source, picked, tuple(family.components))
    components = tuple(
        Component(name, source / name, one)
        for name, one in family.components.items()
        if not picked or name in picked
    )
    note = f"there is no {INDEX}: the names of its tensors tell that it is {layout}'s {family.name}"
    return Pipeline(source, family.name, components, family.command, tuple(picked) or None, (note,))


def _check_picked(source: Path, picked: Sequence[str], names: Sequence[str]) -> None:
    unknown = [name for name in picked if name not in names]
    if unknown:
        raise WconvError(f"{source} has no component {unknown[0]!r:.80}: it has {', '.join(names)}")


def _of_variant(found: Pipeline, variant: str) -> Pipeline:
    """Each component's weights of that variant; the plain ones, told, where it has none."""
    components = tuple(
        dataclasses.replace(one, variant=variant)
        if one.path.is_dir() and of_variant(listdir(one.path), variant)
        else one
        for one in found.components
    )
    without = [one.name for one in components if one.variant is None]
    if len(without) == len(components):
        raise WconvError(f"no component of {found.path} has a variant {variant}")
    notes = tuple(f"{name}: there is no {variant} variant, the plain weights are taken" for name in without)
    return dataclasses.replace(found, components=components, notes=(*found.notes, *notes))
