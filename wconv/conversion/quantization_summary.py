"""What is said of a quantization: how many weights, how many bits, and what it changed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from wconv.wording import gigabytes, plural
from wconv.writing.plan import within

WORST = 3
"""Weights that the summary names."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What the summary of a conversion says of its quantization.

    Attributes:
        equals: whose bits they are.
        weights: how weights are stored, as text → how many.
        bits_per_weight: of the whole model.
        dense_bytes, nbytes: of all tensors, before and after.
        left: matrices that stay dense although a group might be expected, with the reason.
        elements: of all tensors.
        unmatched: the user's rules that found no layer.
        overruled: the user's rules of which later rules took every layer.
        errors: weight → error relative to the weight's own size: root mean squares of both.
        sizes: recipe → bytes that the model would take.
    """

    equals: str
    weights: Mapping[str, int]
    bits_per_weight: float
    dense_bytes: int
    nbytes: int
    left: Mapping[str, str] = field(default_factory=dict)
    elements: int = 0
    unmatched: tuple[str, ...] = ()
    overruled: tuple[str, ...] = ()
    errors: Mapping[str, float] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """The summary as it is printed."""
        ways = ", ".join(f"{plural(count, 'weight')} at {how}" for how, count in self.weights.items())
        yield f"quantized: {ways}; {self.bits_per_weight:.3g} bits a weight in all, as {self.equals}"
        yield f"  {gigabytes(self.dense_bytes)} dense, {gigabytes(self.nbytes)} quantized"
        if any(map(math.isfinite, self.errors.values())):
            known = {name: error for name, error in self.errors.items() if math.isfinite(error)}
            worst = sorted(known, key=lambda name: known[name], reverse=True)[:WORST]
            shown = ", ".join(f"{name} {known[name]:.2%}" for name in worst)
            yield f"  largest relative errors: {shown}"
        if self.left:
            name, why = next(iter(self.left.items()))
            more = f" and {len(self.left) - 1} more" if len(self.left) > 1 else ""
            yield f"  left dense, {why}: {name}{more}"
        for rule in self.unmatched:
            yield f"  no layer matches the quantization rule {rule}"
        for rule in self.overruled:
            yield f"  later rules take all layers of the quantization rule {rule}"


def joined(parts: Mapping[str, Summary]) -> Summary | None:
    """One summary for a model of several components; None where none has any."""
    if not parts:
        return None
    all_of = list(parts.values())
    weights = Counter[str]()
    for one in all_of:
        weights.update(one.weights)
    nbytes, elements = sum(one.nbytes for one in all_of), sum(one.elements for one in all_of)
    unmatched = [rule for rule in all_of[0].unmatched if all(rule in one.unmatched for one in all_of)]
    idle = [set(one.unmatched) | set(one.overruled) for one in all_of]
    overruled = dict.fromkeys(rule for one in all_of for rule in one.overruled)
    return Summary(
        all_of[0].equals,
        dict(weights.most_common()),
        nbytes * 8 / elements if elements else 0.0,
        sum(one.dense_bytes for one in all_of),
        nbytes,
        {within(name, path): why for name, one in parts.items() for path, why in one.left.items()},
        elements,
        tuple(unmatched),
        tuple(rule for rule in overruled if all(rule in one for one in idle)),
        sizes={
            recipe: sum(one.sizes[recipe] for one in all_of)
            for recipe in all_of[0].sizes
            if all(recipe in one.sizes for one in all_of)
        },
    )
