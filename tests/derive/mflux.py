"""mflux's image models: tables read off its declarative mappings, `python -m tests.derive.mflux [MODEL …]`.

Each component's loader is run on tensors of different integers under every name that its mapping reads. What
the loader makes of them is followed element by element, and written as a rules file:
`wconv/consumers/mflux/tables/MODEL.COMPONENT.toml`.
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import inspect
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.derive import induce, names, plain_rules
from tests.derive.induction import Traced
from tests.derive.names import UnlikeError, keep_numbers
from tests.derive.trace import Origin, Shape, UntraceableError, traced
from wconv.consumers import table_files
from wconv.consumers.mflux.common import FORM
from wconv.errors import LayoutError
from wconv.layouts.apply import Layout
from wconv.layouts.file.rules_file import parse, write
from wconv.layouts.patterns import written_out
from wconv.layouts.rules import DropRule, Rule

Arrays = dict[str, Any]

MODELS: Mapping[str, tuple[str, str]] = {
    "anima": ("anima", "AnimaWeightDefinition"),
    "boogu": ("boogu", "BooguWeightDefinition"),
    "ernie_image": ("ernie", "ErnieWeightDefinition"),
    "fibo2": ("fibo2", "Fibo2WeightDefinition"),
    "flux3": ("flux3", "Flux3KleinWeightDefinition"),
    "flux3_base": ("flux3", "Flux3KleinBaseWeightDefinition"),
    "ideogram4": ("ideogram4", "Ideogram4WeightDefinition"),
    "iris": ("iris", "IrisWeightDefinition"),
    "krea2": ("krea2", "Krea2WeightDefinition"),
    "lens": ("lens", "LensWeightDefinition"),
    "ming_image": ("ming_image", "MingImageWeightDefinition"),
    "moss_image": ("moss_image", "MOSSImageWeightDefinition"),
    "qwen21": ("qwen21", "Qwen21WeightDefinition"),
}
"""Our name → the beginning of its definition's module, and its class; the folder is the name's first word."""

MOVED = re.compile(r"no order of renamings takes (\S+) to ")
MOST_NUMBERS = 60
"""Places in names whose numbers are kept, one after the other, where they tell things apart."""

COUNT = 3
"""Blocks and layers of the tiny checkpoints, where mflux counts them."""

WIDTHS = (7, 6, 2, 3, 4)
NOT_READ = ("visual.x.weight", "model.visual.x.weight", "vision_tower.x.weight", "lm_head.weight")
NOT_READ += ("multi_modal_projector.x.weight", "mtp.x.weight", "rope.bands", "bn.num_batches_tracked")
"""Names that repositories have beside those that a mapping reads: mflux passes them by."""


@dataclass(frozen=True)
class Found:
    """What came of a component: its table, or why there is none."""

    name: str
    layout: Layout | None = None
    why: str = ""


def definition(model: str) -> Any:
    """mflux's class that says of which components a model is."""
    folder = model.removesuffix("_base")
    stem, cls = MODELS[model]
    module = importlib.import_module(f"mflux.models.{folder}.weights.{stem}_weight_definition")
    return getattr(module, cls)


def read_names(component: Any) -> dict[str, list[Callable[[Any], Any] | None]]:
    """Every name that a component's mapping reads, after its filters, with what is done to the tensor."""
    mapper = importlib.import_module("mflux.models.common.weights.mapping.weight_mapper").WeightMapper
    flat = mapper._build_flat_mapping(
        component.mapping_getter(), component.num_blocks or COUNT, component.num_layers or COUNT
    )
    return {name: [transform for _, transform in targets] for name, targets in flat.items()}


def shape(name: str, transforms: list[Callable[[Any], Any] | None]) -> Shape:
    """A shape that the transforms of a name take and change."""
    import mlx.core as mx

    flat: Shape = WIDTHS[:2] if name.endswith("weight") else WIDTHS[:1]
    done = [one for one in transforms if one is not None]
    if not done:
        return flat
    for whole in (WIDTHS, WIDTHS[:4], WIDTHS[:3], (WIDTHS[0], 1, 1, 1), (WIDTHS[0], 1, 1)):
        start = mx.arange(math.prod(whole)).reshape(whole)
        try:
            made = [one(start) for one in done]
        except (ValueError, IndexError):
            continue
        if all(one.shape != start.shape or not mx.array_equal(one, start) for one in made):
            return whole
    return flat


def published(component: Any, wanted: str, words: tuple[str, ...]) -> str | None:
    """The name that a component's filters bring to the one that its mapping reads."""
    for old in ("", *words):
        if not wanted.startswith(old):
            continue
        for new in ("", *words):
            name = new + wanted.removeprefix(old)
            filters = component.weight_prefix_filters
            if filters is not None and not any(name.startswith(one) for one in filters):
                continue
            if component.key_transform is None:
                if name == wanted:
                    return name
            elif component.key_transform(name) == wanted:
                return name
    return None


