"""Tiny checkpoints in the form that they are published in: names and shapes, and a config that the program takes.

Where transformers has the model, its own class says the names; elsewhere the program's class does, with the inverse
of what its sanitize does to names.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.derive import overrides
from tests.derive.programs import Probe, Program, filled, own_config, probe
from tests.derive.shrink import shrunk
from wconv.layouts.configs import normalise

Config = dict[str, Any]
Shape = tuple[int, ...]

AUTOS = (
    "AutoModelForCausalLM",
    "AutoModelForImageTextToText",
    "AutoModelForSeq2SeqLM",
    "AutoModel",
)


@dataclass(frozen=True)
class Source:
    """A checkpoint to be probed with.

    Attributes:
        kind: whose class says the names: "transformers" or the program's own.
        config: config.json, as the program takes it.
        shapes: by name.
        integers: names of tensors that hold whole numbers.
        model: the program's model for this config.
        tied: names that are not in the checkpoint because they share another tensor's memory.
        inverted: what was done to the program's own names, for the record.
    """

    kind: str
    config: Config
    shapes: dict[str, Shape]
    model: Probe
    integers: frozenset[str] = frozenset()
    tied: frozenset[str] = frozenset()
    inverted: tuple[str, ...] = ()


def transformers_source(
    prog: Program, model_type: str, changes: Mapping[str, Any], fuse: bool = False
) -> Source:
    """What transformers saves of a tiny model.

    Args:
        changes: other values for some fields of its config.
        fuse: names as transformers itself has them, experts in one tensor, instead of as it saves them.

    Raises:
        Exception: whatever transformers or the program raises.
    """
    import torch
    import transformers
    from transformers.core_model_loading import revert_weight_conversion

    name = overrides.TRANSFORMERS_NAMES.get(model_type, model_type)
    cls = transformers.CONFIG_MAPPING[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        numbers = {key: value for key, value in changes.items() if type(value) is int}
        small = shrunk(cls().to_dict(), numbers)
        merge(small, overrides.TRANSFORMERS.get(model_type, {}))
        set_everywhere(small, changes)
        config = cls.from_dict(small)
        with torch.device("meta"):
            model = _built(transformers, config)
        state = model.state_dict()
        tied = frozenset(getattr(model, "all_tied_weights_keys", {}) or {})
        kept = {key: tensor for key, tensor in state.items() if key not in tied}
        saved = _fused(revert_weight_conversion(model, kept), kept) if fuse else revert_weight_conversion(model, kept)
    shapes = {key: tuple(tensor.shape) for key, tensor in saved.items()}
    integers = frozenset(key for key, tensor in saved.items() if not tensor.dtype.is_floating_point)
    ours = consumer_config(prog, model_type, config)
    return Source("transformers", ours, shapes, probe(prog, model_type, ours), integers, tied)


def _fused(saved: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """What is saved, but for each layer's experts, which are as the model holds them."""
    whole = {name: tensor for name, tensor in own.items() if ".experts." in name}
    rest = {name: tensor for name, tensor in saved.items() if ".experts." not in name}
    return {**rest, **whole}


def fused_source(prog: Program, model_type: str, changes: Mapping[str, Any]) -> Source:
    """The same with each layer's experts in one tensor, as some models are published."""
    return transformers_source(prog, model_type, changes, fuse=True)


def _built(transformers: Any, config: Any) -> Any:
    errors = []
    for auto in AUTOS:
        try:
            return getattr(transformers, auto).from_config(config)
        except ValueError as error:
            errors.append(str(error))
    raise ValueError(errors[-1][:200])


def consumer_config(prog: Program, model_type: str, config: Any) -> Config:
    """transformers' config as the program reads it: old fields beside new ones, and what it needs besides."""
    import json

    written = json.loads(config.to_json_string(use_diff=False))
    written["model_type"] = model_type
    ours, _ = normalise(written)
    if prog.name == "mlx-lm":
        args = prog.module(model_type).ModelArgs
        ours = {**filled(ours, args, needed_only=True)}
    else:
        module = prog.module(model_type)
        ours = filled(ours, module.ModelConfig, needed_only=True)
        for part in ("text_config", "vision_config", "audio_config"):
            inner = getattr(module, f"{part.split('_')[0].title()}Config", None)
            if inner is not None and isinstance(ours.get(part), dict) and ours[part]:
                ours[part] = filled(ours[part], inner, needed_only=True)
    merge(ours, expanded(prog, overrides.consumer(prog.name, model_type)))
    return ours


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


def own_source(prog: Program, model_type: str, changes: Mapping[str, Any]) -> Source:
    """The program's own names and shapes, not yet turned back into those of published checkpoints."""
    config = own_config(prog, model_type)
    merge(config, expanded(prog, overrides.consumer(prog.name, model_type)))
    set_everywhere(config, changes)
    for key, value in changes.items():
        if key in config and type(value) is int:
            config[key] = value
    made = probe(prog, model_type, config)
    return Source(prog.name, config, dict(made.parameters), made)


def inverted_source(prog: Program, model_type: str, changes: Mapping[str, Any]) -> Source:
    """The program's names turned back as far as its sanitize undoes that."""
    from tests.derive.inverting import inverted

    return inverted(prog, model_type, own_source(prog, model_type, changes))


def makers(model_type: str) -> list[Callable[[Program, str, Mapping[str, Any]], Source]]:
    """How a source may be made, the best first."""
    import transformers

    known = overrides.TRANSFORMERS_NAMES.get(model_type, model_type) in transformers.CONFIG_MAPPING
    return [transformers_source, fused_source, inverted_source] if known else [inverted_source]
