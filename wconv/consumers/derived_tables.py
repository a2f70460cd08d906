"""When a table counts that was derived from a program itself: if it accounts for all names of a checkpoint.

Another checkpoint passes as it would without a table.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from wconv.consumers import registry, table_files
from wconv.consumers.consumer import Consumer
from wconv.consumers.load_commands import likeliest_first
from wconv.errors import LayoutError
from wconv.layouts.apply import Layout, fitting, is_known, matches
from wconv.layouts.conditions import Context, Setting, When
from wconv.layouts.patterns import compile_pattern
from wconv.layouts.reverse_rules import JoinRule, UnstackRule
from wconv.layouts.rules import CopyRule, DropRule, Rule

NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")
"""A number between dots."""

TOO_LONG = re.compile(r"\d{10}")
"""A number that counts no layer or expert of any model."""


def choose(name: str, config: Mapping[str, Any], names: Collection[str]) -> Layout | None:
    """The derived table for a model; None where there is none that accounts for all of its names.

    Args:
        name: a consumer, or "auto" for the one that runs the model.
        config: the model's config.json.
        names: the source's tensor names; without any, the table is given as it stands.
    """
    model_type = str(config.get("model_type", "")).lower()
    named = registry.find_consumer(name)
    asked = likeliest_first(config) if name == registry.AUTO else [named] if named is not None else []
    asked = [one for one in asked if one.table_folder]
    running = next((one for one in asked if name != registry.AUTO or _has(one, model_type)), None)
    for consumer in asked:
        layout = table_files.find(consumer.table_folder, model_type)
        if layout is None or not layout.derived_from:
            continue
        # another than the one that runs it must not lay out anew what that one loads as it is
        if accounts_for(layout, config, names) if consumer is running else is_laid_out(layout, names):
            return layout
    return None


def laid_out_already(
    name: str, written: Layout, config: Mapping[str, Any], names: Collection[str]
) -> Layout | None:
    """The derived table in whose layout the names are already, of another consumer than a written one's."""
    first = tuple(itertools.islice(names, 1))
    if not first or fitting(written.names, first):
        return None
    model_type = str(config.get("model_type", "")).lower()
    for one in likeliest_first(config):
        if one.table_folder and one.name != written.consumers[0] and name in (registry.AUTO, one.layout_name):
            layout = table_files.find(one.table_folder, model_type)
            if layout is not None and layout.derived_from and is_laid_out(layout, names):
                return layout
    return None


def why_not(name: str, config: Mapping[str, Any], names: Collection[str]) -> str:
    """Why a consumer's derived table does not count for a checkpoint; "" where there is none, or it does."""
    consumer = registry.find_consumer(name)
    folder = consumer.table_folder if consumer is not None else ""
    layout = table_files.find(folder, str(config.get("model_type", "")).lower()) if folder else None
    if layout is None or not layout.derived_from:
        return ""
    odd = unaccounted(layout, config, names)
    return f"its table of {layout.model_type} does not account for {odd}" if odd else ""


def _has(consumer: Consumer, model_type: str) -> bool:
    known = consumer.known_models() if consumer.known_models is not None else None
    return known is not None and any(one.lower() == model_type for one in known.model_types)


def accounts_for(layout: Layout, config: Mapping[str, Any], names: Collection[str]) -> bool:
    """Whether all names become names that the consumer knows, by the rules or because they are such names."""
    return not unaccounted(layout, config, names)


def unaccounted(layout: Layout, config: Mapping[str, Any], names: Collection[str]) -> str:
    """What a table does not account for: a name, a setting, or the lack of a field that a rule depends on.

    Returns:
        It, as a clause after "does not account for"; "" where there is nothing.
    """
    if not names:
        return ""
    context = Context(config, {})
    if broken := next((one for one in layout.where if not one.holds(context)), None):
        return f"{broken.what} being other than {broken.equals!r}"
    lacking = (one for rule in layout.rules for one in _settings(rule) if not _is_there(one, context))
    if (setting := next(lacking, None)) is not None:
        return f"the lack of the field {setting.path}"
    if odd := next((name for name in names if TOO_LONG.search(name)), ""):
        return f"the tensor {odd:.80}"
    current = _unlike(layout, names, context)
    for rule in (*layout.alias_rules, *layout.rules):
        if rule.active(context):
            current = _after(rule, current, context)
    quantized = bool(config.get("quantization"))
    strange = (name for name in current if not is_known(layout.names, name, quantized))
    return next((f"the tensor {name:.80}" for name in strange), "")


def _unlike(layout: Layout, names: Collection[str], context: Context) -> list[str]:
    """Names that stand for all, where others differ in a number alone that no rule looks at."""
    texts = [*layout.names]
    for rule in layout.rules:
        texts += (rule.source, *rule.targets, *getattr(rule, "others", ()))
    literal = set(re.findall(r"\d+", " ".join(texts)))
    drops = (rule for rule in layout.rules if isinstance(rule, DropRule))
    limits = [rule.beyond.number(context) for rule in drops if rule.beyond]

    def plain(found: re.Match[str]) -> str:
        number = found[0]
        if number in literal:
            return number
        return str(max((limit for limit in limits if int(number) >= limit), default=0))

    return list({NUMBER.sub(plain, name): None for name in names})


def is_laid_out(layout: Layout, names: Collection[str]) -> bool:
    """Whether all names are the consumer's already, and some are by the rules."""
    if not fitting(layout.names, itertools.islice(names, 1)):
        return False
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


def _is_there(setting: Setting, context: Context) -> bool:
    try:
        setting.number(context)
    except LayoutError:
        return False
    return True


def _after(rule: Rule, names: list[str], context: Context) -> list[str]:
    """The names after a rule, by its patterns alone."""
    if isinstance(rule, DropRule):
        drops = rule.dropping(context)
        return [name for name in names if not drops(name)]
    if not rule.targets or isinstance(rule, CopyRule):
        return names
    pattern = rule.pattern
    used = rule.others if isinstance(rule, JoinRule) else ()
    result: dict[str, None] = {}
    for name in names:
        match = pattern.match(name)
        if match is not None:
            match = replace(match, index=0) if isinstance(rule, UnstackRule) else match
            result.update(
                dict.fromkeys(compile_pattern(target).render(match, pattern) for target in rule.targets)
            )
        elif not any(compile_pattern(other).match(name) for other in used):
            result[name] = None
    return list(result)