def prefixes(model: str) -> tuple[str, ...]:
    """Strings in a definition's code that may stand before names."""
    tree = ast.parse(inspect.getsource(sys.modules[definition(model).__module__]))
    found = [one.value for one in ast.walk(tree) if isinstance(one, ast.Constant)]
    return tuple(dict.fromkeys(one for one in found if isinstance(one, str) and one.endswith(".")))


def loaded(component: Any, weights: Arrays) -> Arrays:
    """What mflux's loader makes of a component's tensors, by paths; without its cast."""
    from mlx.utils import tree_flatten

    loading = importlib.import_module("mflux.models.common.weights.loading.weight_loader").WeightLoader
    plain = type(component)(**{**vars(component), "precision": None, "variant_selector": None})
    kept = loading._load_safetensors, loading._try_load_mflux_format
    loading._load_safetensors = staticmethod(lambda *_: dict(weights))
    loading._try_load_mflux_format = staticmethod(lambda _: (None, None, None))
    try:
        tree, *_ = loading._load_component(Path("."), plain)
    finally:
        loading._load_safetensors, loading._try_load_mflux_format = map(staticmethod, kept)
    return {name: array for name, array in tree_flatten(tree) if not isinstance(array, dict | list)}


def source(model: str, component: Any) -> dict[str, Shape]:
    """A tiny checkpoint of a component: every name that its mapping reads, as it is published.

    Raises:
        UntraceableError: a name is read that no published one leads to.
    """
    words = prefixes(model)
    found: dict[str, Shape] = {}
    for wanted, transforms in read_names(component).items():
        name = published(component, wanted, words)
        if name is None and component.num_layers and _beyond(wanted):
            continue
        if name is None:
            raise UntraceableError(f"no published name leads to {wanted}")
        found[name] = shape(wanted, transforms)
    return found


def _beyond(name: str) -> bool:
    return any(part.isdigit() and int(part) > COUNT for part in name.split("."))


def derive(model: str, component: Any) -> Found:
    """The table of one component."""
    name = f"{model}.{component.name}"
    if component.mapping_getter is None:
        return Found(name, why="no mapping: its names pass a filter alone")
    names.LITERAL.clear()
    try:
        for _ in range(MOST_NUMBERS):
            try:
                return Found(name, _derived(model, component))
            except UnlikeError as error:
                kept = [keep_numbers(one) for one in written_out(error.pattern)]
                if True not in kept:
                    raise UntraceableError(str(error)) from None
            except UntraceableError as error:
                moved = MOVED.search(str(error))
                if moved is None or not keep_numbers(names.general(moved[1])):
                    raise
    except (UntraceableError, LayoutError, ValueError, KeyError) as error:
        return Found(name, why=f"{type(error).__name__}: {error}"[:200])
    return Found(name, why="too many numbers in names mean too many things")


def _derived(model: str, component: Any) -> Layout:
    shapes = source(model, component)
    origins = traced(shapes, lambda weights: loaded(component, weights))
    bad = next((f"{name}: {one}" for name, one in origins.items() if isinstance(one, str)), None)
    if bad is not None:
        raise UntraceableError(bad)
    good = {name: one for name, one in origins.items() if isinstance(one, Origin)}
    final = final_shapes(component, shapes)
    rules = induce.rules([Traced(shapes, good, final, {}, {})])
    drops: list[Rule] = [DropRule(one, "mflux does not read it") for one in left_out(component)]
    precision = str(component.precision).rpartition(".")[2]
    casts = {"float32": precision, "float16": precision, "float64": precision}
    casts = {one: to for one, to in {**casts, "bfloat16": precision}.items() if one != to}
    return Layout(
        ("mflux",),
        (f"{model}.{component.name}",),
        plain_rules.known_names(list(final), {}),
        (*drops, *rules),
        form=FORM,
        casts=casts if component.precision is not None else {},
        derived_from={"mflux": importlib.metadata.version("mflux")},
    )


def final_shapes(component: Any, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    import mlx.core as mx

    made = loaded(component, {name: mx.zeros(one) for name, one in shapes.items()})
    return {name: tuple(array.shape) for name, array in made.items()}


def left_out(component: Any) -> Iterator[str]:
    """Patterns of tensors that repositories have beside those that a component's mapping reads."""
    words = (
        ("vision", "visual", "lm_head", "multi_modal", "mtp")
        if "text" in component.name
        else ("bn.", "rope.")
    )
    read = read_names(component)
    for name in NOT_READ:
        pattern = name.replace(".x.weight", ".**")
        start = pattern.removesuffix("**")
        if any(word in name for word in words) and not any(one.startswith(start) for one in read):
            yield pattern


def folder() -> Path:
    return Path(table_files.__file__).parent / "mflux" / "tables"


def main(arguments: list[str]) -> int:
    folder().mkdir(exist_ok=True)
    for model in arguments or list(MODELS):
        for component in definition(model).get_components():
            found = derive(model, component)
            path = folder() / f"{found.name}.toml"
            if found.layout is None:
                path.unlink(missing_ok=True)
                print(f"{found.name}: {found.why}", flush=True)
                continue
            body = write(found.layout)
            assert parse(body) == found.layout
            path.write_text(body)
            print(f"{found.name}: {len(found.layout.rules)} rules", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
