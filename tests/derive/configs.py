"""Tiny configs from a program's own classes, in the variants that models want."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.derive import overrides
from tests.derive.override_values import EVERY_ROPE, MIXED
from tests.derive.programs import Program, own_config

Config = dict[str, Any]


def plain_config(prog: Program, model_type: str) -> Config:
    config = own_config(prog, model_type)
    if prog.name == "mlx-vlm":
        for name, cls in (("vision_config", "VisionModel"), ("text_config", "LanguageModel")):
            part = config.get(name)
            if isinstance(part, dict) and part.get("model_type") in (None, "model"):
                part.update(_model_type_in_code(prog, model_type, cls))
    return config


def _model_type_in_code(prog: Program, model_type: str, cls: str) -> Config:
    """The first model type that a part of a model says it takes."""
    module = prog.module(model_type)
    classes = [base for one in (getattr(module, cls, None), module.Model) if one for base in one.__mro__]
    for home in dict.fromkeys(base.__module__ for base in classes if "mlx_" in base.__module__):
        path = Path(str(importlib.import_module(home).__file__)).parent / (
            "vision.py" if cls[0] == "V" else "language.py"
        )
        if path.exists():
            found = re.search(r"model_type (?:not in|==|!=|in) [\[({]?\s*\"([\w-]+)\"", path.read_text())
            if found:
                return {"model_type": found[1]}
    return {}


def hoisted_config(prog: Program, model_type: str) -> Config:
    """With the language model's fields at the root, where some programs read them."""
    config = plain_config(prog, model_type)
    text = config.get("text_config")
    if isinstance(text, dict):
        config.update({key: value for key, value in text.items() if key != "model_type"})
    return config


def rope_config(prog: Program, model_type: str) -> Config:
    """With everything about rotary embeddings that a program may ask for, and a kind for every layer."""
    config = hoisted_config(prog, model_type)
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        if "hidden_size" in part or "num_hidden_layers" in part:
            for name in ("rope_parameters", "rope_scaling"):
                if name in part and not part[name]:
                    part[name] = dict(EVERY_ROPE)
            if part.get("rope_theta") is None:
                part["rope_theta"] = 10000.0
            for name, number in (("head_dim", 16), ("num_key_value_heads", 2)):
                if name in part and not isinstance(part[name], int):
                    part[name] = number
            if not part.get("layer_types"):
                part["layer_types"] = list(MIXED)
    return config


def smaller_config(prog: Program, model_type: str) -> Config:
    """With every number that is still large made small."""
    config = hoisted_config(prog, model_type)
    lessen(config)
    return config


def lessen(config: Config) -> None:
    """Makes every number that is still large small."""
    for key, value in config.items():
        if isinstance(value, dict):
            lessen(value)
        elif type(value) is int and value > 128 and not key.endswith(("_id", "_index", "token", "_ids")):
            config[key] = 272 if "vocab" in key else 64
        elif isinstance(value, list | tuple) and any(type(one) is int and one > 96 for one in value):
            config[key] = [min(one, 64) if type(one) is int else one for one in value]


def set_numbers(config: Config, changes: Mapping[str, Any]) -> None:
    """Other numbers for the fields that the config has, at the root and in its parts."""
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        for key, value in changes.items():
            if key in part and type(value) is int and type(part[key]) is int:
                part[key] = value


def expanded(prog: Program, fields: Mapping[str, Any]) -> Config:
    """The fields, with the tiny configs of other models that some stand for."""
    result: Config = {}
    for key, value in fields.items():
        if isinstance(value, Mapping):
            inner = dict(value)
            other = inner.pop("@own", None)
            base = own_config(prog, other) if other else {}
            if other:
                merge(base, expanded(prog, overrides.consumer(prog.name, other)))
            merge(base, expanded(prog, inner))
            result[key] = base
        else:
            result[key] = value
    return result


def merge(config: Config, changes: Mapping[str, Any]) -> None:
    """Puts changes into a config, into its parts, too."""
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(config.get(key), dict):
            merge(config[key], value)
        else:
            config[key] = value


def set_everywhere(config: Config, changes: Mapping[str, Any]) -> None:
    """Sets fields that are not numbers wherever the config has them: at the root and in its parts."""
    for key, value in changes.items():
        if type(value) is int:
            continue
        if key in config or key == "tie_word_embeddings":
            config[key] = value
        for inner in config.values():
            if isinstance(inner, dict) and key in inner:
                inner[key] = value
