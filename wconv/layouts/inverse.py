"""The way back: a layout's rules undone, last first, from the consumer's layout to the hub's.

Every rule has its opposite as data; what has none is told. Nothing is taken on trust: the rules are run
forwards again over the result, lazily, and must give the tensors that were there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from wconv.errors import LayoutError
from wconv.layouts.apply import Applied, Layout, already, kept_names, run_rules
from wconv.layouts.computed.rotary import Rotary
from wconv.layouts.conditions import Context
from wconv.layouts.patterns import compile_pattern, sample
from wconv.layouts.reverse_rules import Blocks, Join, Uncopy, Unstack
from wconv.layouts.rules import (
    Add,
    Compute,
    Copy,
    Drop,
    Entry,
    KeepDtype,
    Rename,
    Reshape,
    Rule,
    Split,
    Stack,
    State,
    Transpose,
    View,
)
from wconv.tensors.lazy import LazyTensor, from_array


@dataclass(frozen=True, slots=True)
class Opposite:
    """What undoes one kind of rule.

    Attributes:
        rules: the rules that undo a rule; none where nothing can.
        lost: what stays undone or uncertain for a rule that matched, as a sentence; "" when nothing does.
    """

    rules: Callable[[Any], tuple[Rule, ...]]
    lost: Callable[[Any], str] = lambda rule: ""


def _joined(rule: Split) -> tuple[Rule, ...]:
    first, *others = rule.into
    return (Join(first, tuple(others), rule.source, rule.axis, rule.sizes, rule.interleaved),)


def _cut(rule: Join) -> tuple[Rule, ...]:
    return (Split(rule.target, (rule.source, *rule.others), rule.axis, rule.sizes, rule.interleaved),)


OPPOSITES: Mapping[type[Rule], Opposite] = {
    Rename: Opposite(lambda rule: (Rename(rule.target, rule.source),)),
    Transpose: Opposite(lambda rule: (Transpose(rule.source, rule.role, undo=not rule.undo),)),
    Split: Opposite(_joined),
    Join: Opposite(_cut),
    Stack: Opposite(lambda rule: (Unstack(rule.target, rule.source, rule.count),)),
    Unstack: Opposite(lambda rule: (Stack(rule.target, rule.source, rule.count),)),
    Copy: Opposite(lambda rule: (Uncopy(rule.source, rule.target),)),
    Add: Opposite(
        lambda rule: (Add(rule.source, -rule.value),),
        lambda rule: (
            f"{rule.source} had {rule.value:g} added, rounded: it is subtracted again, which gives the"
            " original's bits only where that addition was exact"
        ),
    ),
    Reshape: Opposite(
        lambda rule: (Reshape(rule.source, rule.back),) if rule.back else (),
        lambda rule: "" if rule.back else f"{rule.source} keeps its shape: what it was before is not known",
    ),
    View: Opposite(
        lambda rule: (Blocks(rule.source, *rule.back),) if rule.back else (),
        lambda rule: "" if rule.back else f"{rule.source} stays {rule.dtype}: what it was is not known",
    ),
    Rotary: Opposite(lambda rule: (Rotary(rule.source, rule.heads, not rule.undo),)),
    Compute: Opposite(lambda rule: ()),
    Drop: Opposite(lambda rule: ()),
    KeepDtype: Opposite(lambda rule: ()),
}
"""Every kind of rule and what undoes it."""


def restore(
    layout: Layout | None,
    tensors: Mapping[str, LazyTensor],
    config: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Applied | None:
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
    state = {name: Entry(tensor, (name,)) for name, tensor in tensors.items()}
    if not already(layout, run_rules(layout.spellings, state, context, {}), context):
        return None
    notes: list[str] = []
    for rule, opposites in undone(layout, context):
        lost = OPPOSITES[type(rule)].lost(rule)
        if lost and any(rule.pattern.match(name) for name in state):
            notes.append(lost)
        state = run_rules(opposites, state, context, {})
    restored = {name: entry.tensor for name, entry in state.items()}
    _check(layout, restored, tensors, context)
    notes.extend(_not_restored(layout, restored, context))
    kept = kept_names(layout, tensors)
    return Applied(
        restored,
        {},
        frozenset(name for name, entry in state.items() if kept.issuperset(entry.sources)),
        {name: entry.sources for name, entry in state.items()},
        tuple(notes),
    )


def undone(layout: Layout, context: Context) -> list[tuple[Rule, tuple[Rule, ...]]]:
    """Each active rule, last first, with the rules that undo it."""
    active = [rule for rule in layout.rules if rule.active(context)]
    pairs = []
    for at, rule in reversed(list(enumerate(active))):
        opposites = OPPOSITES[type(rule)].rules(rule)
        if isinstance(rule, Rename):
            but = _made_before(active[:at], rule)
            opposites = tuple(replace(one, but=but) for one in opposites if isinstance(one, Rename))
        pairs.append((rule, opposites))
    return pairs


def _made_before(earlier: Sequence[Rule], rule: Rename) -> tuple[str, ...]:
    """Names that an earlier rule made and that `rule`'s target only happens to match, as patterns."""
    whole = compile_pattern(rule.target)
    found = []
    for at, maker in enumerate(earlier):
        for target in maker.targets:
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
    state = {name: Entry(tensor, (name,)) for name, tensor in restored.items()}
    again = run_rules(layout.rules, state, context, dropped)
    drops = [rule for rule in layout.rules if isinstance(rule, Drop) and rule.active(context)]
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
        if isinstance(rule, Compute) and rule.active(context):
            perhaps.setdefault(f"{rule.name} with them", []).append(rule.companion)
        if not isinstance(rule, Drop) or not rule.active(context):
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

    renames = replace(layout, rules=tuple(rule for rule in layout.rules if isinstance(rule, Rename)))
    state: State = {name: Entry(from_array(np.zeros(0)), (name,))}
    for _, opposites in undone(renames, context):
        state = run_rules(opposites, state, context, {})
    return next(iter(state))
