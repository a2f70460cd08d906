"""What tables say of a consumer's converter: which layers it quantizes, and how.

A converter quantizes every matrix whose rows the group divides; a table has what departs from that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Answer = Mapping[str, Any] | bool
"""Parameters as the consumer writes them into config.json, True for the recipe's own, False for dense."""

EIGHT: Mapping[str, Any] = {"group_size": 64, "bits": 8}
"""What the consumers give to routers and other sensitive layers, whatever the mode."""


@dataclass(frozen=True, slots=True)
class Row:
    """Layers that are treated in a way of their own.

    Attributes:
        pattern: a regular expression, searched for in the layer's path; LAST in it is the last layer's.
        answer: how they are stored.
        beside: the row holds only where the layer's parent has a child of this name, too.
        multiple: the row holds only where a dimension is not a multiple of this.
        at_bits: the row holds only when the model is quantized to these bits.
    """

    pattern: str
    answer: Answer
    beside: str | None = None
    multiple: int | None = None
    at_bits: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """The exceptions of some models; the first that fits a layer holds."""

    models: Sequence[str]
    exceptions: Sequence[Row]


def eight(pattern: str) -> Row:
    """Layers that get 8 bits in groups of 64."""
    return Row(pattern, EIGHT)


def dense(pattern: str, *, beside: str | None = None, multiple: int | None = None) -> Row:
    """Layers that are not quantized; the rest as in `Row`."""
    return Row(pattern, False, beside, multiple)


@dataclass(frozen=True, slots=True)
class MixedRecipes:
    """The mixed recipes of a converter: more bits for the layers that need them.

    Attributes:
        names: those of `recipes.MIXED` that it has.
        sensitive: an expression for the paths that get more bits in some layers.
        always: likewise, in all of them.
        down: an expression for the paths of which one tells where the layer's number stands.
        group_size: of these layers; None for the user's, or 64.
        second_dimension: what the second dimension has to be a multiple of, whatever the groups are.
        says_mode: whether the layers' entries in config.json tell the mode.
        encoders_first: modules whose layer's number is searched for in the parts for images.
    """

    names: tuple[str, ...]
    sensitive: str
    always: str
    down: str
    group_size: int | None = None
    second_dimension: int = 1
    says_mode: bool = False
    encoders_first: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FixedForm:
    """The one form that a program has, which it knows again when it loads.

    Such a program takes models by family and component, writes nothing into config.json, and asks its own
    rules on loading, so that a user's cannot overrule them.

    Attributes:
        group_sizes: family → its group size, where that is another.
    """

    mode: str
    bits: tuple[int, ...]
    group_size: int
    group_sizes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class QuantizationTable:
    """All that is known of one consumer's converter.

    Attributes:
        cases: the exceptions, by the consumer's modules.
        modules: `model_type` → the consumer's own name of that kind of model, where it is another.
        by_architecture: likewise by an entry of `architectures`, which goes before.
        plain_gates: modules whose router `gate` is a bare matrix, which cannot be quantized.
        plain_modules: module → an expression for more paths that cannot.
        skipped: parts of paths that stay dense, whatever the model.
        skipped_why: the same as a sentence.
        asks_group_last: whether rows are held against the group only after all else.
        mixed: its mixed recipes; None where it has none.
        fixed: the only form that it has; None where config.json says the form.
    """

    cases: tuple[Case, ...]
    modules: Mapping[str, str] = field(default_factory=dict)
    by_architecture: Mapping[str, str] = field(default_factory=dict)
    plain_gates: frozenset[str] = frozenset()
    plain_modules: Mapping[str, str] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    skipped_why: str = ""
    asks_group_last: bool = False
    mixed: MixedRecipes | None = None
    fixed: FixedForm | None = None

    def exceptions(self, module: str) -> list[Row]:
        """The exceptions of one module, in the order in which they are asked."""
        return [row for case in self.cases if module in case.models for row in case.exceptions]

    def plain(self, module: str) -> str:
        """An expression for the paths of a module's matrices that have no quantized form; "" for none."""
        gates = [r"(^|\.)gate$"] if module in self.plain_gates else []
        return "|".join((*gates, *filter(None, [self.plain_modules.get(module)])))
