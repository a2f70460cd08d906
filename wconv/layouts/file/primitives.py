"""The primitives by name, with the keys that each has in a rules file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from wconv.errors import WconvError
from wconv.layouts.computed.multiplied import ScaleRule
from wconv.layouts.computed.recurrent import summed
from wconv.layouts.computed.rotary import RotaryRule
from wconv.layouts.computed.scaled import dequantized, dequantized_of_padded
from wconv.layouts.computed.weight_norm import weight_norm
from wconv.layouts.file.fields import (
    ANY_NUMBER,
    FLAG,
    LENGTH,
    LENGTHS,
    NUMBER,
    PATTERN,
    PATTERNS,
    SETTING,
    TEXT,
    ValueKind,
    WrongRuleError,
    pair,
    several,
)
from wconv.layouts.patterns import check_target, compile_pattern
from wconv.layouts.reverse_rules import JoinRule, UnstackRule
from wconv.layouts.rules import (
    ROLES,
    AddRule,
    ComputeRule,
    CopyRule,
    DropRule,
    KeepDtypeRule,
    RenameRule,
    ReshapeRule,
    Rule,
    SplitRule,
    StackRule,
    TransposeRule,
    ViewRule,
)
from wconv.tensors import dtypes

COMPUTED: Mapping[str, Callable[..., Any]] = {
    "dequantized": dequantized,
    "dequantized, of padded blocks": dequantized_of_padded,
    "summed": summed,
    "weight_norm": weight_norm,
}
"""The steps that are no primitives, by the names that rules have for them."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a rule: which attribute it is, what it holds, and whether it must be there."""

    attribute: str
    kind: ValueKind
    required: bool = False


@dataclass(frozen=True, slots=True)
class Primitive:
    """A kind of rule as a rules file writes it; the primitive's own key holds the pattern of names."""

    rule: Callable[..., Rule]
    keys: Mapping[str, Key] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    source: ValueKind = PATTERN


def _compute(source: str, companion: str, name: str, when: Any = None) -> Rule:
    if name not in COMPUTED:
        raise WrongRuleError(f"{name!r} is no step: one of {', '.join(COMPUTED)}", "by")
    return ComputeRule(source, companion, name, COMPUTED[name], when=when)


TO = Key("target", PATTERN, required=True)
COUNT = Key("count", SETTING)
AXIS = Key("axis", NUMBER, required=True)
SIZES = Key("sizes", several(SETTING))
INTERLEAVED = Key("interleaved", FLAG)

PRIMITIVES: Mapping[str, Primitive] = {
    "drop": Primitive(
        DropRule,
        {
            "reason": Key("reason", TEXT, required=True),
            "beyond": Key("beyond", SETTING),
            "same_as": Key("same_as", PATTERNS),
        },
    ),
    "rename": Primitive(RenameRule, {"to": TO, "but": Key("except_for", PATTERNS)}),
    "transpose": Primitive(
        TransposeRule,
        {
            "as": Key("role", TEXT, required=True),
            "last": Key("last", LENGTH),
            "only": Key("only", pair(NUMBER, SETTING)),
            "undo": Key("undo", FLAG),
        },
    ),
    "split": Primitive(
        SplitRule,
        {
            "into": Key("into", PATTERNS, required=True),
            "axis": AXIS,
            "sizes": SIZES,
            "interleaved": INTERLEAVED,
        },
    ),
    "join": Primitive(
        JoinRule,
        {
            "with": Key("others", PATTERNS, required=True),
            "to": TO,
            "axis": AXIS,
            "sizes": SIZES,
            "interleaved": INTERLEAVED,
        },
    ),
    "stack": Primitive(StackRule, {"to": TO, "count": COUNT}),
    "unstack": Primitive(UnstackRule, {"to": TO, "count": COUNT}),
    "add": Primitive(AddRule, {"value": Key("value", ANY_NUMBER, required=True)}),
    "scale": Primitive(
        ScaleRule, {"by": Key("by", several(SETTING)), "rows": Key("rows", several(pair(SETTING, LENGTH)))}
    ),
    "copy": Primitive(CopyRule, {"to": TO}),
    "reshape": Primitive(
        ReshapeRule, {"to": Key("shape", LENGTHS, required=True), "back": Key("back", LENGTHS)}
    ),
    "view": Primitive(
        ViewRule, {"as": Key("dtype", TEXT, required=True), "back": Key("back", pair(TEXT, NUMBER))}
    ),
    "rotary": Primitive(
        RotaryRule, {"heads": Key("heads", SETTING, required=True), "undo": Key("undo", FLAG)}
    ),
    "keep_dtype": Primitive(KeepDtypeRule),
    "compute": Primitive(
        _compute,
        {
            "with": Key("companion", PATTERN, required=True),
            "by": Key("name", TEXT, required=True),
        },
    ),
}

VERBS: Mapping[type[Rule], str] = {
    ComputeRule: "compute",
    **{
        primitive.rule: verb
        for verb, primitive in PRIMITIVES.items()
        if isinstance(primitive.rule, type) and issubclass(primitive.rule, Rule)
    },
}
"""Rule → the primitive's name."""


def check(rule: Rule) -> None:
    """Refuses a rule that could not work on any tensors.

    Raises:
        WrongRuleError: naming the key at fault.
        LayoutError: a target does not answer the rule's pattern.
    """
    targets = (*rule.targets, *getattr(rule, "others", ()))
    companion = getattr(rule, "companion", None) or (rule.target if isinstance(rule, CopyRule) else None)
    for target in (*targets, companion) if companion else targets:
        check_target(rule.source, target)
    if isinstance(rule, StackRule) and ("{e}" not in rule.source or "{e}" in rule.target):
        raise WrongRuleError("a stack runs over the {e} in its pattern, which its target has not", "to")
    if isinstance(rule, UnstackRule) and ("{e}" not in rule.target or "{e}" in rule.source):
        raise WrongRuleError("an unstack numbers its target by {e}, which its pattern has not", "to")
    if isinstance(rule, TransposeRule) and rule.role not in (*ROLES, "swap_last"):
        raise WrongRuleError(f"{rule.role!r} is no order of axes: one of {', '.join(ROLES)}, swap_last", "as")
    if isinstance(rule, SplitRule | JoinRule):
        parts = rule.into if isinstance(rule, SplitRule) else (rule.source, *rule.others)
        if len(parts) < 2 or (rule.sizes and len(rule.sizes) != len(parts)):
            raise WrongRuleError(
                f"{len(parts)} parts and {len(rule.sizes)} sizes", "sizes" if rule.sizes else ""
            )
    if isinstance(rule, DropRule) and rule.beyond and "#" not in compile_pattern(rule.source).wildcards:
        raise WrongRuleError(
            "beyond looks at the number that # stands for, which the pattern has not", "beyond"
        )
    if isinstance(rule, ScaleRule) and not (rule.by or rule.rows):
        raise WrongRuleError("scale needs 'by' or 'rows'", "by")
    if isinstance(rule, ReshapeRule) and rule.shape.count(-1) > 1:
        raise WrongRuleError("one length at most may be -1", "to")
    for name in (rule.dtype, *(rule.back or ())[:1]) if isinstance(rule, ViewRule) else ():
        _check_dtype(str(name))


def _check_dtype(name: str) -> None:
    try:
        dtypes.by_name(name)
    except WconvError as error:
        raise WrongRuleError(str(error), "as") from None
