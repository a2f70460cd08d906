"""A layout as a TOML file: each rule a line that begins with the primitive's name, as tables have it.

    model_types = ["my_model"]
    rules = [
      { rename = "visual.**", to = "vision_tower.**" },
      { transpose = "vision_tower.conv.weight", as = "conv2d", last = "vision_config.num_channels" },
    ]

`read` refuses a file with the line at fault; `write` prints any layout so that `parse` gives it back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from wconv.errors import LayoutError
from wconv.layouts.apply import Layout
from wconv.layouts.file import layer_rules, toml_text
from wconv.layouts.file.fields import (
    FORM,
    MAKER,
    PATTERNS,
    TEXT,
    TEXTS,
    TEXTS_BY_NAME,
    WHEN,
    WrongRuleError,
    several,
)
from wconv.layouts.file.primitives import PRIMITIVES, VERBS, Key, check
from wconv.layouts.file.toml_lines import Lines
from wconv.layouts.rules import Rule

TOP = {
    "derived_from": Key("derived_from", TEXTS_BY_NAME),
    "where": Key("where", several(WHEN)),
    "consumers": Key("consumers", TEXTS),
    "model_types": Key("model_types", TEXTS),
    "command": Key("command", TEXT),
    "recognised_by": Key("recognised_by", TEXTS),
    "names": Key("names", PATTERNS),
    "form": Key("form", FORM),
    "casts": Key("casts", TEXTS_BY_NAME),
    "config": Key("config", MAKER),
}
SECTIONS = {"spellings": "alias_rules", "rules": "rules"}
"""The lists of rules in a rules file → the attribute of a layout."""

QUANTIZE = "quantize"
"""The list of rules on quantization, and the attribute of a layout."""

MOST_RULES = 1_000
"""Rules of a section at most: the longest table has thirty."""


def read(path: str | Path) -> Layout:
    """The layout that a rules file describes.

    Raises:
        LayoutError: it cannot be read, or says something that is no layout: the line is named.
    """
    return parse(toml_text.read(path), str(path))


def parse(text: str, where: str = "rules") -> Layout:
    """The layout that TOML text describes. Raises LayoutError as `read` does; `where` names the text."""
    content = toml_text.parse(text, where)
    lines = Lines(text)
    values: dict[str, Any] = {"consumers": ("mlx",), "model_types": (), "names": ("**",)}
    for key, value in content.items():
        try:
            if key in SECTIONS or key == QUANTIZE:
                continue
            if key not in TOP:
                raise WrongRuleError(
                    f"{key!r} is no key of a rules file: one of {', '.join((*TOP, *SECTIONS, QUANTIZE))}"
                )
            values[TOP[key].attribute] = TOP[key].kind.read(value, key)
        except WrongRuleError as wrong:
            raise LayoutError(f"{where}:{lines.of(key)}: {wrong}") from None
    for section, attribute in SECTIONS.items():
        values[attribute] = _rules(content.get(section, []), section, lines, where, _rule)
    values[QUANTIZE] = _rules(content.get(QUANTIZE, []), QUANTIZE, lines, where, layer_rules.read)
    if "rules" not in content:
        raise LayoutError(f"{where}: there are no rules in it")
    if not values["consumers"]:
        raise LayoutError(f"{where}:{lines.of('consumers')}: consumers must name one at least")
    return Layout(**values)


def _rules(
    listed: Any, section: str, lines: Lines, where: str, read_one: Callable[[Any], Any]
) -> tuple[Any, ...]:
    if not isinstance(listed, list):
        raise LayoutError(f"{where}:{lines.of(section)}: {section} must be a list of rules")
    if len(listed) > MOST_RULES:
        raise LayoutError(
            f"{where}:{lines.of(section)}: {len(listed):,} {section} are more than {MOST_RULES:,}:"
            " write a pattern for the names that are alike"
        )
    found: list[Any] = []
    for at, entry in enumerate(listed):
        try:
            found.append(read_one(entry))
        except WrongRuleError as wrong:
            raise LayoutError(f"{where}:{lines.of(section, at, wrong.key)}: {wrong}") from None
        except LayoutError as error:
            raise LayoutError(f"{where}:{lines.of(section, at)}: {error}") from None
    return tuple(found)


def _rule(entry: Any) -> Rule:
    if not isinstance(entry, Mapping):
        raise WrongRuleError(f'{entry!r:.60} is no rule: write {{ rename = "…", to = "…" }}')
    verbs = [key for key in entry if key in PRIMITIVES]
    if len(verbs) != 1:
        wrong_verbs = f"{verbs[0]} and {verbs[1]} in one rule" if verbs else "no primitive in this rule"
        raise WrongRuleError(f"{wrong_verbs}: begin it with one of {', '.join(PRIMITIVES)}")
    primitive = PRIMITIVES[verbs[0]]
    keys = {verbs[0]: Key("source", primitive.source), **primitive.keys, "when": Key("when", WHEN)}
    values: dict[str, Any] = {}
    for key, value in entry.items():
        if key not in keys:
            raise WrongRuleError(f"{key!r} is no key of {verbs[0]}: one of {', '.join(list(keys)[1:])}", key)
        values[keys[key].attribute] = keys[key].kind.read(value, key)
    missing = [key for key, one in keys.items() if one.required and key not in entry]
    if missing:
        raise WrongRuleError(f"{verbs[0]} needs {missing[0]!r}")
    rule = primitive.rule(**{**primitive.defaults, **values})
    check(rule)
    return rule


def write(layout: Layout) -> str:
    """A layout as the text of a rules file, which `parse` reads back as an equal one.

    Raises:
        LayoutError: a rule of it has no form in TOML.
    """
    parts = [
        f"{key} = {_listed(one.kind.write(value))}\n"
        for key, one in TOP.items()
        if (value := getattr(layout, one.attribute))
    ]
    for section, attribute in SECTIONS.items():
        rules = getattr(layout, attribute)
        if rules or section == "rules":
            body = "".join(f"  {_inline(_plain(rule))},\n" for rule in rules)
            parts.append(f"\n{section} = [\n{body}]\n")
    if layout.quantize:
        body = "".join(f"  {_inline(layer_rules.plain(rule))},\n" for rule in layout.quantize)
        parts.append(f"\n{QUANTIZE} = [\n{body}]\n")
    return "".join(parts)


def _plain(rule: Rule) -> dict[str, Any]:
    verb = VERBS.get(type(rule))
    if verb is None:
        raise LayoutError(f"{type(rule).__name__} has no form in a rules file ({rule})")
    primitive = PRIMITIVES[verb]
    defaults = {field.name: field.default for field in fields(rule)}
    plain = {verb: primitive.source.write(rule.source)}
    for key, one in {**primitive.keys, "when": Key("when", WHEN)}.items():
        value = getattr(rule, one.attribute)
        if one.required or value != defaults[one.attribute]:
            plain[key] = one.kind.write(value)
    return plain


def _listed(value: Any) -> str:
    """A list of several texts on a line each; anything else as in a rule."""
    if isinstance(value, list) and len(value) > 3:
        return "[\n" + "".join(f"  {_inline(item)},\n" for item in value) + "]"
    return _inline(value)


def _inline(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_inline(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_inline(item) for item in value) + "]"
    raise LayoutError(f"{value!r:.60} has no form in a rules file")


def _quoted(text: str) -> str:
    import json

    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
