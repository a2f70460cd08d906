"""The components of mflux's image models: of which names each is made, and what its loader makes of them.

A component with a mapping reads the names that this has; the others (names pass a filter alone) those of the
module that mflux itself puts them into. Facts: mflux 0.24.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.derive.mflux_models import MODELS
from tests.derive.trace import Shape, UntraceableError

Arrays = dict[str, Any]
Step = Callable[[Any], Any]

COUNT = 3
"""Blocks and layers of the tiny checkpoints, where mflux counts them."""

WIDTHS = (7, 6, 2, 3, 4)
KEY = "weights.mapping.weight_mapper"
AXES: dict[str, dict[str, int]] = {}
"""The axes of every parameter of the modules that were built."""


@dataclass(frozen=True)
class Part:
    """A component, with what is needed to try it."""

    model: str
    component: Any
    modules: tuple[str, Any] | None
    counts: tuple[int, int]

    @property
    def name(self) -> str:
        return f"{self.model}.{self.component.name}"


def attribute(path: str) -> Any:
    """What `module:name` names, in mflux's models."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(f"mflux.models.{module}"), name)


def parts(model: str) -> Iterator[Part]:
    """The components of a model."""
    told = MODELS[model]
    cls = attribute(told.definition)
    for method, *arguments in told.take:
        found = getattr(cls, method)(*arguments)
        for one in found if isinstance(found, list) else [found]:
            if one.variant_selector is None and (not told.parts or one.name in told.parts):
                yield Part(model, one, told.modules.get(one.name), told.counts.get(one.name, (0, 0)))


def every_part() -> Iterator[Part]:
    """Every component of every model."""
    for model in MODELS:
        yield from parts(model)


def module(part: Part) -> Any:
    """What mflux puts a component's tensors into, as large as it is there; nothing of it is computed."""
    assert part.modules is not None
    path, config = part.modules
    cls = attribute(path)
    if config is None:
        return cls()
    return cls(attribute(config)() if isinstance(config, str) else config)


def read_names(part: Part) -> dict[str, list[Step | None]]:
    """Every name that a component's mapping reads, after its filters, with what is done to the tensor."""
    mapper = importlib.import_module(f"mflux.models.common.{KEY}").WeightMapper
    one = part.component
    blocks, layers = one.num_blocks or part.counts[0], one.num_layers or part.counts[1]
    flat = mapper._build_flat_mapping(one.mapping_getter(), blocks or COUNT, layers or COUNT)
    return {name: [step for _, step in targets] for name, targets in flat.items()}


def own_names(part: Part) -> dict[str, tuple[str, int]]:
    """Every name that the loader must give a component's module → the one that it reads, and its axes."""
    from mlx.utils import tree_flatten

    found: dict[str, tuple[str, int]] = {}
    subkey = f"{part.component.weight_subkey}." if part.component.weight_subkey else ""
    if part.name not in AXES:
        flat = tree_flatten(module(part).parameters())
        AXES[part.name] = {name: array.ndim for name, array in flat}
    parameters = AXES[part.name]
    for name, axes in parameters.items():
        where, dot, what = name.partition(".mlp.switch_mlp.")
        if dot:
            for expert in range(COUNT):
                found[f"{where}.mlp.experts.{expert}.{what}"] = (name, 2)
        else:
            # the weights of large layers in 8 bits are made when they are loaded
            found[subkey + name] = (name, 2 if f"{name}_scale" in parameters else axes)
    return found


def wanted_names(part: Part) -> list[str]:
    """The names that a component's mapping or module reads, after its filters."""
    return list(read_names(part) if part.component.mapping_getter is not None else own_names(part))


def fitting_shape(name: str, steps: Sequence[Step | None], axes: int | None = None) -> Shape:
    """A shape that the steps of a name take and change; of so many axes after them."""
    import mlx.core as mx

    flat: Shape = WIDTHS[:2] if name.endswith("weight") else WIDTHS[:1]
    if name.endswith(
        ("norm.gamma", "norm1.gamma", "norm2.gamma", "norm_out.gamma")
    ):  # of images, and of videos
        return (WIDTHS[0], 1, 1) if ".attentions." in name else (WIDTHS[0], 1, 1, 1)
    if name.endswith((".ls1.gamma", ".ls2.gamma")):
        return flat
    if name.endswith(".scale_shift_table") and any(steps):
        return (1, WIDTHS[0])
    if axes is not None:
        flat = WIDTHS[:axes]
    done = [one for one in steps if one is not None]
    if not done:
        return flat
    for whole in (WIDTHS[:3], WIDTHS[:4], WIDTHS, (WIDTHS[0], 1, 1)):
        start = mx.arange(math.prod(whole)).reshape(whole)
        try:
            made = [one(start) for one in done]
        except (ValueError, IndexError):
            continue
        if all(
            (one.shape != start.shape or not mx.array_equal(one, start))
            and (axes is None or one.ndim == axes)
            for one in made
        ):
            return whole
    return flat


def prefixes(part: Part) -> tuple[str, ...]:
    """Strings in a definition's code, or in its filter's, that may stand before names."""
    modules = {attribute(MODELS[part.model].definition).__module__: None}
    if part.component.key_transform is not None:
        modules[part.component.key_transform.__module__] = None
    trees = (ast.parse(inspect.getsource(sys.modules[one])) for one in modules)
    found = [one.value for tree in trees for one in ast.walk(tree) if isinstance(one, ast.Constant)]
    return tuple(dict.fromkeys(one for one in found if isinstance(one, str) and one.endswith(".")))


