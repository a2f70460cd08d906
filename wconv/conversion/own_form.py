"""Directories of several components that a program of MLX's has written in its own form.

The headers of their files name the program. Such a directory needs no index and no config.json: the program
knows the components by their sub-directories, and the weights by its own names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from wconv.checkpoints import open as checkpoints
from wconv.checkpoints.weights_files import is_weights, listdir
from wconv.consumers import pipelines, registry
from wconv.consumers.component_family import ComponentFamily
from wconv.errors import LayoutError, WconvError
from wconv.formats import safetensors
from wconv.formats.side_files import PIPELINE_INDEX as INDEX
from wconv.formats.side_files import read_json
from wconv.layouts.apply import Layout, apply
from wconv.quantized.names import LEVEL
from wconv.tensors.lazy import LazyTensor

SUFFIX = ".safetensors"


def written_by(directories: Iterable[Path]) -> str | None:
    """Whose own form all components have, by the header of a file of each; None where one has none."""
    found = {_writer_of(path) for path in directories}
    return found.pop() if len(found) == 1 else None


def is_quantized(path: Path) -> bool:
    """Whether the header of a component's files says that weights are quantized."""
    return _metadata_of(path).get(LEVEL) not in (None, "", "None", "null")


def _writer_of(path: Path) -> str | None:
    return registry.named_in_header(_metadata_of(path))


def _metadata_of(path: Path) -> Mapping[str, object]:
    """The header of a component's first file; nothing where it has none that can be read."""
    names = sorted(name for name in listdir(path) if name.endswith(SUFFIX)) if path.is_dir() else []
    if not names:
        return {}
    try:
        return safetensors.open_file(str(path / names[0])).metadata
    except WconvError:
        return {}  # the conversion says what is wrong with it


def find_family(source: Path) -> tuple[ComponentFamily, str, tuple[str, ...]] | None:
    """The family of a directory in a program's own form that has no index, whose it is, and its components.

    The tensors of every component decide: they have the program's names already.
    """
    names = tuple(name for name in listdir(source) if _writer_of(source / name) is not None)
    consumer = written_by(source / name for name in names)
    if consumer is None:
        return None
    fitting = [one for one in pipelines.families(consumer) if names and set(names) <= set(one.components)]
    tensors = {name: checkpoints.open(source / name).tensors for name in names} if fitting else {}
    for family in fitting:
        if all(_is_laid_out(family.components[name], tensors[name]) for name in names):
            return family, consumer, names
    return None


def family_of_directories(source: Path, consumer: str) -> ComponentFamily | None:
    """The one family that a directory without an index is: with all components, of fitting tensors' names.

    None where there is no such family, or more than one.
    """
    directories = [name for name in listdir(source) if (source / name).is_dir()]
    names = [name for name in directories if any(map(is_weights, listdir(source / name)))]
    having = [
        one
        for one in pipelines.families(consumer)
        if "" not in one.components and len(one.components) > 1 and set(one.components) <= set(names)
    ]
    wanted = {name for one in having for name in one.components}
    tensors = {name: checkpoints.open(source / name).tensors for name in wanted}
    fitting = [
        one for one in having if all(_takes(layout, tensors[name]) for name, layout in one.components.items())
    ]
    return fitting[0] if len(fitting) == 1 else None


def layout_of_place(source: Path, layout: str | Layout) -> Layout | None:
    """The layout that a consumer has for a directory as a component of the pipeline that it lies in."""
    if not isinstance(layout, str) or not source.is_dir() or not (source.parent / INDEX).is_file():
        return None
    try:
        family = pipelines.of_pipeline(layout, str(read_json(source.parent / INDEX).get("_class_name", "")))
    except WconvError:
        return None
    fitting = family.components.get(source.name) if family is not None else None
    return None if fitting is None or other_kind(source, fitting) else fitting


def other_kind(directory: Path, layout: Layout) -> str:
    """What a component says it is, where that is not what the layout is for."""
    if not (directory / "config.json").is_file():
        return ""
    kind = pipelines.kind_of(read_json(directory / "config.json"))
    return "" if kind in ("", *layout.model_types) else kind


def nothing_undoes(consumer: str) -> str:
    """What is said of tensors in a program's own form that no layout is known to undo."""
    return f"the tensors have {consumer}'s names, which nothing undoes: --layout {consumer} keeps its form"


def undone_by(
    consumer: str, source: Path, config: Mapping[str, object] | None, tensors: Mapping[str, LazyTensor]
) -> Layout | None:
    """The layout that a model or component in a program's own form has: by its pipeline, or by its names.

    None where several fit that differ, or none does.
    """
    placed = layout_of_place(source, consumer)
    if placed is not None:
        return placed
    kind = pipelines.kind_of(config or {})
    known = [layout for _, layout in pipelines.places(consumer)]
    known = [one for one in known if not kind or kind in one.model_types or not one.model_types]
    fitting: list[Layout] = []
    for layout in (*known, *registry.tables(consumer)):
        if layout not in fitting and _is_laid_out(layout, tensors):
            fitting.append(layout)
    return fitting[0] if len(fitting) == 1 else None


def _takes(layout: Layout, tensors: Mapping[str, LazyTensor]) -> bool:
    """Whether a layout knows all tensors, or leaves them out."""
    try:
        return bool(apply(layout, tensors).tensors)
    except LayoutError:
        return False


def _is_laid_out(layout: Layout, tensors: Mapping[str, LazyTensor]) -> bool:
    """Whether a layout has nothing to do."""
    try:
        return apply(layout, tensors).tensors.keys() == tensors.keys()
    except LayoutError:
        return False
