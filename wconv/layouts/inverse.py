"""The way back: a layout's rules undone, last first, from the consumer's layout to the hub's.

Every rule has its opposite as data; what has none is told. Nothing is taken on trust: the rules are run
forwards again over the result, lazily, and must give the tensors that were there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from wconv.errors import LayoutError
from wconv.layouts.apply import Layout, LayoutResult, is_converted, kept_names, run_rules
from wconv.layouts.computed.multiplied import ScaleRule
from wconv.layouts.computed.rotary import RotaryRule
from wconv.layouts.conditions import Context
from wconv.layouts.patterns import compile_pattern, sample, written_out
from wconv.layouts.reverse_rules import BlocksRule, JoinRule, UncopyRule, UnstackRule
from wconv.layouts.rules import (
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
    State,
    TracedTensor,
    TransposeRule,
    ViewRule,
)
from wconv.tensors.lazy import LazyTensor, from_array


@dataclass(frozen=True, slots=True)
class Inverse:
    """What undoes one kind of rule.

    Attributes:
        rules: the rules that undo a rule; none where nothing can.
        lost: what stays undone or uncertain for a rule that matched, as a sentence; "" when nothing does.
    """

    rules: Callable[[Any], tuple[Rule, ...]]
    lost: Callable[[Any], str] = lambda rule: ""


def _joined(rule: SplitRule) -> tuple[Rule, ...]:
    first, *others = rule.into
    return (JoinRule(first, tuple(others), rule.source, rule.axis, rule.sizes, rule.interleaved),)


def _cut(rule: JoinRule) -> tuple[Rule, ...]:
    return (SplitRule(rule.target, (rule.source, *rule.others), rule.axis, rule.sizes, rule.interleaved),)


INVERSES: Mapping[type[Rule], Inverse] = {
    RenameRule: Inverse(lambda rule: (RenameRule(rule.target, rule.source),)),
    TransposeRule: Inverse(lambda rule: (TransposeRule(rule.source, rule.role, undo=not rule.undo),)),
    SplitRule: Inverse(_joined),
    JoinRule: Inverse(_cut),
    StackRule: Inverse(lambda rule: (UnstackRule(rule.target, rule.source, rule.count),)),
    UnstackRule: Inverse(lambda rule: (StackRule(rule.target, rule.source, rule.count),)),
    CopyRule: Inverse(lambda rule: (UncopyRule(rule.source, rule.target),)),
    AddRule: Inverse(
        lambda rule: (AddRule(rule.source, -rule.value),),
        lambda rule: (
            f"{rule.source} had {rule.value:g} added, rounded: it is subtracted again, which gives the"
            " original's bits only where that addition was exact"
        ),
    ),
    ScaleRule: Inverse(lambda rule: ()),
    ReshapeRule: Inverse(
        lambda rule: (ReshapeRule(rule.source, rule.back),) if rule.back else (),
        lambda rule: "" if rule.back else f"{rule.source} keeps its shape: what it was before is not known",
    ),
    ViewRule: Inverse(
        lambda rule: (BlocksRule(rule.source, *rule.back),) if rule.back else (),
        lambda rule: "" if rule.back else f"{rule.source} stays {rule.dtype}: what it was is not known",
    ),
    RotaryRule: Inverse(lambda rule: (RotaryRule(rule.source, rule.heads, not rule.undo),)),
    ComputeRule: Inverse(lambda rule: ()),
    DropRule: Inverse(lambda rule: ()),
    KeepDtypeRule: Inverse(lambda rule: ()),
}
"""Every kind of rule and what undoes it."""


def restore(
    layout: Layout | None,
    tensors: Mapping[str, LazyTensor],
    config: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> LayoutResult | None:
    """Lays a state dict that is in `layout`'s consumer's layout out as the hub has it.

    None when it is not, or when there is no telling: names and layouts are the hub's already.

    Args:
        config: the model's config.json, which some rules depend on.
        options: what the caller asked of this layout ("include_fov").

    Raises:
        LayoutError: the tensors do not fit the rules, or are quantized in MLX's way.
    """
    if (config or {}).get("quantization") and any(name.endswith(".scales") for name in tensors):
        raise LayoutError(
            "the model is quantized for MLX, which nothing but MLX loads:"
            " add -d (dequantize=True) to make it dense first"
        )
    if layout is None:
        return None
    context = Context(config or {}, options or {})
    state = {name: TracedTensor(tensor, (name,)) for name, tensor in tensors.items()}
    if not is_converted(layout, run_rules(layout.alias_rules, state, context, {}), context):
        return None
    notes: list[str] = []
    for rule, inverses in reversed_rules(layout, context):
        if isinstance(rule, ScaleRule):
            _refuse_scaled(rule, state, context)
        lost = INVERSES[type(rule)].lost(rule)
        if lost and any(rule.pattern.match(name) for name in state):
            notes.append(lost)
        state = run_rules(inverses, state, context, {})
    restored = {name: entry.tensor for name, entry in state.items()}
    _check(layout, restored, tensors, context)
    notes.extend(_not_restored(layout, restored, context))
    kept = kept_names(layout, tensors)
    return LayoutResult(
        restored,
        {},
        frozenset(name for name, entry in state.items() if kept.issuperset(entry.sources)),
        {name: entry.sources for name, entry in state.items()},
        tuple(notes),
    )


def _refuse_scaled(rule: ScaleRule, state: State, context: Context) -> None:
    """Raises LayoutError for a tensor that was multiplied with other numbers than 1."""
    for name, entry in state.items():
        match = rule.pattern.match(name)
        if match and rule.outputs(name, entry, match, context)[name] is not entry:
            raise LayoutError(
                f"{entry.sources[0]} was multiplied with numbers of config.json and rounded, which cannot be"
                " undone: there is no way back from this layout; use the original model"
            )


def reversed_rules(layout: Layout, context: Context) -> list[tuple[Rule, tuple[Rule, ...]]]:
    """Each active rule, last first, with the rules that undo it."""
    active = [rule for rule in layout.rules if rule.active(context)]
    pairs = []
    for at, rule in reversed(list(enumerate(active))):
        inverses = INVERSES[type(rule)].rules(rule)
        if isinstance(rule, RenameRule):
            except_for = _made_before(active[:at], rule)
            inverses = tuple(
                replace(one, except_for=except_for) for one in inverses if isinstance(one, RenameRule)
            )
        pairs.append((rule, inverses))
    return pairs


def _made_before(earlier: Sequence[Rule], rule: RenameRule) -> tuple[str, ...]:
    """Names that an earlier rule made and that `rule`'s target only happens to match, as patterns."""
    whole = compile_pattern(rule.target)
    found = []
    for at, maker in enumerate(earlier):
        for target in (one for whole_target in maker.targets for one in written_out(whole_target)):
            names = sample(target)
            if not all(whole.match(name) for name in names):
                continue
            if all(compile_pattern(target).match(name) for name in sample(rule.target)):
                continue
            taken_on = (*earlier[at + 1 :], rule)
            if not any(later.targets and later.pattern.match(name) for later in taken_on for name in names):
                found.append(target)
    return tuple(found)


