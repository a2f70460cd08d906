"""What a user asks for when a model is to be quantized: a mode, a mixed recipe, rules for single layers."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from wconv.consumers.quantization.tables import QuantizationTable
from wconv.errors import WconvError
from wconv.layouts.layer_rule import LayerRule
from wconv.tensors.quantize import CHANGED, EQUALS, FIRST, LAST, Quantization
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
class Quantize:
    """How a model is quantized; what is None is the mode's own default.

    Attributes:
        predicate: the name of a mixed recipe, such as "mixed_4_6".
        rules: they go before all that the consumer would do; of several that fit a layer the last one holds.
            They may be written as for the command: "lm_head=8".
        like: a version of MLX, "0.31.2", whose rounding is followed; None for the latest that is known. It
            matters to mxfp4 and mxfp8 alone.

    Example:
        >>> wconv.Quantize(bits=4, rules=("lm_head=8", "router=none")).rules[0].bits
        8
    """

    mode: str = "affine"
    bits: int | None = None
    group_size: int | None = None
    predicate: str | None = None
    rules: Sequence[LayerRule | str] = ()
    like: str | None = None

    def __post_init__(self) -> None:
        if self.like is not None:
            _version(self.like)
        parsed = tuple(parse_rule(rule) if isinstance(rule, str) else rule for rule in self.rules)
        object.__setattr__(self, "rules", parsed)

    def __repr__(self) -> str:
        said = [f"{name}={value}" for name, value in self.said().items()]
        return fitted(f"<Quantize {', '.join(said) or 'as the consumer does'}>")

    @property
    def older(self) -> bool:
        """Whether scales are rounded as MLX before 0.32.2 rounded them."""
        return self.like is not None and _version(self.like) < CHANGED

    @property
    def equals(self) -> str:
        """Whose bits the results are."""
        return EQUALS if self.like is None else f"MLX {self.like} (CPU)"

    def said(self) -> dict[str, str]:
        """What is not the default, as text."""
        plain = {
            "mode": self.mode,
            "bits": self.bits,
            "group_size": self.group_size,
            "predicate": self.predicate,
            "like": self.like,
        }
        found = {name: str(value) for name, value in plain.items() if value not in (None, "affine")}
        return {**found, "rules": " ".join(map(str, self.rules))} if self.rules else found


def _version(text: str) -> tuple[int, ...]:
    """A version of MLX whose rounding is known.

    Raises:
        WconvError: it is none.
    """
    found = re.fullmatch(r"([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})", text)
    numbers = tuple(map(int, found.groups())) if found else ()
    if not FIRST <= numbers <= LAST:
        first, last = (".".join(map(str, version)) for version in (FIRST, LAST))
        raise WconvError(f"{text!r:.40} is no version of MLX whose rounding is known: {first} to {last} are")
    return numbers


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
    if value == "none":
        rule = LayerRule(pattern, None, text=text)
        rule.check()
        return rule
    parts = value.split(":")
    if len(parts) > 3 or not parts[-1] or not all(re.fullmatch("[0-9]{1,4}", part) for part in parts[:2]):
        raise WconvError(
            f"the quantization rule {text!r} has {value!r} after its '=': "
            "BITS[:GROUP[:MODE]] or none belongs there"
        )
    bits, group_size = int(parts[0]), int(parts[1]) if len(parts) > 1 else None
    rule = LayerRule(pattern, bits, group_size, parts[2] if len(parts) == 3 else None, text)
    rule.check()
    return rule


class Rules:
    """A recipe's rules, made ready: whose layer is it, and which of them found none.

    Args:
        layers: those that each rule finds.
    """

    def __init__(self, recipe: Quantize, base: Quantization, layers: Sequence[Collection[str]]) -> None:
        rules = [rule for rule in recipe.rules if isinstance(rule, LayerRule)]
        hows = [rule.quantization(base) for rule in rules]
        self._rules = list(zip(rules, hows, strict=True))
        self._last: dict[str, int] = {}
        self._found: set[int] = set()
        for at, found in enumerate(layers):
            self._last.update(dict.fromkeys(found, at))
            if found:
                self._found.add(at)
        self._in_force = set(self._last.values())

    @property
    def any(self) -> bool:
        """Whether there are rules at all."""
        return bool(self._rules)

    def place(self, path: str) -> int | None:
        """Which rule is a layer's, by its place among them."""
        return self._last.get(path)

    def of(self, path: str) -> tuple[LayerRule, Quantization | None] | None:
        """The last rule that fits a layer."""
        at = self._last.get(path)
        return None if at is None else self._rules[at]

    def unmatched(self) -> tuple[str, ...]:
        """The rules that found no layer at all."""
        return tuple(str(rule) for at, (rule, _) in enumerate(self._rules) if at not in self._found)

    def overruled(self) -> tuple[str, ...]:
        """The rules that found layers of which a later rule took each."""
        left = self._found - self._in_force
        return tuple(str(rule) for at, (rule, _) in enumerate(self._rules) if at in left)


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
    if recipe.bits is not None:
        raise WconvError(
            f"{recipe.predicate} says the bits itself: leave out the {recipe.bits} bits (--q-bits)"
        )
    return base
