"""The stage that quantizes: which weights, how, what becomes of config.json, and how much it costs."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wconv.consumers import registry
from wconv.consumers.quantization.choice import NO_MATRIX, LayerChoice, choose_layers, sizes
from wconv.consumers.quantization.kinds import Tensors
from wconv.consumers.quantization.recipes import Quantize, parse_rule
from wconv.conversion.quantization_summary import Summary
from wconv.errors import LayoutError, OutputError, WconvError
from wconv.stores.files import replacing
from wconv.tensors.borrowed import keeping
from wconv.tensors.dequantize import dequantize
from wconv.tensors.lazy import LazyTensor
from wconv.tensors.multi import output_of
from wconv.tensors.quantize import EQUALS, Quantization, quantize
from wconv.tensors.quantized import QuantizeNode, quantized
from wconv.writing.plan import Entry, Shard

if TYPE_CHECKING:
    from wconv.conversion.planned import Conversion

SAMPLE = 1 << 16
"""Elements by which the error of a weight is judged in the summary; a report is of all."""

PLACES = 4
"""Places of a weight from which the sample is taken, evenly apart."""

OTHERS = (
    Quantize(),
    Quantize(bits=8),
    Quantize(bits=6),
    Quantize(predicate="mixed_4_6"),
    Quantize("mxfp4"),
    Quantize("nvfp4"),
)
"""Recipes whose sizes a dry run tells beside the one that is asked for."""


@dataclass(frozen=True, slots=True)
class Quantized:
    """What the stage made.

    Attributes:
        entries: of the plan: codes, scales and biases in the place of the weights.
        sources: new names → the name of the weight that they are made of.
        config: what goes into config.json.
        summary: for the report.
        level: the bits of most weights, as text.
    """

    entries: list[Entry]
    sources: Mapping[str, str]
    config: Mapping[str, Any]
    summary: Summary
    level: str


def quantize_entries(
    entries: Sequence[Entry],
    consumer: str | None,
    model_type: str,
    config: Mapping[str, Any],
    recipe: Quantize,
    *,
    part: bool = False,
) -> Quantized | None:
    """Puts codes, scales and biases in the place of the weights that the consumer's converter would quantize.

    Args:
        entries: the dense plan, each tensor with the dtype in which it would be written.
        consumer: for whom they are laid out.
        model_type: config.json's; `family/component` for programs that take models of several components.
        config: config.json's content.
        part: they are a component of a model of several, which may well have nothing to quantize.

    Returns:
        None for a part that no such consumer reads.

    Raises:
        LayoutError: the model is not laid out for a consumer that reads quantized models.
        WconvError: the recipe asks for what the mode or the consumer does not have; nothing is quantized.
    """
    readers = [one.name for one in registry.quantizing()]
    if consumer not in readers:
        if part:
            return None
        why = _why_not(consumer, config)
        raise LayoutError(f"-q needs a model that is laid out for {', '.join(readers)}{why}")
    tensors = {entry.name: (entry.shape, entry.dtype.name) for entry in entries}
    choice = choose_layers(consumer, model_type, config, tensors, recipe)
    if not choice.quantized and not part:
        raise WconvError(f"-q found no weight to quantize in {model_type}: {_why_none(choice)}")
    made: list[Entry] = []
    sources: dict[str, str] = {}
    for entry in entries:
        how = choice.quantized.get(entry.name)
        if how is None:
            made.append(entry)
            continue
        path = entry.name.removesuffix(".weight")
        how = replace(how, older=True) if recipe.older else how
        parts = quantized(entry.tensor.cast(entry.dtype), how)
        for end, tensor in zip(("weight", "scales", "biases"), parts, strict=False):
            made.append(Entry(f"{path}.{end}", tensor, tensor.dtype))
            sources[f"{path}.{end}"] = entry.name
    settings: dict[str, Any] = dict(choice.config)
    if settings:
        settings["quantized_as"] = recipe.equals
    return Quantized(
        made,
        sources,
        settings,
        replace(
            _summary(entries, made, choice, recipe.equals),
            sizes=sizes_of(tensors, consumer, model_type, config, recipe),
        ),
        str(Quantization.of(recipe.mode, recipe.bits, recipe.group_size).bits),
    )


def _why_not(consumer: str | None, config: Mapping[str, Any]) -> str:
    """Why a model is laid out for none of those that read quantized ones, as the end of a sentence."""
    if consumer:
        return f", and this one is for {consumer}"
    if not config:
        return ": nothing says what this one is; convert the directory that has its config.json"
    return ": there are no rules for this one"


def _why_none(choice: LayerChoice) -> str:
    """Why most matrices stay dense."""
    reasons = Counter(why for why in choice.left.values() if why != NO_MATRIX)
    why = reasons.most_common(1)[0][0] if reasons else "it holds no matrix of weights"
    return f"{why}; see --dry-run for its tensors"


def _summary(entries: Sequence[Entry], made: Sequence[Entry], choice: LayerChoice, equals: str) -> Summary:
    weights: dict[str, int] = {}
    for how in choice.quantized.values():
        label = f"{how.bits} bits in groups of {how.group_size}"
        label = label if how.mode == "affine" else f"{how.mode}"
        weights[label] = weights.get(label, 0) + 1
    undivided = choice.undivided()
    return Summary(
        equals,
        dict(sorted(weights.items(), key=lambda pair: -pair[1])),
        choice.bits_per_weight,
        sum(entry.nbytes for entry in entries),
        sum(entry.nbytes for entry in made),
        {name: choice.left[name] for name in undivided},
        choice.elements,
        choice.unmatched,
        choice.overruled,
    )


def relative_error(tensor: LazyTensor, how: Quantization, *, whole: bool = False) -> float:
    """The root mean square of what quantization changes in a weight, over that of the weight itself."""
    size, group = tensor.size, how.group_size
    step = size if whole else max(min(SAMPLE // PLACES, size) // group, 1) * group
    places = range(0, size, step) if whole else range(0, size, max(size // PLACES // group, 1) * group)
    changed = total = 0.0
    for start in places:
        for at in range(start, min(start + step, size), SAMPLE // group * group):
            stop = min(at + SAMPLE // group * group, start + step, size)
            values = tensor.read_range(at, stop)
            made = quantize(values, how)
            back = dequantize(made.codes, made.scales, made.biases, how, values.dtype)
            exact = values.astype(np.float64)
            difference = back.reshape(-1).astype(np.float64) - exact
            # no np.dot: it wakes the threads of BLAS, which then spin for work while ours do it
            changed += float(np.square(difference, out=difference).sum())
            total += float(np.square(exact, out=exact).sum())
    return math.sqrt(changed / total) if total else 0.0


def errors_of(shards: Sequence[Shard], *, whole: bool = False) -> dict[str, float]:
    """The relative error of every quantized weight of a plan, by the weight's name and its component's.

    Args:
        whole: reads all of every weight, instead of a sample.
    """
    found: dict[str, float] = {}
    with keeping():
        for name, entry in _labelled(shards):
            output = output_of(entry.tensor)
            if output is not None and output.index == 0 and isinstance(output.node, QuantizeNode):
                found[name] = relative_error(output.node.parent, output.node.how, whole=whole)
    return found


def _labelled(shards: Sequence[Shard]) -> Iterator[tuple[str, Entry]]:
    """All entries of a plan by their names among those of all components."""
    for shard in shards:
        for entry in shard.entries:
            yield shard.label(entry.name), entry


def sizes_of(
    tensors: Tensors, consumer: str, model_type: str, config: Mapping[str, Any], recipe: Quantize
) -> dict[str, int]:
    """What the model would take by each of a few recipes, the one that is asked for first."""
    recipes = {title(one): one for one in (*(replace(other, rules=recipe.rules) for other in OTHERS), recipe)}
    recipes = {title(recipe): recipe, **recipes}
    found = sizes(consumer, model_type, config, tensors, list(recipes.values()))
    return {name: size for name, size in zip(recipes, found, strict=True) if size is not None}


def title(recipe: Quantize) -> str:
    """A recipe in a few words."""
    if recipe.predicate:
        return recipe.predicate
    how = Quantization.of(recipe.mode, recipe.bits, recipe.group_size)
    return how.mode if how.mode != "affine" else f"{how.bits} bits in groups of {how.group_size}"


def make_recipe(
    *,
    mode: str = "affine",
    bits: int | None = None,
    group_size: int | None = None,
    predicate: str | None = None,
    rules: Sequence[str] = (),
    like: str | None = None,
) -> Quantize:
    """A recipe out of the command's words.

    Raises:
        WconvError: a rule is not written as rules are, or asks for what no mode has.
    """
    Quantization.of(mode, bits, group_size)
    return Quantize(mode, bits, group_size, predicate, tuple(map(parse_rule, rules)), like)


def check_report(conversion: Conversion, path: Path, *, overwrite: bool) -> None:
    """Refuses a place for the report before anything is converted.

    Raises:
        OutputError: it is in the source, is there already, or cannot be written.
    """
    where, source = path.resolve(), conversion.checkpoint.path.resolve()
    files = {file.resolve() for file in conversion.checkpoint.files}
    if where in files or where.is_relative_to(source) or path.is_dir():
        raise OutputError(f"--q-report {path} is the source, in it, or a directory: choose another file")
    if os.path.lexists(path) and not overwrite:
        raise OutputError(f"--q-report {path} exists already: choose another file, or add --overwrite")
    home = where.parent
    if not (home.is_dir() or home == conversion.report.output.resolve()):
        raise OutputError(f"--q-report {path}: there is no directory {path.parent}")


def write_report(conversion: Conversion, path: Path) -> None:
    """Writes what became of every quantized weight, as JSON: how it is stored, its bytes, and its error.

    Raises:
        OutputError: the file cannot be written.
    """
    shards = conversion.plan.shards
    errors = errors_of(shards, whole=True)
    weights: dict[str, Any] = {}
    for label, entry in _labelled(shards):
        output = output_of(entry.tensor)
        if output is None or not isinstance(output.node, QuantizeNode):
            continue
        name = f"{label.rpartition('.')[0]}.weight"
        how = output.node.how
        row = weights.setdefault(
            name,
            {
                "mode": how.mode,
                "bits": how.bits,
                "group_size": how.group_size,
                "dense_bytes": output.node.parent.nbytes,
                "bytes": 0,
                "relative_error": error if math.isfinite(error := errors.get(name, 0.0)) else None,
            },
        )
        row["bytes"] += entry.nbytes
    summary = conversion.report.quantization
    equals = summary.equals if summary is not None else EQUALS
    with replacing(path) as file:
        file.write(json.dumps({"equals": equals, "weights": weights}, indent=2).encode())
