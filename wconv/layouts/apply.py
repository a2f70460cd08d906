"""A layout and its application: all rules or none, every source tensor accounted for."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wconv.errors import LayoutError
from wconv.layouts import tied_heads
from wconv.layouts.conditions import Context, When
from wconv.layouts.file_form import Form
from wconv.layouts.patterns import SHORT, Pattern, compile_pattern, is_wildcard, written_out
from wconv.layouts.rules import CopyRule, DropRule, KeepDtypeRule, Rule, State, TracedTensor, TransposeRule
from wconv.quantized.names import LEVEL, is_part
from wconv.tensors.lazy import LazyTensor
from wconv.wording import fitted, plural

if TYPE_CHECKING:
    from wconv.layouts.layer_rule import LayerRule

SCALES = "**_scale_inv"
"""Scales of weights that stay in 8 bits, which lose too much in a cast."""

KEEP_DTYPE = (
    "**e_score_correction_bias**",
    "**expert_bias**",
    "**router_bias**",
    "**A_log",
    "**dt_bias",
    SCALES,
)
"""Names whose dtype is kept where the consumer is not known: what the cast predicates of most models name."""

KEPT_BY_SOME = "some consumers keep its dtype, and which one loads this is not known"

QUANTIZED = re.compile(
    r"\.(scales|biases|qweight|qzeros|g_idx|weight_(packed|scale|scale_2|shape|zero_point|global_scale|scale_inv)"
    r"|input_scale|input_global_scale|activation_scale|bias)$"
)
"""Companions of a `.weight` in a quantized checkpoint, which the consumer's loader takes as they are."""

FEW = 10
"""Of so many names one at most may be left out to make a checkpoint fit: more is another model."""


COMPARED, MOST_COMPARED = 20_000_000, 5_000
"""What looking for names that resemble one may cost: in characters times characters, and in names."""


ROOM = 150
"""Characters of a message that tells of several names: so many of them as fit, one at least."""


class UnknownNamesError(LayoutError):
    """The consumer has no such tensors."""


class ConvertedInPartError(LayoutError):
    """Some tensors are in the consumer's layout and some are not."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What a consumer calls a model's tensors and how it lays them out.

    Attributes:
        consumers: the programs that load the result; the first one is whose layout it is.
        model_types: config.json's `model_type` of the models it fits.
        rules: in order, from the hub's layout to the consumer's.
        names: patterns of all names that the result may have.
        alias_rules: rules that come first and bring other ways of saving the same model to the hub's layout.
        recognised_by: names that tell the model where there is no config; all must be there.
        command: loads the result; `{model}` stands for its path.
        form: how the consumer names files and what they say, where it is not the hub's way.
        casts: dtype → dtype that the consumer's own conversion makes of it, unless the user says otherwise.
        config: how the consumer's config.json is made, where the source has none that it reads: a name in
            `Consumer.config_makers`.
        derived_from: the programs and versions from which a table was derived that no person wrote.
        where: what config.json must say for such a table to hold.
        quantize: rules on single layers for a conversion that quantizes; those of the user go before them.

    Example:
        >>> from wconv.layouts.rules import rename
        >>> rules = (rename("linear.**", "layers.0.**"),)
        >>> layout = wconv.Layout(("my program",), ("my_model",), names=("layers.#.**",), rules=rules)
        >>> list(wconv.open(wconv.convert("model.ckpt", "out.safetensors", layout=layout).output))
        ['layers.0.weight']
    """

    consumers: tuple[str, ...]
    model_types: tuple[str, ...]
    names: tuple[str, ...]
    rules: tuple[Rule, ...] = ()
    alias_rules: tuple[Rule, ...] = ()
    recognised_by: tuple[str, ...] = ()
    command: str = ""
    form: Form | None = None
    casts: Mapping[str, str] = field(default_factory=dict)
    config: str = ""
    derived_from: Mapping[str, str] = field(default_factory=dict)
    where: tuple[When, ...] = ()
    quantize: tuple[LayerRule, ...] = ()

    @property
    def model_type(self) -> str:
        """What the model is called in messages; rules of one's own need not say it."""
        return self.model_types[0] if self.model_types else "this model"

    @property
    def header_says_bits(self) -> bool:
        """Whether a file's header, not config.json, tells the consumer that weights are quantized."""
        return self.form is not None and LEVEL in self.form.metadata

    def __repr__(self) -> str:
        whose = " ".join((", ".join(self.consumers), "for", ", ".join(self.model_types)))
        return fitted(f"<Layout of {whose}: {plural(len(self.rules), 'rule')}>")

    def __str__(self) -> str:
        return "\n".join(str(rule) for rule in (*self.alias_rules, *self.rules))


