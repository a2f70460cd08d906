"""What trainers call the modules that an adapter changes: prefixes, flattened names, other programs' names.

Facts: mflux 0.24 `*_lora_mapping.py`, PEFT's and kohya's files as mflux and diffusers read them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from wconv.consumers.adapters import families
from wconv.consumers.adapters.families import AdapterFamily
from wconv.layouts.apply import Layout, run_rules
from wconv.layouts.conditions import Context
from wconv.layouts.inverse import reversed_rules
from wconv.layouts.patterns import compile_pattern, written_out
from wconv.layouts.rules import RenameRule, Rule, TracedTensor, rename
from wconv.tensors.lazy import LazyTensor

WRAPPERS = ("base_model.model.", "base_model.")
"""What PEFT puts before every name."""

MAIN = ("transformer", "unet")
"""The components that a name without a component means."""

PREFIXES: Mapping[str, tuple[str, ...]] = {
    "transformer.": MAIN,
    "unet.": MAIN,
    "model.diffusion_model.": MAIN,
    "diffusion_model.": MAIN,
    "text_encoder.": ("text_encoder",),
    "text_encoder_2.": ("text_encoder_2",),
    "text_encoder_3.": ("text_encoder_3",),
    "text_encoders.clip_l.transformer.": ("text_encoder",),
    "text_encoders.clip_g.transformer.": ("text_encoder_2",),
    "text_encoders.t5xxl.transformer.": ("text_encoder_3", "text_encoder_2"),
}
"""Dotted prefix → the component of a pipeline that it names: diffusers' and ComfyUI's.

T5 is the third text encoder of Stable Diffusion 3 and the second of FLUX.1.
"""

FLAT_PREFIXES: Mapping[str, tuple[str, ...]] = {
    "lora_unet_": MAIN,
    "lora_transformer_": MAIN,
    "lora_te_": ("text_encoder",),
    "lora_te1_": ("text_encoder",),
    "lora_te2_": ("text_encoder_2",),
    "lora_te3_": ("text_encoder_3", "text_encoder_2"),
}
"""Likewise kohya's, after which dots have become underscores."""

RESPELLED = (
    rename(
        "**double_blocks.#.processor.(qkv_lora1|proj_lora1|qkv_lora2|proj_lora2).(down|up).weight",
        "**double_blocks.#.(img_attn.qkv|img_attn.proj|txt_attn.qkv|txt_attn.proj).(lora_down|lora_up).weight",
    ),
    rename(
        "**single_blocks.#.processor.(qkv_lora|proj_lora).(down|up).weight",
        "**single_blocks.#.(qkv|linear2).(lora_down|lora_up).weight",
    ),
)
"""XLabs' names of a FLUX adapter's tensors, kept in attention processors → by the layers they change.

Facts: x-flux, `src/flux/modules/layers.py`: the first of two is the images', and a single block's `qkv_lora`
is added to the first three parts of what `linear1` gives.
"""

CLIP = "text_model."
"""What CLIP's names begin with; transformers 5 leaves it out."""

BASE_PREFIXES = ("", "model.", "model.diffusion_model.", CLIP)
"""What a model's own names may have before those of an adapter."""


@dataclass(frozen=True, slots=True)
class ModulePlace:
    """Where an adapter belongs.

    Attributes:
        module: the dotted path, or with underscores for dots when `flat`.
        components: of a pipeline, those that it can mean; empty when it says nothing.
        full: the path with the component's name before it.
    """

    module: str
    components: tuple[str, ...] = ()
    flat: bool = False
    full: str = ""


def place(name: str) -> ModulePlace:
    """What a module's name in an adapter means."""
    for flat, components in FLAT_PREFIXES.items():
        if name.startswith(flat):
            return ModulePlace(name.removeprefix(flat), components, True, name)
    while (stripped := _without(name, WRAPPERS)) != name:
        name = stripped
    for prefix, components in PREFIXES.items():
        if name.startswith(prefix):
            return ModulePlace(_without(name.removeprefix(prefix), WRAPPERS), components, False, name)
    return ModulePlace(name, (), False, name)


def respelled(key: str) -> str:
    """A tensor's name by the layer that it changes, where it is kept in an attention processor."""
    if ".processor." in key:
        for rule in RESPELLED:
            match = rule.pattern.match(key)
            if match is not None:
                return compile_pattern(rule.target).render(match, rule.pattern)
    return key


def renames(layout: Layout | None) -> tuple[Rule, ...]:
    """The rules of a model's table that only rename: of two generations of names they make one."""
    rules = (*layout.alias_rules, *layout.rules) if layout is not None else ()
    return tuple(rule for rule in rules if isinstance(rule, RenameRule))


def _without(name: str, prefixes: Iterable[str]) -> str:
    return next((name.removeprefix(one) for one in prefixes if name.startswith(one)), name)


@functools.cache
def backwards(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """The rules that undo `rules`, in order."""
    layout = Layout(("adapters",), ("adapters",), (), rules)
    return tuple(rule for _, inverses in reversed_rules(layout, Context()) for rule in inverses)


def forwards(family: AdapterFamily) -> tuple[Rule, ...]:
    """From the names of the makers, and of programs with their own, to diffusers'."""
    return (*family.alias_rules, *family.original, *backwards(family.renamed))


FAMILIES = tuple(forwards(family) for family in families.FAMILIES if family.original)
"""Rules from other programs' names of a transformer to diffusers', by family."""


def flat(module: str) -> str:
    """A dotted path as kohya's scripts write it."""
    return module.replace(".", "_")


def unflatten(patterns: tuple[str, ...], name: str) -> str | None:
    """The dotted module of which a pattern matches the weight, and whose flattened form is `name`."""
    for expression, template in _flattened(patterns):
        found = expression.fullmatch(name)
        if found is not None:
            first, *others = template.split("#")
            return first + "".join(map("".join, zip(found.groups(), others, strict=True)))
    return None


@functools.cache
def _flattened(patterns: tuple[str, ...]) -> tuple[tuple[re.Pattern[str], str], ...]:
    """For each module whose weight the patterns match: the form of its flattened name, and its name."""
    templates = dict.fromkeys(
        text.removesuffix(".weight")
        for pattern in patterns
        for text in written_out(pattern)
        if text.endswith(".weight")
    )
    return tuple((re.compile(re.escape(flat(text)).replace(r"\#", r"(\d+)")), text) for text in templates)


def respell(rules: tuple[Rule, ...], state: Mapping[str, LazyTensor]) -> dict[str, TracedTensor]:
    """Tensors by the names, and in the parts, that a family's rules give them; others keep theirs."""
    return run_rules(
        rules, {name: TracedTensor(one, (name,)) for name, one in state.items()}, Context({}, {}), {}
    )
