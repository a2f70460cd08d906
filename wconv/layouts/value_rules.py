"""Rules that compute other values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from wconv.errors import LayoutError
from wconv.layouts.conditions import Context
from wconv.layouts.patterns import Match, compile_pattern
from wconv.layouts.rule import UNFIT, Rule, State, TracedTensor, unfit_error
from wconv.quantized.names import UNCHANGED
from wconv.tensors.lazy import LazyTensor


@dataclass(frozen=True, slots=True)
class AddRule(Rule):
    """Adds a number to 1-D tensors, rounded in the source's dtype."""

    value: float

    verb: ClassVar[str] = "add"

    def outputs(self, name: str, entry: TracedTensor, match: Match, context: Context) -> State:
        if entry.tensor.ndim != 1:
            return {name: entry}
        return {name: TracedTensor(entry.tensor.add(self.value), entry.sources)}

    def detail(self) -> str:
        return f": {self.value:+}"


@dataclass(frozen=True, slots=True)
class ComputeRule(Rule):
    """A step that is no primitive: `function` makes it out of one tensor and its companion.

    Attributes:
        companion: the name, in terms of `source`, of the tensor that is used up with it.
    """

    companion: str
    name: str
    function: Callable[[LazyTensor, LazyTensor], LazyTensor]

    verb: ClassVar[str] = "compute"

    def apply(self, state: State, context: Context) -> State:
        pattern, companion = self.pattern, compile_pattern(self.companion)
        if not companion.fits_any(state):
            return state
        after = dict(state)
        for name, entry in state.items():
            match = pattern.match(name)
            other = match and companion.render(match, pattern)
            if not other or other not in state:
                continue
            scale = after.pop(other)
            try:
                tensor = self._computed(name, entry.tensor, scale.tensor)
            except UNFIT:
                raise unfit_error(self, name, entry) from None
            after[name] = TracedTensor(tensor, (*entry.sources, *scale.sources))
        return after

    def _computed(self, name: str, tensor: LazyTensor, companion: LazyTensor) -> LazyTensor:
        try:
            return self.function(tensor, companion)
        except LayoutError as error:
            raise LayoutError(f"{name}: {error}: {UNCHANGED}") from None

    def detail(self) -> str:
        return f" {self.name} with {self.companion}"
