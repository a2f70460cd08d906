"""What a user asks for when a model is to be quantized: a mode, a mixed recipe, rules for single layers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from wconv.consumers.quantization.tables import QuantizationTable
from wconv.errors import WconvError
from wconv.tensors.quantize import MODES, Quantization
from wconv.wording import fitted

MIXED = {
    "mixed_2_6": (2, 6),
    "mixed_3_4": (3, 4),
    "mixed_3_5": (3, 5),
    "mixed_3_6": (3, 6),
    "mixed_3_8": (3, 8),
    "mixed_4_6": (4, 6),
    "mixed_4_8": (4, 8),
}
"""The mixed recipes: bits of most layers, and of the sensitive ones."""


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
    text: str = ""

    def __str__(self) -> str:
        return self.text or self.pattern

    def quantization(self, recipe: Quantization) -> Quantization | None:
        """How a layer of this rule is stored in a model of that recipe; None for dense.

        Raises:
            WconvError: the mode does not have those bits or groups.
        """
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


@dataclass(frozen=True, slots=True)
class Quantize:
    """How a model is quantized; what is None is the mode's own default.

    Attributes:
        predicate: the name of a mixed recipe, such as "mixed_4_6".
        rules: they go before all that the consumer would do; of several that fit a layer the last one holds.
            They may be written as for the command: "lm_head=8".

    Example:
        >>> wconv.Quantize(bits=4, rules=("lm_head=8", "router=none")).rules[0].bits
        8
    """

    mode: str = "affine"
    bits: int | None = None
    group_size: int | None = None
    predicate: str | None = None
    rules: Sequence[LayerRule | str] = ()

    def __post_init__(self) -> None:
        parsed = tuple(parse_rule(rule) if isinstance(rule, str) else rule for rule in self.rules)
        object.__setattr__(self, "rules", parsed)

    def __repr__(self) -> str:
        said = [f"{name}={value}" for name, value in self.said().items()]
        return fitted(f"<Quantize {', '.join(said) or 'as the consumer does'}>")

    def said(self) -> dict[str, str]:
        """What is not the default, as text."""
        plain = {
            "mode": self.mode,
            "bits": self.bits,
            "group_size": self.group_size,
            "predicate": self.predicate,
        }
        found = {name: str(value) for name, value in plain.items() if value not in (None, "affine")}
        return {**found, "rules": " ".join(map(str, self.rules))} if self.rules else found


def parse_rule(text: str) -> LayerRule:
    r"""A rule as it is written for the command: PATTERN=BITS[:GROUP[:MODE]], or PATTERN=none.

    Raises:
        WconvError: it is not written so, or asks for what no mode has.

    Example:
        >>> parse_rule(r"layers\.(0|1)\..*=6:32").bits
        6
    """
    pattern, equals, value = text.rpartition("=")
    if not equals or not pattern:
        raise WconvError(
            f"the quantization rule {text!r} is not PATTERN=BITS[:GROUP[:MODE]] or PATTERN=none, "
            "for example lm_head=8 or mlp=4:32"
        )
    _compiled(pattern, text)
    if value == "none":
        return LayerRule(pattern, None, text=text)
    parts = value.split(":")
    if len(parts) > 3 or not all(re.fullmatch("[0-9]{1,4}", part) for part in parts[:2]):
        raise WconvError(
            f"the quantization rule {text!r} has {value!r} after its '=': "
            "BITS[:GROUP[:MODE]] or none belongs there"
        )
    bits, group_size = int(parts[0]), int(parts[1]) if len(parts) > 1 else None
    rule = LayerRule(pattern, bits, group_size, parts[2] if len(parts) == 3 else None, text)
    rule.quantization(Quantization.of())
    return rule


def _compiled(pattern: str, text: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise WconvError(
            f"the quantization rule {text!r}: {pattern!r} is not a regular expression: {error}"
        ) from None


class Rules:
    """A recipe's rules, made ready: whose layer is it, and which of them found none."""

    def __init__(self, recipe: Quantize, base: Quantization) -> None:
        rules = [rule for rule in recipe.rules if isinstance(rule, LayerRule)]
        self._rules = [(rule, _compiled(rule.pattern, str(rule)), rule.quantization(base)) for rule in rules]
        self._found: set[int] = set()
        self._in_force: set[int] = set()

    def of(self, path: str) -> tuple[LayerRule, Quantization | None] | None:
        """The last rule that fits a layer."""
        last = None
        for at, (rule, pattern, how) in enumerate(self._rules):
            if pattern.search(path):
                self._found.add(at)
                last = at, rule, how
        if last is None:
            return None
        self._in_force.add(last[0])
        return last[1:]

    def unmatched(self) -> tuple[str, ...]:
        """The rules that found no layer at all."""
        return tuple(str(rule) for at, (rule, _, _) in enumerate(self._rules) if at not in self._found)

    def overruled(self) -> tuple[str, ...]:
        """The rules that found layers of which a later rule took each."""
        left = self._found - self._in_force
        return tuple(str(rule) for at, (rule, _, _) in enumerate(self._rules) if at in left)


def base_of(consumer: str, table: QuantizationTable, recipe: Quantize) -> Quantization:
    """What most layers get, after a check of all that a recipe says.

    Raises:
        WconvError: the mode or the consumer does not have that.
    """
    base = Quantization.of(recipe.mode, recipe.bits, recipe.group_size)
    if recipe.predicate is None:
        return base
    known = table.mixed.names if table.mixed is not None else ()
    if recipe.predicate not in known:
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise WconvError(f"{consumer} does not have the mixed recipe {recipe.predicate!r}: {has}")
    if recipe.mode != "affine":
        raise WconvError(f"{recipe.predicate} is for the affine mode alone, not for {recipe.mode}")
    return base


def _has(mode: str, bits: int, group_size: int | None) -> bool:
    limits = MODES[mode]
    return bits in limits.bits and (group_size is None or group_size in limits.group_sizes)