def published(part: Part, wanted: str, words: tuple[str, ...]) -> str | None:
    """The name that a component's filters bring to the one that its mapping reads."""
    component = part.component
    if part.name == "ming_image.heads" and wanted == "query_tokens":
        return "query_tokens_dict.16x16"
    if component.weight_files == ["qwen_image_vae.safetensors"]:
        return _comfy(component, wanted)
    first = MODELS[part.model].prefix
    for old in ("", *words):
        if not wanted.startswith(old):
            continue
        for new in (first, *words, ""):
            name = new + wanted.removeprefix(old)
            if passes(component, name) == wanted:
                return name
    return None


def passes(component: Any, name: str) -> str | None:
    """What a component's filters make of a name; None where they leave it out."""
    filters = component.weight_prefix_filters
    if filters is not None and not any(name.startswith(one) for one in filters):
        return None
    if component.key_transform is None:
        return name
    try:
        found = component.key_transform(name)
    except (ValueError, IndexError):
        return None
    return None if found is None else str(found)


def _comfy(component: Any, wanted: str) -> str | None:
    """The name in ComfyUI's files of an autoencoder, which numbers its layers in one list."""
    words = wanted.split(".")
    tails = [".".join(words[at:]) for at in range(len(words) - 1, 0, -1)]
    tails = [f"{kind}.{words[-1]}" for kind in RESIDUAL] + tails
    for start in COMFY:
        for tail in tails:
            if "head" in start and tail.startswith(RESIDUAL):
                continue
            name = f"{start}.{tail}"
            if passes(component, name) == wanted:
                return name
    return None


RESIDUAL = ("residual.0", "residual.2", "residual.3", "residual.6", "shortcut")
COMFY = (
    "conv1",
    "conv2",
    *(f"{side}.{rest}" for side in ("encoder", "decoder") for rest in ("conv1", "head.0", "head.2")),
    *(f"{side}.middle.{at}" for side in ("encoder", "decoder") for at in range(3)),
    *(f"encoder.downsamples.{at}" for at in range(11)),
    *(f"decoder.upsamples.{at}" for at in range(15)),
)


def source(part: Part) -> dict[str, Shape]:
    """A tiny checkpoint of a component: every name that mflux reads, as it is published.

    Raises:
        UntraceableError: a name is read that no published one leads to.
    """
    words = prefixes(part)
    found: dict[str, Shape] = {}
    if part.component.mapping_getter is not None:
        wanted = {name: fitting_shape(name, steps) for name, steps in read_names(part).items()}
    else:
        wanted = {
            name: fitting_shape(name, _steps(part, name), axes) for name, (_, axes) in own_names(part).items()
        }
    for name, shape in wanted.items():
        whole = published(part, name, words)
        if not _is_there(part, name):
            continue
        if whole is None and (name.endswith("inv_freq") or (part.component.num_layers and _beyond(name))):
            continue
        if whole is None:
            raise UntraceableError(f"no published name leads to {name}")
        found[whole] = shape
    return found


def _steps(part: Part, name: str) -> list[Step | None]:
    """What is done to a tensor of a component without a mapping."""
    one = part.component
    if one.weight_transform is not None:
        return [lambda array: one.weight_transform(name, array)]
    return [one.bulk_transform]


def _is_there(part: Part, name: str) -> bool:
    """SeedVR2 shares the blocks of even number between its two kinds of input; no name is for both."""
    block = re.match(r"blocks\.(\d+)\.(?!.*\.rope\.)", name)
    if not part.model.startswith("seedvr2") or block is None:
        return True
    return (".all." in name) == (int(block[1]) % 2 == 0)


def _beyond(name: str) -> bool:
    return any(part.isdigit() and int(part) > COUNT for part in name.split("."))


def loaded(part: Part, weights: Arrays, *, cast: bool = False) -> Arrays:
    """What mflux's loader makes of a component's tensors, by the paths of its module.

    Args:
        cast: as the loader casts them; else only what it does with names and elements.
    """
    import mlx.core as mx
    from mlx.utils import tree_flatten

    loading = importlib.import_module("mflux.models.common.weights.loading.weight_loader").WeightLoader
    one = part.component
    changes: dict[str, Any] = {"variant_selector": None}
    if not cast:
        changes["precision"] = None
        if (step := one.weight_transform) is not None:
            # integers pass its casts unchanged
            changes["weight_transform"] = lambda key, value: step(key, value.astype(mx.int32)).astype(
                value.dtype
            )
    elif one.loading_mode.startswith("torch_"):
        # through torch, which hands bfloat16 on as float16
        weights = {
            name: value.astype(mx.float16) if value.dtype == mx.bfloat16 else value
            for name, value in weights.items()
        }
    plain = dataclasses.replace(one, download_url=None, **changes)
    kept = loading._load_safetensors, loading._try_load_mflux_format
    loading._load_safetensors = staticmethod(lambda *_: dict(weights))
    loading._try_load_mflux_format = staticmethod(lambda _: (None, None, None))
    try:
        tree, *_ = loading._load_component(Path("."), plain)
    finally:
        loading._load_safetensors, loading._try_load_mflux_format = map(staticmethod, kept)
    if part.name == "ming_image.text_encoder":
        tree = module_class(part).stack_experts(tree)
    found = {name: array for name, array in tree_flatten(tree) if not isinstance(array, dict | list)}
    return {name: found[name] for name in used(part, found)}


def used(part: Part, names: Iterable[str]) -> list[str]:
    """Of the paths that a loader gives, those that the component's module has."""
    if part.modules is None:
        return list(names)
    subkey = f"{part.component.weight_subkey}." if part.component.weight_subkey else ""
    own = {subkey + name for name, _ in own_names(part).values()}
    return [name for name in names if name in own]


def module_class(part: Part) -> Any:
    assert part.modules is not None
    return attribute(part.modules[0])
