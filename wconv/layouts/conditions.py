"""What a rule may ask of config.json and of the caller's options, as data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wconv.errors import LayoutError

MISSING = object()
NESTED = ("text_config", "llm_config")
"""Where a config of several parts keeps the language model's fields."""


@dataclass(frozen=True, slots=True)
class Context:
    """What the rules of one conversion can see: the model's config and the caller's options."""

    config: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Setting:
    """A field of config.json: at the root, else in the language model's part, else `default`.

    Attributes:
        path: "num_experts", or with its part "vision_config.num_channels"; several names with `|`
            between them are tried in order; "a - b" is the difference of two numbers, "a * b" their
            product; "multipliers.0" is the first of a list.
        default: what the consumer assumes when the field is absent; None when it must be there.
    """

    path: str
    default: Any = None

    def __str__(self) -> str:
        return self.path if self.default is None else f"{self.path} (default {self.default})"

    def value(self, context: Context) -> Any:
        """The field's value. Raises LayoutError when it is absent and has no default."""
        for path in self.path.split("|"):
            for at in (path, *(f"{part}.{path}" for part in NESTED)):
                found = look_up(context.config, at)
                if found is not MISSING and found is not None:
                    return found
        if self.default is None:
            raise LayoutError(f"config.json has no {self.path}, which this model's layout depends on")
        return self.default

    def number(self, context: Context) -> int:
        """The value as an integer. Raises LayoutError when it is none."""
        first, minus, second = self.path.partition(" - ")
        if minus:
            return Setting(first).number(context) - Setting(second).number(context)
        first, times, second = self.path.partition(" * ")
        if times:
            return Setting(first).number(context) * Setting(second).number(context)
        value = self.value(context)
        if type(value) is not int or value < 0:
            raise LayoutError(f"config.json: {self.path} is {value!r:.60}, expected a whole number")
        return value

    def factor(self, context: Context) -> float:
        """The value as a number to multiply with. Raises LayoutError when it is none, or not finite."""
        value = self.value(context)
        if type(value) not in (int, float) or not math.isfinite(value):
            raise LayoutError(f"config.json: {self.path} is {value!r:.60}, expected a finite number")
        return float(value)


@dataclass(frozen=True, slots=True)
class Option:
    """An option of the caller's ("include_fov")."""

    name: str
    default: Any = False

    def __str__(self) -> str:
        return f"option {self.name}"

    def value(self, context: Context) -> Any:
        """What the caller asked for, or the default."""
        return context.options.get(self.name, self.default)


@dataclass(frozen=True, slots=True)
class When:
    """A rule's condition: a setting or an option has (or, negated, has not) this value."""

    what: Setting | Option
    equals: Any = True
    negated: bool = False

    def __str__(self) -> str:
        return f"{self.what} {'is not' if self.negated else 'is'} {self.equals!r}"

    def holds(self, context: Context) -> bool:
        """Whether the condition is met. Raises LayoutError when a field without a default is absent."""
        return bool(self.what.value(context) == self.equals) is not self.negated


def look_up(config: Mapping[str, Any], path: str) -> Any:
    """The field at a dotted path, or `MISSING`."""
    value: Any = config
    for key in path.split("."):
        if isinstance(value, list | tuple) and key.isdecimal() and len(key) < 6 and int(key) < len(value):
            value = value[int(key)]
            continue
        if not isinstance(value, Mapping) or key not in value:
            return MISSING
        value = value[key]
    return value


def setting(path: str, default: Any = None) -> Setting:
    """A field of config.json, as rules name it.

    >>> setting("num_experts", 8).number(Context({"text_config": {"num_experts": 4}}))
    4
    """
    return Setting(path, default)


def tied(default: bool) -> When:
    """The output layer shares the embedding's weights; `default` is the consumer's."""
    return When(Setting("tie_word_embeddings", default))
