"""How the values of a rules file read and write: texts, numbers, settings and conditions."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from wconv.errors import LayoutError
from wconv.layouts.conditions import Option, Setting, When
from wconv.layouts.file_form import Form
from wconv.layouts.patterns import check_bounds

LONGEST_PATH = 200
"""Characters in which a rule names a field of config.json at most."""

MOST_VALUES = 10_000
"""Values of a list at most."""


class WrongRuleError(LayoutError):
    """Something in a rules file that is no rule; `key` says where in its rule, if anywhere."""

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True, slots=True)
class ValueKind:
    """A kind of value: how it is read from TOML (value, key; raises WrongRuleError) and written to it."""

    read: Callable[[Any, str], Any]
    write: Callable[[Any], Any] = lambda value: value


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str) or not value:
        raise WrongRuleError(f"{key} must be a text, not {value!r:.60}", key)
    return value


def _pattern(value: Any, key: str) -> str:
    text = _text(value, key)
    try:
        check_bounds(text)
    except LayoutError as error:
        raise WrongRuleError(str(error), key) from None
    return text


def _number(value: Any, key: str) -> int:
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise WrongRuleError(f"{key} must be a whole number, not {value!r:.60}", key)
    return value


def _any_number(value: Any, key: str) -> float:
    if type(value) not in (int, float):
        raise WrongRuleError(f"{key} must be a number, not {value!r:.60}", key)
    if not math.isfinite(value):
        raise WrongRuleError(f"{key} must be a finite number, not {value!r:.60}", key)
    return float(value)


def _flag(value: Any, key: str) -> bool:
    if not isinstance(value, bool):
        raise WrongRuleError(f"{key} must be true or false, not {value!r:.60}", key)
    return value


def _setting(value: Any, key: str) -> Setting:
    if isinstance(value, str) and value:
        return Setting(_path(value, key))
    if not isinstance(value, Mapping) or not {"setting"} <= set(value) <= {"setting", "default"}:
        raise WrongRuleError(
            f'{key} must be a field of config.json: "name", or {{ setting = "name", default = 1 }},'
            f" not {value!r:.60}",
            key,
        )
    return Setting(_path(value["setting"], key), value.get("default"))


def _path(value: Any, key: str) -> str:
    text = _text(value, key)
    if len(text) > LONGEST_PATH:
        raise WrongRuleError(f"{key} names a field in {len(text):,} characters", key)
    return text


def _plain_setting(value: Setting) -> Any:
    return value.path if value.default is None else {"setting": value.path, "default": value.default}


def _number_or_setting(value: Any, key: str) -> int | Setting:
    return value if type(value) is int else _setting(value, key)


def _plain_number_or_setting(value: int | Setting) -> Any:
    return _plain_setting(value) if isinstance(value, Setting) else value


def several(kind: ValueKind) -> ValueKind:
    """A list of values of a kind."""

    def read(value: Any, key: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise WrongRuleError(f"{key} must be a list, not {value!r:.60}", key)
        if len(value) > MOST_VALUES:
            raise WrongRuleError(f"{key} has {len(value):,} values: more than {MOST_VALUES:,}", key)
        return tuple(kind.read(item, key) for item in value)

    return ValueKind(read, lambda value: [kind.write(item) for item in value])


def pair(first: ValueKind, second: ValueKind) -> ValueKind:
    """A list of two values."""

    def read(value: Any, key: str) -> tuple[Any, Any]:
        if not isinstance(value, list) or len(value) != 2:
            raise WrongRuleError(f"{key} must be a list of two, not {value!r:.60}", key)
        return first.read(value[0], key), second.read(value[1], key)

    return ValueKind(read, lambda value: [first.write(value[0]), second.write(value[1])])


def _texts_by_name(value: Any, key: str) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise WrongRuleError(f'{key} must be texts by name, {{ name = "text" }}, not {value!r:.60}', key)
    return {name: _text(text, f"{key}.{name}") for name, text in value.items()}


def _form(value: Any, key: str) -> Form:
    keys = set(value) if isinstance(value, Mapping) else set()
    if not {"shard", "max_shard_size"} <= keys <= {"shard", "max_shard_size", "metadata"}:
        raise WrongRuleError(
            f'{key} must be {{ shard = "{{number}}.safetensors", max_shard_size = 1000, metadata = {{}} }},'
            f" not {value!r:.60}",
            key,
        )
    shard = _text(value["shard"], key)
    if not re.fullmatch(r"[\w.-]*(\{number\}[\w.-]*)?\.safetensors", shard):
        raise WrongRuleError(f"{shard!r} is no name of numbered files: 'model-{{number}}.safetensors'", key)
    metadata = _texts_by_name(value.get("metadata", {}), "metadata")
    return Form(shard, _number(value["max_shard_size"], key), metadata)


def _plain_form(value: Form) -> dict[str, Any]:
    sizes = {"shard": value.shard, "max_shard_size": value.max_shard_size}
    return {**sizes, "metadata": dict(value.metadata)}


def _maker(value: Any, key: str) -> str:
    """The name of what makes a config; whether there is such a maker the consumers know."""
    return _text(value, key)


def _when(value: Any, key: str) -> When:
    keys = set(value) if isinstance(value, Mapping) else set()
    if len(keys & {"setting", "option"}) != 1 or keys - {"setting", "option", "default", "is", "is_not"}:
        raise WrongRuleError(
            f'{key} must be a condition: {{ setting = "tie_word_embeddings", default = true, is = true }},'
            f" not {value!r:.60}",
            key,
        )
    if "is" in keys and "is_not" in keys:
        raise WrongRuleError(f"{key} has both is and is_not", key)
    what: Setting | Option
    if "setting" in keys:
        what = Setting(_path(value["setting"], key), value.get("default"))
    else:
        what = Option(_text(value["option"], key), value.get("default", False))
    equals = value["is_not"] if "is_not" in keys else value.get("is", True)
    return When(what, equals, negated="is_not" in keys)


def _plain_when(value: When) -> dict[str, Any]:
    if isinstance(value.what, Setting):
        plain: dict[str, Any] = {"setting": value.what.path}
        unless: Any = None
    else:
        plain, unless = {"option": value.what.name}, False
    if value.what.default is not unless:
        plain["default"] = value.what.default
    plain["is_not" if value.negated else "is"] = value.equals
    return plain


TEXT = ValueKind(_text)
TEXTS = several(TEXT)
PATTERN = ValueKind(_pattern)
PATTERNS = several(PATTERN)
NUMBER = ValueKind(_number)
ANY_NUMBER = ValueKind(_any_number)
FLAG = ValueKind(_flag)
SETTING = ValueKind(_setting, _plain_setting)
LENGTH = ValueKind(_number_or_setting, _plain_number_or_setting)
LENGTHS = several(LENGTH)
TEXTS_BY_NAME = ValueKind(_texts_by_name, dict)
FORM = ValueKind(_form, _plain_form)
MAKER = ValueKind(_maker)
WHEN = ValueKind(_when, _plain_when)
