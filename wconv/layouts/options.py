"""The options of a layout: what its rules ask of the caller."""

from __future__ import annotations

from typing import Any

from wconv.layouts.apply import Layout
from wconv.layouts.conditions import Option


def options_of(layout: Layout | None) -> dict[str, Any]:
    """The options that conditions of a layout's rules ask for ("include_fov"), each with its default."""
    rules = (*layout.alias_rules, *layout.rules) if layout is not None else ()
    asked = (rule.when.what for rule in rules if rule.when is not None)
    return {option.name: option.default for option in asked if isinstance(option, Option)}