def _check(
    layout: Layout, restored: Mapping[str, LazyTensor], final: Mapping[str, LazyTensor], context: Context
) -> None:
    """Runs the rules forwards over what was restored: the tensors that were there must come of it.

    Raises:
        LayoutError: another name, dtype or shape comes of it.
    """
    dropped: dict[str, str] = {}
    state = {name: TracedTensor(tensor, (name,)) for name, tensor in restored.items()}
    again = run_rules(layout.rules, state, context, dropped)
    drops = [rule for rule in layout.rules if isinstance(rule, DropRule) and rule.active(context)]
    for name, tensor in final.items():
        if name not in again and any(rule.drops(name, context) for rule in drops):
            continue
        came = again[name].tensor if name in again else None
        if came is None or (came.dtype, came.shape) != (tensor.dtype, tensor.shape):
            raise LayoutError(
                f"{name} cannot be laid out as the original: the rules for {layout.model_type}"
                " would not give it again"
            )


def _not_restored(layout: Layout, restored: Mapping[str, LazyTensor], context: Context) -> list[str]:
    """Sentences on what the rules leave out of a model: by name where one is known, else by pattern."""
    missing: dict[str, list[str]] = {}
    perhaps: dict[str, list[str]] = {}
    for at, rule in enumerate(layout.rules):
        if isinstance(rule, ComputeRule) and rule.active(context):
            perhaps.setdefault(f"{rule.name} with them", []).append(rule.companion)
        if not isinstance(rule, DropRule) or not rule.active(context):
            continue
        if rule.pattern.wildcards:
            perhaps.setdefault(rule.reason, []).append(rule.source)
            continue
        name = _original(rule.source, replace(layout, rules=layout.rules[:at]), context)
        if name not in restored:
            missing.setdefault(rule.reason, []).append(name)
    return [
        *(f"not restored ({reason}): {', '.join(names)}" for reason, names in missing.items()),
        *(
            f"not restored, where the original had any ({reason}): {', '.join(patterns)}"
            for reason, patterns in perhaps.items()
        ),
    ]


def _original(name: str, layout: Layout, context: Context) -> str:
    """The name before the renamings of a layout."""
    import numpy as np

    renames = replace(layout, rules=tuple(rule for rule in layout.rules if isinstance(rule, RenameRule)))
    state: State = {name: TracedTensor(from_array(np.zeros(0)), (name,))}
    for _, inverses in reversed_rules(renames, context):
        state = run_rules(inverses, state, context, {})
    return next(iter(state))