@dataclass(frozen=True, slots=True)
class LayoutResult:
    """A state dict in a consumer's layout.

    Attributes:
        tensors: by their new names, not read yet.
        dropped: source names that were left out, each with the reason.
        keep_dtype: new names that a cast of the model leaves alone.
        sources: for each new name the source tensors it is made of.
        notes: what the user should be told, one sentence each.
        unchanged: source names that passed as they are because nothing is known of them, with the reason.
        unmatched: rules, but for those of `alias_rules`, that no tensor matched when their turn came.
        keep_why: why `keep_dtype` is kept.
        computed: new names with which the consumer computes before it would cast them, and who that is.
        untied: output layers that stay because they differ from the embedding, whatever the config says.
    """

    tensors: dict[str, LazyTensor]
    dropped: dict[str, str] = field(default_factory=dict)
    keep_dtype: frozenset[str] = frozenset()
    sources: dict[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    unchanged: dict[str, str] = field(default_factory=dict)
    unmatched: tuple[Rule, ...] = ()
    keep_why: str = "the consumer keeps its dtype"
    computed: Mapping[str, str] = field(default_factory=dict)
    untied: tuple[str, ...] = ()


Check = Callable[[Layout, State, Mapping[str, LazyTensor], Context], None]
"""A look at what rules made: the layout, the tensors after it and before it, and what its conditions know."""

Watch = Callable[[Rule, State, State], None]
"""Is told of every rule that was applied: the rule, the tensors before it and after it."""


def apply(
    layout: Layout | None,
    tensors: Mapping[str, LazyTensor],
    config: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    check: Check | None = None,
    watch: Watch | None = None,
) -> LayoutResult:
    """Lays a state dict out as `layout` says; only heads that are said to be tied are read, to compare them.

    A checkpoint that is laid out already keeps its names; without a layout all tensors do.

    Args:
        config: the model's config.json, which some rules depend on.
        options: what the caller asks of this layout ("include_fov").
        check: refuses what the rules made, by raising a LayoutError, before its names are looked at.
        watch: is told of every rule.

    Raises:
        LayoutError: a tensor fits no rule, or the checkpoint is converted in part.
    """
    if layout is None:
        kept = fitting(KEEP_DTYPE, tensors)
        return LayoutResult(
            dict(tensors), {}, kept, {name: (name,) for name in tensors}, keep_why=KEPT_BY_SOME
        )
    context = Context(config or {}, options or {})
    state = {name: TracedTensor(tensor, (name,)) for name, tensor in tensors.items()}
    dropped: dict[str, str] = {}
    notes: list[str] = []
    unmatched: list[Rule] = []
    untied: list[str] = []
    state = run_rules(layout.alias_rules, state, context, dropped, untied=untied, watch=watch)
    done = is_converted(layout, state, context)
    if done:
        notes.append(f"the tensors are in {layout.consumers[0]}'s layout already")
    rules = [rule for rule in layout.rules if not done or isinstance(rule, DropRule | CopyRule)]
    state = run_rules(rules, state, context, dropped, unmatched, untied, watch)
    if check is not None:
        check(layout, state, tensors, context)
    check_names(layout, state, quantized=layout.header_says_bits or is_quantized(context.config))
    return LayoutResult(
        {name: entry.tensor for name, entry in state.items()},
        dropped,
        kept_names(layout, state),
        {name: entry.sources for name, entry in state.items()},
        tuple(notes),
        unmatched=() if done else tuple(unmatched),
        untied=tuple(untied),
    )


def kept_names(layout: Layout, names: Iterable[str]) -> frozenset[str]:
    """The names, of the consumer's, whose dtype the layout keeps."""
    keep = (SCALES, *(rule.source for rule in layout.rules if isinstance(rule, KeepDtypeRule)))
    return fitting(keep, names)


def is_converted(layout: Layout, state: State, context: Context) -> bool:
    """Whether the tensors are in the consumer's layout already.

    Raises:
        LayoutError: some are and some are not.
    """
    rules = [rule for rule in layout.rules if rule.active(context)]
    drops = [rule.dropping(context) for rule in rules if isinstance(rule, DropRule)]
    sources = tuple(rule.source for rule in rules if rule.is_recognisable_by_name)
    targets = tuple(target for rule in rules if rule.is_recognisable_by_name for target in rule.targets)
    others = [rule for rule in rules if rule.is_recognisable and not rule.is_recognisable_by_name]
    if not (sources or targets or others):
        return False
    seen: dict[str, str] = {}
    for name, entry in state.items():
        if any(dropped(name) for dropped in drops):
            continue
        sides = [rule.side_of(name, entry, context) for rule in others]
        if "source" in sides or matches(sources, name):
            seen.setdefault("source", name)
        elif "final" in sides or matches(targets, name):
            seen.setdefault("final", name)
    if len(seen) == 2:
        raise ConvertedInPartError(
            f"the checkpoint is converted in part: {seen['final']} is in {layout.consumers[0]}'s layout and"
            f" {seen['source']} is not; convert the original instead"
        )
    return "final" in seen


def check_names(layout: Layout, state: State, *, quantized: bool = False) -> None:
    """Refuses names that the consumer does not know.

    Raises:
        UnknownNamesError: naming up to three of them, each with the nearest names that are known.
    """
    unknown = [name for name in state if not is_known(layout.names, name, quantized)]
    if not unknown:
        return
    consumer, model_type = layout.consumers[0], layout.model_type
    listed: list[str] = []
    for name in unknown[:3]:
        text = f"{state[name].sources[0]} (nearest: {', '.join(nearest(layout.names, name)) or 'none'})"
        if listed and len("; ".join((*listed, text))) > ROOM:
            break
        listed.append(text)
    shown = "; ".join(listed)
    more = f" and {len(unknown) - len(listed)} more" if len(unknown) > len(listed) else ""
    if len(unknown) * FEW > len(state) or any(map(is_part, unknown)):
        advice = "keep all names with --layout hf, or write rules of your own (see wconv rules)"
    else:
        advice = "leave them out with --exclude, or keep all names with --layout hf"
    raise UnknownNamesError(f"{consumer} knows no such tensors in {model_type}: {shown}{more}; {advice}")


def nearest(names: Iterable[str], name: str) -> list[str]:
    """Up to two known names that resemble `name`, with its own numbers in place of `#`."""
    numbers = re.findall(r"(?<=\.)\d+(?=\.)", name)
    flat = re.sub(r"(?<=\.)\d+(?=\.)", "#", name)
    import difflib

    known = (text for one in names for text in written_out(one))
    # comparing two texts takes as long as the product of their lengths
    some = itertools.islice(known, min(COMPARED // (len(flat) + 1) ** 2, MOST_COMPARED))
    close = difflib.get_close_matches(flat, list(some), 2, 0.6)
    filled = []
    for text in close:
        values = iter(numbers)
        filled.append(re.sub("#", lambda _, values=values: next(values, "0"), text))  # type: ignore[misc]
    return filled


def run_rules(
    rules: Iterable[Rule],
    state: State,
    context: Context,
    dropped: dict[str, str],
    unmatched: list[Rule] | None = None,
    untied: list[str] | None = None,
    watch: Watch | None = None,
) -> State:
    """The state after the active ones of `rules`.

    `dropped` gains what they leave out, with the reason; `unmatched` those that no tensor matched; `untied`
    the names that would be left out for another tensor but differ from it (without it nothing is compared).
    `watch` is told of every rule.
    """
    for rule in rules:
        if not rule.active(context):
            continue
        if not rule.concerns(state):
            if unmatched is not None:
                unmatched.append(rule)
            continue
        if isinstance(rule, DropRule):
            if untied is not None and rule.same_as and (odd := tied_heads.kept(rule, state, context)):
                untied.extend(odd)
                continue
            drops = rule.dropping(context)
            gone = [name for name in state if drops(name)]
            dropped.update((source, rule.reason) for name in gone for source in state[name].sources)
        if isinstance(rule, TransposeRule) and rule.last is not None:
            _check_not_done(rule, state, context)
        before = state
        state = rule.apply(state, context)
        if watch is not None:
            watch(rule, before, state)
    return state


def _check_not_done(rule: TransposeRule, state: State, context: Context) -> None:
    for name, entry in state.items():
        if rule.side_of(name, entry, context) == "final":
            raise ConvertedInPartError(
                f"the checkpoint is converted in part: {entry.sources[0]} is transposed already and others"
                " are not; convert the original instead"
            )


def is_quantized(config: Mapping[str, Any]) -> bool:
    """Whether config.json says that the weights are quantized, by MLX or by another program."""
    parts = [config, config.get("text_config")]
    keys = ("quantization", "quantization_config")
    return any(isinstance(part, Mapping) and any(part.get(key) for key in keys) for part in parts)


def is_known(names: tuple[str, ...], name: str, quantized: bool) -> bool:
    """Whether a name is one of `names`, or belongs to a `quantized` one (scales, zero points)."""
    if matches(names, name):
        return True
    base, found = QUANTIZED.subn(".weight", name)
    return quantized and bool(found) and matches(names, base)


@functools.lru_cache(maxsize=256)
def _any_of(patterns: tuple[str, ...]) -> tuple[re.Pattern[str], tuple[Pattern, ...]]:
    """One expression for most of the patterns, and those of which short names are matched alone, too."""
    compiled = [compile_pattern(text) for text in patterns]
    plain = [one.expression.pattern for one in compiled if one.short >= SHORT]
    alone = tuple(one for one in compiled if one.short < SHORT)
    return re.compile("|".join(f"(?:{one})" for one in plain) or r"(?!)"), alone


def matches(patterns: tuple[str, ...], name: str) -> bool:
    """Whether a name fits one of the patterns."""
    if len(name) > SHORT:
        return any(compile_pattern(text).fits(name) for text in patterns)
    expression, alone = _any_of(patterns)
    return expression.fullmatch(name) is not None or any(pattern.fits(name) for pattern in alone)


def fitting(patterns: tuple[str, ...], names: Iterable[str]) -> frozenset[str]:
    """The names that fit one of the patterns; all at once, since most patterns fit none."""
    names = tuple(names)
    joined = "\n".join(names)
    literals = {
        text: [part for part in compile_pattern(text).parts if not is_wildcard(part)] for text in patterns
    }
    alive = tuple(text for text in patterns if all(part in joined for part in literals[text]))
    return frozenset(name for name in names if matches(alive, name)) if alive else frozenset()
