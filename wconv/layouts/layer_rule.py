"""A rule on how some layers are quantized, as a user gives it for a command or in a rules file."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wconv.errors import WconvError
from wconv.layouts.name_filter import NameFilter

if TYPE_CHECKING:
    from wconv.tensors.quantize import Quantization


@dataclass(frozen=True, slots=True)
class LayerRule:
    """How the layers that `pattern` finds are stored.

    Attributes:
        pattern: a regular expression, searched for in a layer's path (a weight's name without `.weight`).
        bits: None keeps the layers dense.
        mode: None for the recipe's own mode where that has those bits and groups, affine otherwise.
        text: the rule as it was written.
    """

    pattern: str
    bits: int | None
    group_size: int | None = None
    mode: str | None = None
    text: str = field(default="", compare=False)

    def __str__(self) -> str:
        if self.text:
            return self.text
        size = "" if self.group_size is None else self.group_size
        said = f"{self.bits}:{size}:{self.mode or ''}".rstrip(":")
        return f"{self.pattern:.100}={'none' if self.bits is None else said}"

    def matching(self, paths: Collection[str]) -> set[str]:
        """The layers that the rule is for, found in linear time.

        Raises:
            WconvError: the pattern is no regular expression, or refers to what cannot be searched so.
        """
        return NameFilter(self.pattern, "the pattern of a quantization rule").matching(paths)

    def check(self) -> None:
        """Refuses what no layer could have.

        Raises:
            WconvError: the pattern is no regular expression, or no mode has those bits and groups.
        """
        from wconv.tensors.quantize import Quantization

        NameFilter(self.pattern, "the pattern of a quantization rule")
        self.quantization(Quantization.of())

    def quantization(self, recipe: Quantization) -> Quantization | None:
        """How a layer of this rule is stored in a model of that recipe; None for dense.

        Raises:
            WconvError: the mode does not have those bits or groups.
        """
        from wconv.tensors.quantize import Quantization

        if self.bits is None:
            return None
        mode = self.mode or (recipe.mode if _has(recipe.mode, self.bits, self.group_size) else "affine")
        group_size = self.group_size
        if group_size is None and mode == recipe.mode:
            group_size = recipe.group_size
        try:
            return Quantization.of(mode, self.bits, group_size)
        except WconvError as error:
            raise WconvError(f"the quantization rule {self}: {error}") from None


def _has(mode: str, bits: int, group_size: int | None) -> bool:
    from wconv.tensors.quantize import MODES

    limits = MODES[mode]
    return bits in limits.bits and (group_size is None or group_size in limits.group_sizes)
