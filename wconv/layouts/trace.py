"""Which rules of a layout concern each tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wconv.layouts.apply import Layout, apply
from wconv.layouts.rules import Rule, State
from wconv.tensors.lazy import LazyTensor


def rules_of(
    layout: Layout,
    tensors: Mapping[str, LazyTensor],
    config: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> dict[str, tuple[Rule, ...]]:
    """The rules that change each tensor, its name, or leave it out, in order; nothing for the others.

    Args:
        config: the model's config.json, which some rules depend on.
        options: what the caller asks of this layout.

    Raises:
        LayoutError: the tensors do not fit the layout.
    """
    found: dict[str, list[Rule]] = {}

    def watch(rule: Rule, before: State, after: State) -> None:
        touched = [entry for name, entry in before.items() if after.get(name) is not entry]
        for source in dict.fromkeys(source for entry in touched for source in entry.sources):
            found.setdefault(source, []).append(rule)

    apply(layout, tensors, config, options, watch=watch)
    return {name: tuple(rules) for name, rules in found.items()}
