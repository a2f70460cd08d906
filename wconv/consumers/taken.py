"""Which consumers load weights in a quantization scheme as they are, and what is said of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wconv.consumers import registry
from wconv.errors import LayoutError
from wconv.layouts.apply import Layout, is_known, is_quantized, matches
from wconv.layouts.conditions import Context
from wconv.layouts.rules import Rule, State, TracedTensor
from wconv.quantized.names import UNCHANGED, Described, Recognised, is_narrow, recognise
from wconv.quantized.schemes import MLX
from wconv.tensors.lazy import LazyTensor

ANY = "no MLX program"
"""Stands for whoever may load a model without a table."""


def check_taken(
    consumer: str, tensors: Mapping[str, Described], config: Mapping[str, Any] | None = None
) -> Recognised | None:
    """What the weights of a checkpoint are stored in; None where they are plain.

    Raises:
        LayoutError: in a scheme that the consumer (or, for `ANY`, every one) does not take as it is.
    """
    found = recognise(tensors, config)
    if found is None:
        return None
    if consumer == ANY:
        taken = any(found.scheme.name in one.schemes for one in registry.CONSUMERS)
    else:
        known = registry.find_consumer(consumer)
        taken = known is not None and found.scheme.name in known.schemes
    if not taken:
        raise refusal(found, consumer)
    return found


def refusal(found: Recognised, consumer: str, name: str | None = None) -> LayoutError:
    """Says that a scheme is neither decoded nor taken by a consumer."""
    whom = f"{consumer} loads it" if consumer == ANY else f"{consumer} does not load it as it is"
    advice = "add -d (dequantize=True) to make it dense first" if found.scheme is MLX else UNCHANGED
    return LayoutError(
        f"{name or found.example} shows {found.scheme.title}, which is not decoded, and {whom}: {advice}"
    )


def check_together(
    rules: Sequence[Rule], state: State, tensors: Mapping[str, LazyTensor], before: Recognised
) -> None:
    """Refuses rules that leave out the scales of weights that stay, or re-arrange such weights without them.

    Args:
        state: what the rules made of `tensors`.
        before: what `tensors` are stored in.

    Raises:
        LayoutError: naming both.
    """
    made: dict[str, list[TracedTensor]] = {}
    for entry in state.values():
        for source in entry.sources:
            made.setdefault(source, []).append(entry)
    for part, weight in before.weights.items():
        coded = [entry for entry in made.get(weight, ()) if is_narrow(entry.tensor.dtype)]
        if part == weight or not coded:
            continue
        own = made.get(part, [])
        moved = any(entry.tensor is not tensors[weight] for entry in coded)
        apart = all(entry.tensor is tensors[part] for entry in own) and not _is_named(rules, part)
        if not own or (moved and apart):
            raise LayoutError(
                f"{part} belongs to {weight} of {before.scheme.title}, and the rules change one without the"
                f" other: {UNCHANGED}"
            )


def _is_named(rules: Sequence[Rule], name: str) -> bool:
    """Whether a rule tells of a tensor by more than the beginning of its name."""
    return any(rule.pattern.match(name) for rule in rules if not rule.source.endswith("**"))


def check_scheme(layout: Layout, state: State, tensors: Mapping[str, LazyTensor], context: Context) -> None:
    """Refuses weights in a scheme that the rules leave as they are and the consumer does not take.

    Raises:
        LayoutError: naming the scheme.
    """
    before = recognise(tensors, context.config)
    if before is None:
        return
    check_together(layout.rules, state, tensors, before)
    left = {name: entry.tensor for name, entry in state.items()}
    found = recognise(left, context.config)
    if found is None or all(matches(layout.names, name) for name in found.members):
        return
    consumer = layout.consumers[0]
    check_taken(consumer, left, context.config)
    quantized = layout.header_says_bits or is_quantized(context.config)
    stray = next((name for name in found.members if not is_known(layout.names, name, quantized)), None)
    if stray is not None:
        raise refusal(found, consumer, state[stray].sources[0])
