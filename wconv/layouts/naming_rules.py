"""Rules that change which tensors there are and what they are called, and none of their values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from wconv.layouts.conditions import Context, Setting
from wconv.layouts.patterns import Match, compile_pattern
from wconv.layouts.rule import Rule, Side, State, TracedTensor


@dataclass(frozen=True, slots=True)
class DropRule(Rule):
    """Leaves tensors out. With `beyond`, only those whose first `#` is at least that setting.

    Attributes:
        same_as: names, the first that is there, of the tensor that the consumer uses in their place.
    """

    reason: str
    beyond: Setting | None = None
    same_as: tuple[str, ...] = field(default=(), kw_only=True)

    verb: ClassVar[str] = "drop"

    def dropping(self, context: Context) -> Callable[[str], bool]:
        """Whether a name is one of those left out, for this config."""
        pattern = self.pattern
        if self.beyond is None:
            return pattern.fits
        limit = self.beyond.number(context)

        def drops(name: str) -> bool:
            match = pattern.match(name)
            return match is not None and pattern.numbers(match)[0] >= limit

        return drops

    def drops(self, name: str, context: Context) -> bool:
        """Whether a tensor of that name is left out."""
        return self.dropping(context)(name)

    def apply(self, state: State, context: Context) -> State:
        drops = self.dropping(context)
        return {name: entry for name, entry in state.items() if not drops(name)}

    def detail(self) -> str:
        limit = f" from {self.beyond} on" if self.beyond else ""
        return f"{limit}: {self.reason}"


@dataclass(frozen=True, slots=True)
class RenameRule(Rule):
    """Gives tensors another name; names that a pattern of `except_for` matches stay."""

    target: str
    except_for: tuple[str, ...] = ()

    verb: ClassVar[str] = "rename"

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.target,)

    def outputs(self, name: str, entry: TracedTensor, match: Match, context: Context) -> State:
        if self.stays(name):
            return {name: entry}
        return {compile_pattern(self.target).render(match, self.pattern): entry}

    @property
    def is_recognisable_by_name(self) -> bool:
        return not self.except_for

    def side_of(self, name: str, entry: TracedTensor, context: Context) -> Side | None:
        return None if self.stays(name) else Rule.side_of(self, name, entry, context)

    def stays(self, name: str) -> bool:
        """Whether a name is one of those that keep theirs."""
        return any(compile_pattern(one).match(name) for one in self.except_for)

    def detail(self) -> str:
        return f" → {self.target}" + (f" (but not {', '.join(self.except_for)})" if self.except_for else "")


@dataclass(frozen=True, slots=True)
class CopyRule(Rule):
    """Writes a tensor a second time under `target`, unless the checkpoint has that name."""

    target: str

    verb: ClassVar[str] = "copy"

    def apply(self, state: State, context: Context) -> State:
        after = dict(state)
        for name, entry in state.items():
            if match := self.pattern.match(name):
                after.setdefault(compile_pattern(self.target).render(match, self.pattern), entry)
        return after

    def detail(self) -> str:
        return f" → {self.target} if missing"


@dataclass(frozen=True, slots=True)
class KeepDtypeRule(Rule):
    """Tensors that a cast of the model leaves alone, by their final names."""

    verb: ClassVar[str] = "keep dtype of"

    def apply(self, state: State, context: Context) -> State:
        return state
