"""Tables that were derived from the consumers themselves: a rules file for a model type, read when asked for.

They stand in `<consumer>/tables/<model_type>.toml`, as `python -m tests.derive` writes them. A file may say
`same_as = "llama"` in place of rules. A table counts only for a checkpoint of which it accounts for every
name: another passes as it would without one.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from importlib.resources import files
from typing import Any

from wconv.errors import LayoutError
from wconv.layouts.engine import Layout, matches
from wconv.layouts.known_model_types import KNOWN
from wconv.layouts.opposites import Join, Unstack
from wconv.layouts.patterns import compile_pattern
from wconv.layouts.rules import Copy, Drop, Rule
from wconv.layouts.settings import Context, Setting, When

CONSUMERS = ("mlx-lm", "mlx-vlm")
"""In the order in which "auto" asks them; the other way round for a model that sees or hears."""

SEEING = ("vision_config", "audio_config", "vit_config", "visual")
"""Fields of config.json of models that are more than a language model."""

SAME_AS = re.compile(r'^same_as = "([a-z0-9_.-]+)"$', re.MULTILINE)
QUANTIZED = re.compile(r"\.(scales|biases)$")
"""Companions of a weight that is quantized in MLX's own way; other ways want decoding."""

NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")
"""A number between dots."""

TOO_LONG = re.compile(r"\d{10}")
"""A number that counts no layer or expert of any model."""

FILE_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")


def choose(name: object, config: Mapping[str, Any] | None, names: Collection[str]) -> Layout | None:
    """The derived table for a model; None where there is none that accounts for all of its names.

    Args:
        name: a consumer, or "auto" for the one that runs the model.
        config: the model's config.json.
        names: the source's tensor names; without any, the table is given as it stands.
    """
    config = config or {}
    model_type = str(config.get("model_type", "")).lower()
    order = list(CONSUMERS)
    if any(isinstance(config.get(field), Mapping) for field in SEEING):
        order.reverse()
    asked = [consumer for consumer in order if name in ("auto", consumer) and model_type in KNOWN[consumer]]
    for at, consumer in enumerate(asked):
        layout = find(consumer, model_type)
        if layout is None:
            continue
        # one that is asked second must not lay out anew what the first loads as it is
        if accounts_for(layout, config, names) if at == 0 else is_laid_out(layout, names):
            return layout
    return None


def model_types(consumer: str) -> Iterator[str]:
    """Every model type that has a derived table, without reading any."""
    folder = files(__package__ or "wconv.consumers") / consumer.replace("-", "_") / "tables"
    if folder.is_dir():
        yield from sorted(
            one.name.removesuffix(".toml") for one in folder.iterdir() if one.name.endswith(".toml")
        )


@functools.lru_cache(maxsize=8)
def find(consumer: str, model_type: str) -> Layout | None:
    """The derived table of a model type, by its own file, or the one that this says it is the same as.

    Raises:
        LayoutError: the file is not a rules file.
    """
    from wconv.layouts.rules_file import parse

    wanted = model_type
    for _ in range(2):
        text = _text(consumer, wanted)
        if text is None:
            return None
        same = SAME_AS.search(text)
        if same is None:
            layout = parse(text, f"{consumer}/{wanted}.toml")
            return replace(layout, model_types=(model_type,))
        wanted = same[1]
    return None


def _text(consumer: str, model_type: str) -> str | None:
    if not FILE_NAME.fullmatch(model_type):
        return None
    folder = files(__package__ or "wconv.consumers") / consumer.replace("-", "_") / "tables"
    entry = folder / f"{model_type}.toml"
    return entry.read_text(encoding="utf-8") if entry.is_file() else None


def accounts_for(layout: Layout, config: Mapping[str, Any], names: Collection[str]) -> bool:
    """Whether all names become names that the consumer knows, by the rules or because they are such names.

    Not so where a rule depends on a field that config.json does not have.
    """
    context = Context(config, {})
    if names and not all(_has(setting, context) for rule in layout.rules for setting in _settings(rule)):
        return False
    known = layout.names
    if any(TOO_LONG.search(name) for name in names):
        return False
    current = _unlike(layout, names, context)
    for rule in (*layout.spellings, *layout.rules):
        if rule.active(context):
            current = _after(rule, current, context)
    quantized = bool(config.get("quantization"))
    return all(
        matches(known, name) or (quantized and matches(known, QUANTIZED.sub(".weight", name)))
        for name in current
    )


def _unlike(layout: Layout, names: Collection[str], context: Context) -> list[str]:
    """Names that stand for all, where others differ in a number alone that no rule looks at."""
    texts = [*layout.names]
    for rule in layout.rules:
        texts += (rule.source, *rule.targets, *getattr(rule, "others", ()))
    literal = set(re.findall(r"\d+", " ".join(texts)))
    limits = [rule.beyond.number(context) for rule in layout.rules if isinstance(rule, Drop) and rule.beyond]

    def plain(found: re.Match[str]) -> str:
        number = found[0]
        if number in literal:
            return number
        return str(max((limit for limit in limits if int(number) >= limit), default=0))

    return list({NUMBER.sub(plain, name): None for name in names})


def is_laid_out(layout: Layout, names: Collection[str]) -> bool:
    """Whether all names are the consumer's already, and some are by the rules."""
    targets = tuple(target for rule in layout.rules for target in rule.targets)
    return all(matches(layout.names, name) for name in names) and any(
        matches(targets, name) for name in names
    )


def _settings(value: Any) -> Iterator[Setting]:
    """The fields of config.json that a rule depends on."""
    if isinstance(value, Setting):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _settings(item)
    elif is_dataclass(value) and not isinstance(value, When):
        for one in fields(value):
            yield from _settings(getattr(value, one.name))


def _has(setting: Setting, context: Context) -> bool:
    try:
        setting.number(context)
    except LayoutError:
        return False
    return True


def _after(rule: Rule, names: list[str], context: Context) -> list[str]:
    """The names after a rule, by its patterns alone."""
    if isinstance(rule, Drop):
        drops = rule.dropping(context)
        return [name for name in names if not drops(name)]
    if not rule.targets or isinstance(rule, Copy):
        return names
    pattern = rule.pattern
    used = rule.others if isinstance(rule, Join) else ()
    result: dict[str, None] = {}
    for name in names:
        match = pattern.match(name)
        if match is not None:
            match = replace(match, index=0) if isinstance(rule, Unstack) else match
            result.update(
                dict.fromkeys(compile_pattern(target).render(match, pattern) for target in rule.targets)
            )
        elif not any(compile_pattern(other).match(name) for other in used):
            result[name] = None
    return list(result)
