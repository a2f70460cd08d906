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

Verdict = Literal["source", "final"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor on its way: what it is by now and which source tensors it comes from."""

    tensor: LazyTensor
    sources: tuple[str, ...]


State = dict[str, Entry]


@dataclass(frozen=True, slots=True)
class Rule:
    """What all rules share: names they apply to, and under which condition."""

    source: str
    when: When | None = field(default=None, kw_only=True)

    verb: ClassVar[str] = "?"

    @property
    def pattern(self) -> Pattern:
        return compile_pattern(self.source)

    @property
    def targets(self) -> tuple[str, ...]:
        """The patterns of names that this rule gives; empty when it keeps names."""
        return ()

    def active(self, context: Context) -> bool:
        return self.when is None or self.when.holds(context)

    @property
    def judges(self) -> bool:
        """Whether a tensor can show that this rule is still to be applied, or that it has been."""
        return bool(self.targets)

    @property
    def by_name(self) -> bool:
        """Whether its name alone shows that, by `source` and `targets`."""
        return self.judges

    def verdict(self, name: str, entry: Entry, context: Context) -> Verdict | None:
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
                put(after, {name: entry}, self)
                continue
            try:
                new = self.outputs(name, entry, match, context)
            except UNFIT:
                raise unfit(self, name, entry) from None
            put(after, new, self)
        return after

    def concerns(self, state: State) -> bool:
        """Whether there is a tensor that the rule says something of."""
        return self.pattern.fits_any(state)

    def outputs(self, name: str, entry: Entry, match: Match, context: Context) -> State:
        """What becomes of one tensor that the pattern matches."""
        raise NotImplementedError

    def __str__(self) -> str:
        condition = f" when {self.when}" if self.when else ""
        return f"{self.verb} {self.source}{self.detail()}{condition}"

    def detail(self) -> str:
        return f" → {', '.join(self.targets)}" if self.targets else ""


UNFIT = (ValueError, IndexError, ArithmeticError, TypeError)
"""What comes of a rule for tensors whose axes or lengths it can do nothing with."""


def unfit(rule: Rule, name: str, entry: Entry) -> LayoutError:
    """The error that names a tensor which a rule can do nothing with."""
    return LayoutError(
        f"{name} ({entry.tensor.dtype.name} {entry.tensor.shape}) does not fit the rule: {rule}"
    )


def check_axis(name: str, tensor: LazyTensor, axis: int) -> None:
    """Raises LayoutError where a tensor has no such axis."""
    if not -tensor.ndim <= axis < tensor.ndim:
        raise LayoutError(f"{name} has the shape {tensor.shape}, which has no axis {axis}")


def put(state: State, new: Mapping[str, Entry], rule: Rule) -> None:
    """Adds entries whose names must not be taken. Raises LayoutError when one is."""
    for name, entry in new.items():
        if name in state:
            ours, theirs = entry.sources[0], state[name].sources[0]
            raise LayoutError(f"{theirs} and {ours} would both become {name} ({rule})")
        state[name] = entry
