"""What every rule of a layout is: a frozen record with one lazy effect on the tensors' names and forms.

A rule sees a state, the ordered mapping of names to entries, and returns the next one. Nothing is read: the
entries hold lazy tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from wconv.errors import LayoutError
from wconv.layouts.conditions import Context, When
from wconv.layouts.patterns import Match, Pattern, compile_pattern
from wconv.tensors.lazy import LazyTensor

Side = Literal["source", "final"]


@dataclass(slots=True)
class TracedTensor:
    """A tensor on its way: what it is by now and which source tensors it comes from.

    Nobody changes one; it is not frozen because there are tens of thousands, which takes thrice as long.
    """

    tensor: LazyTensor
    sources: tuple[str, ...]


State = dict[str, TracedTensor]


@dataclass(frozen=True, slots=True)
class Rule:
    """What all rules share: names they apply to, and under which condition."""

    source: str
    when: When | None = field(default=None, kw_only=True)

    verb: ClassVar[str] = "?"

    @property
    def pattern(self) -> Pattern:
        """`source`, compiled."""
        return compile_pattern(self.source)

    @property
    def targets(self) -> tuple[str, ...]:
        """The patterns of names that this rule gives; empty when it keeps names."""
        return ()

    def active(self, context: Context) -> bool:
        """Whether the rule's condition is met, or it has none."""
        return self.when is None or self.when.holds(context)

    @property
    def is_recognisable(self) -> bool:
        """Whether a tensor can show that this rule is still to be applied, or that it has been."""
        return bool(self.targets)

    @property
    def is_recognisable_by_name(self) -> bool:
        """Whether its name alone shows that, by `source` and `targets`."""
        return self.is_recognisable

    def side_of(self, name: str, entry: TracedTensor, context: Context) -> Side | None:
        """Whether this tensor shows that the rule is still to be applied, or that it has been."""
        if self.targets and self.pattern.match(name):
            return "source"
        if any(compile_pattern(target).match(name) for target in self.targets):
            return "final"
        return None

    def apply(self, state: State, context: Context) -> State:
        """The state after this rule. Raises LayoutError where the tensors do not fit it."""
        after: State = {}
        pattern = self.pattern
        for name, entry in state.items():
            match = pattern.match(name)
            if match is None:
                add_new(after, {name: entry}, self)
                continue
            try:
                new = self.outputs(name, entry, match, context)
            except UNFIT:
                raise unfit_error(self, name, entry) from None
            add_new(after, new, self)
        return after

    def concerns(self, state: State) -> bool:
        """Whether there is a tensor that the rule says something of."""
        return self.pattern.fits_any(state)

    def outputs(self, name: str, entry: TracedTensor, match: Match, context: Context) -> State:
        """What becomes of one tensor that the pattern matches."""
        raise NotImplementedError

    def __str__(self) -> str:
        condition = f" when {self.when}" if self.when else ""
        return f"{self.verb} {self.source}{self.detail()}{condition}"

    def detail(self) -> str:
        """What follows verb and source in the rule's text."""
        return f" → {', '.join(self.targets)}" if self.targets else ""


UNFIT = (ValueError, IndexError, ArithmeticError, TypeError)
"""What comes of a rule for tensors whose axes or lengths it can do nothing with."""


def unfit_error(rule: Rule, name: str, entry: TracedTensor) -> LayoutError:
    """The error that names a tensor which a rule can do nothing with."""
    return LayoutError(
        f"{name} ({entry.tensor.dtype.name} {entry.tensor.shape}) does not fit the rule: {rule}"
    )


def check_axis(name: str, tensor: LazyTensor, axis: int) -> None:
    """Raises LayoutError where a tensor has no such axis."""
    if not -tensor.ndim <= axis < tensor.ndim:
        raise LayoutError(f"{name} has the shape {tensor.shape}, which has no axis {axis}")


def add_new(state: State, new: Mapping[str, TracedTensor], rule: Rule) -> None:
    """Adds entries whose names must not be taken. Raises LayoutError when one is."""
    for name, entry in new.items():
        if name in state:
            first, second = state[name].sources[0], entry.sources[0]
            raise LayoutError(f"{first} and {second} would both become {name} ({rule})")
        state[name] = entry
