"""The order of a head's features: rotary embedding turns neighbours together, or the two halves of a head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from wconv.errors import LayoutError
from wconv.layouts.conditions import Context, Setting, When
from wconv.layouts.patterns import Match
from wconv.layouts.rules import Rule, State, TracedTensor


@dataclass(frozen=True, slots=True)
class RotaryRule(Rule):
    """Takes each head's rows from pairs (0, 1), (2, 3) … to halves: even rows first, then odd ones.

    Attributes:
        heads: how many heads the rows of axis 0 are of.
        undo: from halves back to pairs.
    """

    heads: Setting
    undo: bool = False

    verb: ClassVar[str] = "rotary"

    def outputs(self, name: str, entry: TracedTensor, match: Match, context: Context) -> State:
        heads, tensor = self.heads.number(context), entry.tensor
        if not tensor.ndim or not heads or tensor.shape[0] % (2 * heads):
            raise LayoutError(f"{name} has the shape {tensor.shape}, which is not of {heads} heads")
        rest = tensor.shape[1:]
        features = tensor.shape[0] // heads
        shape = (heads, 2, features // 2) if self.undo else (heads, features // 2, 2)
        axes = (0, 2, 1, *range(3, 3 + len(rest)))
        return {
            name: TracedTensor(
                tensor.reshape((*shape, *rest)).transpose(axes).reshape(tensor.shape), entry.sources
            )
        }

    def detail(self) -> str:
        return f" of {self.heads} heads to {'pairs' if self.undo else 'halves'}"


def rotary(source: str, heads: Setting, *, when: When | None = None) -> RotaryRule:
    """Takes the rows of each of `heads` heads from pairs to halves, as rotary embeddings want them.

    >>> from wconv.layouts.conditions import setting
    >>> print(rotary("layers.#.wq.weight", setting("n_heads")))
    rotary layers.#.wq.weight of n_heads heads to halves
    """
    return RotaryRule(source, heads, when=when)
