"""What is said of a quantization: how many weights, how many bits, and what it changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from wconv.wording import gigabytes, plural

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
        notes: what else is to be said.
        errors: weight → error relative to the weight's own size: root mean squares of both.
        sizes: recipe → bytes that the model would take.
    """

    equals: str
    weights: Mapping[str, int]
    bits_per_weight: float
    dense_bytes: int
    nbytes: int
    left: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    errors: Mapping[str, float] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """The summary as it is printed."""
        ways = ", ".join(f"{plural(count, 'weight')} at {how}" for how, count in self.weights.items())
        yield f"quantized: {ways}; {self.bits_per_weight:.3g} bits a weight in all, as {self.equals}"
        yield f"  {gigabytes(self.dense_bytes)} dense, {gigabytes(self.nbytes)} quantized"
        if self.errors:
            worst = sorted(self.errors, key=lambda name: self.errors[name], reverse=True)[:WORST]
            shown = ", ".join(f"{name} {self.errors[name]:.2%}" for name in worst)
            yield f"  largest relative errors: {shown}"
        yield from (f"  {note}" for note in self.notes)
