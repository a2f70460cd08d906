"""Tiny configs from the programs' own dataclasses: what a field is where none gives it."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from tests.derive.shrink import number_for, shrunk

Config = dict[str, Any]


def filled(config: Mapping[str, Any], cls: type, needed_only: bool = False) -> Config:
    """The config with what a dataclass of the program has and the config does not: all, or what it needs."""
    if not dataclasses.is_dataclass(cls):
        return dict(config)
    result = dict(config)
    for one in dataclasses.fields(cls):
        if (one.name in result and result[one.name] is not None) or not one.init:
            continue
        if one.name in result and result[one.name] is None and "rope_scaling" in one.name:
            continue
        required = one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING
        if required:
            result[one.name] = guessed(one.name, one.type)
        elif one.default is not dataclasses.MISSING and not needed_only:
            result[one.name] = shrunk({one.name: one.default}).get(one.name)
    return result


def guessed(name: str, annotation: Any) -> Any:
    """A value for a field that must be there."""
    text = str(annotation)
    number = number_for(name)
    if "rope_scaling" in name:
        return None
    if "bool" in text:
        return False
    if "str" in text and "List" not in text and "list" not in text:
        return "silu" if "act" in name else ("model" if name == "model_type" else name)
    if "int" in text and "Dict" not in text and "List" not in text:
        return number if number is not None else 2
    if "float" in text and "Dict" not in text:
        return 1e-5 if "eps" in name else (10000.0 if "theta" in name or "base" in name else 1.0)
    if "List" in text or "list" in text:
        return []
    return {}


def nested(config: Config, cls: type) -> Config:
    """Fields that hold other dataclasses of the program, filled in turn."""
    try:
        hints = typing.get_type_hints(cls)
    except Exception:
        hints = {}
    for name, hint in hints.items():
        kinds = [hint, *typing.get_args(hint)]
        kind = next((one for one in kinds if isinstance(one, type) and dataclasses.is_dataclass(one)), None)
        if kind is not None:
            config[name] = nested(filled(plain(config.get(name)), kind), kind)
    return {key: plain(value) if dataclasses.is_dataclass(value) else value for key, value in config.items()}


def plain(value: Any) -> Config:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return shrunk(dataclasses.asdict(value))
    return dict(value) if isinstance(value, Mapping) else {}
