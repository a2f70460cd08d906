"""The mixed recipes: more bits for the layers that need them, by the consumers' own formula.

One thing in config.json is not as mlx-lm writes it. Without a group size from the user it has
`"group_size": null` in these layers' entries; here they have 64. mlx-lm and mlx-vlm read null as 64 and load
such a model, but mlx-lm cannot train adapters on its stacks of experts, whose width it takes from the number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from wconv.consumers.quantization.recipes import MIXED, Quantize
from wconv.consumers.quantization.tables import MixedRecipes, QuantizationTable
from wconv.errors import WconvError

LONGEST_NUMBER = 10
"""Digits of a layer's number, at least as many as any has."""


@dataclass(frozen=True, slots=True)
class Mixed:
    """A mixed recipe for one model.

    Attributes:
        place: which part of a path is the number of its layer.
    """

    recipes: MixedRecipes
    low: int
    high: int
    group_size: int
    place: int
    layers: int

    @classmethod
    def of(
        cls, table: QuantizationTable, module: str, recipe: Quantize, paths: Iterable[str]
    ) -> Mixed | None:
        """The recipe, made ready for a model with layers of these paths.

        Raises:
            WconvError: the model has no layers of the kind that the recipe is for.
        """
        recipes = table.mixed
        if recipe.predicate is None or recipes is None:
            return None
        down = [path for path in sorted(paths) if re.search(recipes.down, path)]
        seen = [path for path in down if any(part in path for part in table.skipped)]
        text = [path for path in down if path not in seen]
        if not down:
            raise WconvError(
                f"{recipe.predicate} is for models with layers named down_proj, and this one has none: "
                "use --q-rule instead"
            )
        looked_at = seen if seen and (module in recipes.encoders_first or not text) else text
        place, numbered = _number(looked_at[0]), (text or down)[0]
        before = numbered.split(".")[: _number(numbered)]
        numbers = {
            int(parts[len(before)])
            for parts in (path.split(".") for path in paths)
            if parts[: len(before)] == before and len(parts) > len(before) and _is_number(parts[len(before)])
        }
        low, high = MIXED[recipe.predicate]
        return cls(
            recipes,
            low,
            high,
            recipes.group_size or recipe.group_size or 64,
            place,
            max(numbers, default=0) + 1,
        )

    def number(self, path: str) -> int:
        """The number of a layer, 0 where its path has none in that place."""
        parts = path.split(".", self.place + 1)
        number = parts[self.place] if len(parts) > self.place else ""
        return int(number) if _is_number(number) else 0

    def answer(self, path: str, shape: tuple[int, ...]) -> dict[str, Any] | str:
        """The entry of a layer in config.json, or why it stays dense."""
        if shape[1] % self.recipes.second_dimension:
            size = self.recipes.second_dimension
            return f"no group of {size} divides its second dimension, {shape[1]}, at which this recipe looks"
        at = self.number(path)
        eighth = self.layers // 8
        more = at < eighth or at >= 7 * self.layers // 8 or (at - eighth) % 3 == 2
        high = (more and re.search(self.recipes.sensitive, path)) or re.search(self.recipes.always, path)
        entry: dict[str, Any] = {"group_size": self.group_size, "bits": self.high if high else self.low}
        return {**entry, "mode": "affine"} if self.recipes.says_mode else entry


def _is_number(part: str) -> bool:
    """Whether a part of a path is a number that layers have."""
    return part.isdecimal() and len(part) < LONGEST_NUMBER


def _number(path: str) -> int:
    """The place of the first number in a path, its last part when there is none."""
    parts = path.split(".")
    return next((at for at, part in enumerate(parts) if part.isdecimal()), len(parts) - 1)
