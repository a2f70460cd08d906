"""Generations of a model's names: an adapter's and the weights' are brought to one and compared there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from wconv.consumers.adapters.modules import ModulePlace
from wconv.layouts.patterns import compile_pattern
from wconv.layouts.rules import RenameRule, Rule


class Generations:
    """The names of a model's tensors by the names that rules of renaming give them."""

    def __init__(self, names: Iterable[str], rules: Sequence[Rule]) -> None:
        self._rules = tuple(rule for rule in rules if isinstance(rule, RenameRule))
        self._given = tuple(names)
        self._names: dict[str, str] | None = None

    def find(self, place: ModulePlace, kind: str) -> str | None:
        """The tensor of a module that is meant, "weight" or "bias"."""
        if place.flat or not self._rules:
            return None
        if self._names is None:
            self._names = {self._respelled(name): name for name in self._given}
        modules = dict.fromkeys((place.full, place.module))
        tried = (f"{prefix}{module}.{kind}" for module in modules for prefix in ("", "model."))
        return next(
            (self._names[new] for name in tried if (new := self._respelled(name)) in self._names), None
        )

    def _respelled(self, name: str) -> str:
        for rule in self._rules:
            match = rule.pattern.match(name)
            if match is not None and not rule.stays(name):
                name = compile_pattern(rule.target).render(match, rule.pattern)
        return name
