"""The stage that quantizes: which weights, how, what becomes of config.json, and how much it costs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wconv.consumers import registry
from wconv.consumers.quantization.choice import LayerChoice, Tensors, choose_layers
from wconv.consumers.quantization.recipes import Quantize, parse_rule
from wconv.conversion.quantization_summary import Summary
from wconv.errors import LayoutError, WconvError
from wconv.stores.files import replacing
from wconv.tensors.borrowed import keeping
from wconv.tensors.dequantize import dequantize
from wconv.tensors.lazy import LazyTensor
from wconv.tensors.multi import output_of
from wconv.tensors.quantize import EQUALS, Quantization, quantize
from wconv.tensors.quantized import QuantizeNode, quantized
from wconv.writing.plan import Entry

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
        level: the bits, where all weights have the same, as text.
    """

    entries: list[Entry]
    sources: Mapping[str, str]
    config: Mapping[str, Any]
    summary: Summary
    level: str | None = None


def quantize_entries(
    entries: Sequence[Entry],
    consumer: str | None,
    model_type: str,
    config: Mapping[str, Any],
    recipe: Quantize,
) -> Quantized:
    """Puts codes, scales and biases in the place of the weights that the consumer's converter would quantize.

    Args:
        entries: the dense plan, each tensor with the dtype in which it would be written.
        consumer: for whom they are laid out.
        model_type: config.json's; `family/component` for programs that take models of several components.
        config: config.json's content.

    Raises:
        LayoutError: the model is not laid out for a consumer that reads quantized models.
        WconvError: the recipe asks for what the mode or the consumer does not have; nothing is quantized.
    """
    readers = [one.name for one in registry.quantizing()]
    if consumer not in readers:
        raise LayoutError(
            f"-q needs a model that is laid out for {', '.join(readers)}"
            f"{f', and this one is for {consumer}' if consumer else ': there are no rules for this one'}"
        )
    tensors = {entry.name: (entry.shape, entry.dtype.name) for entry in entries}
    choice = choose_layers(consumer, model_type, config, tensors, recipe)
    if not choice.quantized:
        raise WconvError(f"-q found no weight to quantize in {model_type}: see --dry-run for its tensors")
    made: list[Entry] = []
    sources: dict[str, str] = {}
    for entry in entries:
        how = choice.quantized.get(entry.name)
        if how is None:
            made.append(entry)
            continue
        path = entry.name.removesuffix(".weight")
        parts = quantized(entry.tensor.cast(entry.dtype), how)
        for part, tensor in zip(("weight", "scales", "biases"), parts, strict=False):
            made.append(Entry(f"{path}.{part}", tensor, tensor.dtype))
            sources[f"{path}.{part}"] = entry.name
    settings: dict[str, Any] = dict(choice.config)
    if settings:
        settings["quantized_as"] = EQUALS
    level = {str(how.bits) for how in choice.quantized.values()}
    return Quantized(
        made,
        sources,
        settings,
        replace(
            _summary(entries, made, choice), sizes=sizes_of(tensors, consumer, model_type, config, recipe)
        ),
        level.pop() if len(level) == 1 else None,
    )


def _summary(entries: Sequence[Entry], made: Sequence[Entry], choice: LayerChoice) -> Summary:
    weights: dict[str, int] = {}
    for how in choice.quantized.values():
        label = f"{how.bits} bits in groups of {how.group_size}"
        label = label if how.mode == "affine" else f"{how.mode}"
        weights[label] = weights.get(label, 0) + 1
    notes = [f"no layer matches the quantization rule {text}" for text in choice.unmatched]
    notes += [f"later rules take all layers of the quantization rule {text}" for text in choice.overruled]
    undivided = choice.undivided()
    if undivided:
        more = f" and {len(undivided) - 1} more" if len(undivided) > 1 else ""
        notes.append(f"left dense, {choice.left[undivided[0]]}: {undivided[0]}{more}")
    return Summary(
        EQUALS,
        dict(sorted(weights.items(), key=lambda pair: -pair[1])),
        choice.bits_per_weight,
        sum(entry.nbytes for entry in entries),
        sum(entry.nbytes for entry in made),
        {name: choice.left[name] for name in undivided},
        tuple(notes),
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


def errors_of(made: Sequence[Entry], *, whole: bool = False) -> dict[str, float]:
    """The relative error of every quantized weight of a plan, by the weight's name.

    Args:
        whole: reads all of every weight, instead of a sample.
    """
    found: dict[str, float] = {}
    with keeping():
        for entry in made:
            output = output_of(entry.tensor)
            if output is not None and output.index == 0 and isinstance(output.node, QuantizeNode):
                found[entry.name] = relative_error(output.node.parent, output.node.how, whole=whole)
    return found


def sizes_of(
    tensors: Tensors, consumer: str, model_type: str, config: Mapping[str, Any], recipe: Quantize
) -> dict[str, int]:
    """What the model would take by each of a few recipes, the one that is asked for first."""
    sizes: dict[str, int] = {}
    for one in (recipe, *(replace(other, rules=recipe.rules) for other in OTHERS)):
        try:
            sizes.setdefault(title(one), choose_layers(consumer, model_type, config, tensors, one).bytes)
        except WconvError:
            continue
    return sizes


def title(recipe: Quantize) -> str:
    """A recipe in a few words."""
    if recipe.predicate:
        return recipe.predicate
    how = Quantization.of(recipe.mode, recipe.bits, recipe.group_size)
    return how.mode if how.mode != "affine" else f"{how.bits} bits, groups of {how.group_size}"


def make_recipe(
    *,
    mode: str = "affine",
    bits: int | None = None,
    group_size: int | None = None,
    predicate: str | None = None,
    rules: Sequence[str] = (),
) -> Quantize:
    """A recipe out of the command's words.

    Raises:
        WconvError: a rule is not written as rules are, or asks for what no mode has.
    """
    Quantization.of(mode, bits, group_size)
    return Quantize(mode, bits, group_size, predicate, tuple(map(parse_rule, rules)))


def write_report(conversion: Conversion, path: Path) -> None:
    """Writes what became of every quantized weight, as JSON: how it is stored, its bytes, and its error.

    Raises:
        OutputError: the file cannot be written.
    """
    entries = [entry for shard in conversion.plan.shards for entry in shard.entries]
    errors = errors_of(entries, whole=True)
    weights: dict[str, Any] = {}
    for entry in entries:
        output = output_of(entry.tensor)
        if output is None or not isinstance(output.node, QuantizeNode):
            continue
        name = f"{entry.name.rpartition('.')[0]}.weight"
        how = output.node.how
        row = weights.setdefault(
            name,
            {
                "mode": how.mode,
                "bits": how.bits,
                "group_size": how.group_size,
                "dense_bytes": output.node.parent.nbytes,
                "bytes": 0,
                "relative_error": errors.get(name),
            },
        )
        row["bytes"] += entry.nbytes
    with replacing(path) as file:
        file.write(json.dumps({"equals": EQUALS, "weights": weights}, indent=2).encode())
