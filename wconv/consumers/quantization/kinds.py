"""A model's tensors in groups that differ in numbers alone, so that each group is asked for once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from wconv.layouts.layer_rule import LayerRule

Tensors = Mapping[str, tuple[Sequence[int], str]]
"""Names to shapes and dtypes."""

NUMBERS = re.compile(r"(?<=\.)[0-9]+(?=\.)")


@dataclass(frozen=True, slots=True)
class LayerKinds:
    """What is true of a model's tensors whatever the recipe.

    Attributes:
        kinds: the names of tensors of one shape and dtype that differ in numbers alone.
        paths: of all weights, without `.weight`.
        rules: the layers that each of the user's rules finds, after the prefix of a component.
    """

    tensors: Tensors
    kinds: list[list[str]]
    paths: set[str]
    rules: Sequence[LayerRule | str]
    _found: dict[str, list[set[str]]] = field(default_factory=dict)

    @classmethod
    def of(cls, tensors: Tensors, rules: Sequence[LayerRule | str]) -> LayerKinds:
        """Of so many tensors, and rules that are asked of them."""
        kinds: dict[tuple[str, tuple[int, ...], str], list[str]] = {}
        for name, (shape, dtype) in tensors.items():
            kinds.setdefault((NUMBERS.sub("#", name), tuple(shape), dtype), []).append(name)
        paths = {name.removesuffix(".weight") for name in tensors if name.endswith(".weight")}
        return cls(tensors, list(kinds.values()), paths, rules)

    def found(self, prefix: str) -> list[set[str]]:
        """The layers of each rule, looked for once."""
        if prefix not in self._found:
            paths = [prefix + path for path in self.paths] if prefix else self.paths
            self._found[prefix] = [rule.matching(paths) for rule in self.rules if isinstance(rule, LayerRule)]
        return self._found[prefix]
