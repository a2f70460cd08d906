"""What a program would find in config.json: fields, numbers that are tagged, how weights are quantized."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wconv.checkpoints.checkpoint import Checkpoint
from wconv.consumers import load_commands
from wconv.consumers.consumer import Consumer
from wconv.consumers.mlx import config_fields
from wconv.examine.doctor.problem import Problem, converting
from wconv.quantized.schemes import MLX

CONFIG = "config.json"

TAG = "__float__"
"""The one field of an object that stands for a number which JSON lacks."""

DEPTH = 8
"""Levels of config.json that are looked at."""

FEW = 4
"""Fields that are told before the rest are counted."""

BITS = (2, 3, 4, 5, 6, 8)
GROUPS = (32, 64, 128)

OF_HIDDEN = (
    *(
        "embed_tokens",
        "q_proj",
        "k_proj",
        "v_proj",
        "gate_proj",
        "up_proj",
        "lm_head",
        "qkv_proj",
        "gate_up_proj",
    ),
)
"""Modules whose input is as long as `hidden_size`."""


def fields(directory: Path, config: Mapping[str, Any], consumer: Consumer) -> Iterator[Problem]:
    """Fields that the program reads and that stand elsewhere, under another name, or nowhere."""
    known = consumer.known_models() if consumer.known_models is not None else None
    required = known.required.get(str(config.get("model_type")), ()) if known is not None else ()
    added = config_fields.normalise(config)[1]
    missing = [name for name in required if name not in config and name not in added]
    if missing:
        text = f"lacks {_few(missing)}, without which {consumer.name} makes no {config.get('model_type')}"
        edit = f"copy {CONFIG} into {directory} from where the weights come from"
        yield Problem("config fields", "error", CONFIG, text, edit=edit)
    elsewhere = fields_elsewhere(config)
    if elsewhere:
        text = (
            f"says {_few(elsewhere)} in a newer way than {consumer.name} reads:"
            " it fails, or takes its own defaults"
        )
        yield Problem("config fields", "wrong", CONFIG, text, converting(directory))


def fields_elsewhere(config: Mapping[str, Any]) -> list[str]:
    """Fields that stand in config.json otherwise than programs read them, and say something."""
    new, added = config_fields.normalise(config)
    return [name for name in added if name not in config_fields.OF_ROOT and _at(new, name) is not None]


def _at(config: Mapping[str, Any], path: str) -> Any:
    part, dot, name = path.rpartition(".")
    home = config.get(part) if dot else config
    return home.get(name) if isinstance(home, Mapping) else None


def _few(names: list[str]) -> str:
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return ", ".join(names[:FEW]) + more


def tagged_floats(config: Mapping[str, Any], consumer: Consumer) -> Iterator[Problem]:
    """Infinity and NaN that are written as objects, for programs that take those for objects."""
    if consumer.needs is None or consumer.needs.decodes_tagged_floats:
        return
    for path, value in _tagged(config, "", 0):
        text = f"has {path[:200]} as an object, which {consumer.name} takes for no number"
        edit = f'in {CONFIG}, write {value} in place of {{"{TAG}": "{value}"}} at {path[:200]}'
        yield Problem("tagged float", "wrong", CONFIG, text, edit=edit)


def _tagged(value: Any, path: str, depth: int) -> Iterator[tuple[str, str]]:
    if depth > DEPTH:
        return
    if isinstance(value, Mapping):
        if set(value) == {TAG} and value[TAG] in ("Infinity", "-Infinity", "NaN"):
            yield path, value[TAG]
            return
        for name, inner in value.items():
            yield from _tagged(inner, f"{path}.{name}" if path else str(name), depth + 1)
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from _tagged(inner, f"{path}[{at}]", depth + 1)


def quantization(
    directory: Path, opened: Checkpoint, config: Mapping[str, Any], consumer: Consumer, scheme: str
) -> Iterator[Problem]:
    """What config.json says of weights in few bits, and what the weights are.

    Args:
        scheme: in which weights are stored; "" where all are plain.
    """
    settings = config.get("quantization")
    if isinstance(settings, Mapping):
        missing = [name for name in ("group_size", "bits") if name not in settings]
        if missing:
            found = _settings(opened, config)
            fill = ", ".join(f'"{name}": {found[name]}' for name in missing) if found else ""
            edit = f'in {CONFIG}, add {fill} to "quantization"' if fill else ""
            text = f'has no {" and no ".join(missing)} in "quantization"'
            yield Problem("quantization", "error", CONFIG, text, edit=edit)
        yield from _entries(opened, settings, consumer)
        return
    if load_commands.stored_quantization(config) is None:
        if scheme == MLX.name:
            found = _settings(opened, config)
            edit = f'in {CONFIG}, add "quantization": {_json(found)}' if found else ""
            text = 'has no "quantization", and the weights are quantized for MLX'
            yield Problem("quantization", "error", CONFIG, text, edit=edit)
        return
    plain = {name: value for name, value in config.items() if name != "quantization_config"}
    why = load_commands.doubt(consumer, config)
    if why and not load_commands.doubt(consumer, plain):
        yield Problem("quantization", "wrong", CONFIG, why, converting(directory))


def _entries(opened: Checkpoint, settings: Mapping[str, Any], consumer: Consumer) -> Iterator[Problem]:
    """Entries for single layers that are not quantized: the program looks for their scales."""
    wrong = [
        name
        for name, entry in settings.items()
        if isinstance(entry, Mapping) and f"{name}.weight" in opened and f"{name}.scales" not in opened
    ]
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        text = f'says in "quantization" that {wrong[0][:120]} is quantized{more}, and it is not'
        edit = f'in {CONFIG}, delete {_few([name[:120] for name in wrong])} from "quantization"'
        yield Problem("quantization", "error", CONFIG, text, edit=edit)


def _settings(opened: Checkpoint, config: Mapping[str, Any]) -> dict[str, int] | None:
    """Bits and groups of weights whose input is known to be as long as `hidden_size`."""
    text = config.get("text_config")
    parts = (text if isinstance(text, Mapping) else {}, config)
    hidden = next((part["hidden_size"] for part in parts if isinstance(part.get("hidden_size"), int)), 0)
    found: set[tuple[int, int]] = set()
    for name in opened:
        module, _, end = name.rpartition(".")
        if end != "scales" or module.rpartition(".")[2] not in OF_HIDDEN or f"{module}.weight" not in opened:
            continue
        codes, scales = opened[f"{module}.weight"].shape[-1], opened[name].shape[-1]
        if hidden and scales:
            found.add((codes * 32 // hidden, hidden // scales))
    if len(found) != 1:
        return None
    bits, group = found.pop()
    return {"group_size": group, "bits": bits} if bits in BITS and group in GROUPS else None


def _json(settings: Mapping[str, int]) -> str:
    return "{" + ", ".join(f'"{name}": {value}' for name, value in settings.items()) + "}"
