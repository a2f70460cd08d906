"""Tiny checkpoints as they are published: names, shapes, and a config that the program takes.

Where transformers has the model, its own class says the names; elsewhere the program's class does, with the
inverse of what its sanitize does to names.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tests.derive import overrides, transformers_overrides
from tests.derive.configs import (
    expanded,
    hoisted_config,
    lessen,
    merge,
    plain_config,
    rope_config,
    set_everywhere,
    set_numbers,
    smaller_config,
)
from tests.derive.override_values import EVERY_ROPE
from tests.derive.own_configs import filled
from tests.derive.programs import Probe, Program, probe
from tests.derive.shrink import shrunk
from tests.derive.trace import EXACT
from wconv.consumers.mlx.config_fields import normalise

Config = dict[str, Any]
Shape = tuple[int, ...]


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
    prog: Program, model_type: str, changes: Mapping[str, Any], fuse: bool = False, all_fields: bool = False
) -> Source:
    """What transformers saves of a tiny model.

    Args:
        changes: other values for some fields of its config.
        all_fields: also fields of the program's config that transformers' does not have, made small.
        fuse: names as transformers itself has them, experts in one tensor, instead of as it saves them.

    Raises:
        Exception: whatever transformers or the program raises.
    """
    import transformers
    from transformers.core_model_loading import revert_weight_conversion

    name = transformers_overrides.NAMES.get(model_type, model_type)
    cls = transformers.CONFIG_MAPPING[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        numbers = {key: value for key, value in changes.items() if type(value) is int}
        small = shrunk(with_parts(cls), numbers)
        merge(small, transformers_overrides.FIELDS.get(model_type, {}))
        set_everywhere(small, changes)
        config, model = _small_model(prog, cls, small)
        state = model.state_dict()
        tied = frozenset(getattr(model, "all_tied_weights_keys", {}) or {})
        kept = {key: tensor for key, tensor in state.items() if key not in tied}
        saved = (
            _fused(revert_weight_conversion(model, kept), kept)
            if fuse
            else revert_weight_conversion(model, kept)
        )
    shapes = {key: tuple(tensor.shape) for key, tensor in saved.items()}
    integers = frozenset(key for key, tensor in saved.items() if not tensor.dtype.is_floating_point)
    ours = consumer_config(prog, model_type, config, all_fields)
    kind = "transformers, experts in one tensor" if fuse else "transformers"
    return Source(kind, ours, shapes, probe(prog, model_type, ours), integers, tied)


def with_parts(cls: Any) -> Config:
    """transformers' config with every part that it may have."""
    config: Config = cls().to_dict()
    for name, part in getattr(cls, "sub_configs", {}).items():
        if config.get(name) is None and hasattr(part, "model_type") and part.model_type:
            config[name] = part().to_dict()
    return config


def _fused(saved: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """What is saved, but for each layer's experts, which are as the model holds them."""
    whole = {name: tensor for name, tensor in own.items() if ".experts." in name}
    rest = {name: tensor for name, tensor in saved.items() if ".experts." not in name}
    return {**rest, **whole}


def fused_source(prog: Program, model_type: str, changes: Mapping[str, Any]) -> Source:
    """The same with each layer's experts in one tensor, as some models are published."""
    return transformers_source(prog, model_type, changes, fuse=True)


def swapped_source(prog: Program, model_type: str, changes: Mapping[str, Any]) -> Source:
    """The same with the experts' inputs before their outputs."""
    source = fused_source(prog, model_type, changes)
    shapes = {
        name: (*shape[:-2], shape[-1], shape[-2]) if ".experts." in name and len(shape) == 3 else shape
        for name, shape in source.shapes.items()
    }
    return replace(source, shapes=shapes, kind=f"{source.kind}, inputs before outputs")


def _built(prog: Program, transformers: Any, config: Any) -> Any:
    errors = []
    seeing = any(hasattr(config, name) for name in ("vision_config", "audio_config"))
    autos = prog.autos
    if seeing:
        autos = tuple(sorted(autos, key=lambda name: name != "AutoModelForImageTextToText"))
    for auto in autos:
        try:
            return getattr(transformers, auto).from_config(config)
        except ValueError as error:
            errors.append(str(error))
    raise ValueError(errors[-1][:200])


def _small_model(prog: Program, cls: Any, small: Config) -> tuple[Any, Any]:
    """A config and its model without memory; with every number less where it is still large."""
    import torch
    import transformers

    for less in (False, True):
        if less:
            lessen(small)
        config = cls.from_dict(small)
        with torch.device("meta"):
            model = _built(prog, transformers, config)
        if sum(tensor.numel() for tensor in model.state_dict().values()) < EXACT:
            break
    return config, model


def filled_source(prog: Program, model_type: str, changes: Mapping[str, Any]) -> Source:
    """The same where the program's config has sizes under names of its own."""
    return transformers_source(prog, model_type, changes, all_fields=True)


def consumer_config(prog: Program, model_type: str, config: Any, all_fields: bool = False) -> Config:
    """transformers' config as the program reads it: old fields beside new ones, and what it needs besides."""
    import json

    written = json.loads(config.to_json_string(use_diff=False))
    written["model_type"] = model_type
    ours, _ = normalise(written)
    module = prog.module(model_type)
    cls = getattr(module, "ModelArgs" if prog.name != "mlx-vlm" else "ModelConfig", None)
    cls = cls or getattr(module, "ModelConfig", None)
    if cls is not None:
        ours = {**filled(ours, cls, needed_only=not all_fields)}
    if prog.name != "mlx-lm":
        for part in ("text_config", "vision_config", "audio_config"):
            inner = getattr(module, f"{part.split('_')[0].title()}Config", None)
            if inner is not None and isinstance(ours.get(part), dict) and ours[part]:
                ours[part] = filled(ours[part], inner, needed_only=not all_fields)
    if prog.name == "mlx-vlm":
        for part in (ours, *(value for value in ours.values() if isinstance(value, dict))):
            if isinstance(part.get("rope_parameters"), dict) and "rope_type" in part["rope_parameters"]:
                part["rope_parameters"] = {**EVERY_ROPE, **part["rope_parameters"]}
    merge(ours, expanded(prog, overrides.consumer(prog.name, model_type)))
    return ours


def own_source(prog: Program, model_type: str, changes: Mapping[str, Any]) -> Source:
    """The program's own names and shapes, not yet turned back into those of published checkpoints.

    Raises:
        Exception: what the program raised for the first config.
    """
    first: BaseException | None = None
    best: Source | None = None
    for variant in (plain_config, hoisted_config, rope_config, smaller_config):
        try:
            config = variant(prog, model_type)
            merge(config, expanded(prog, overrides.consumer(prog.name, model_type)))
            set_everywhere(config, changes)
            set_numbers(config, changes)
            made = probe(prog, model_type, config)
        except (Exception, SystemExit) as error:
            first = first or error
            continue
        source = Source(prog.name, config, dict(made.parameters), made)
        if best is None or size(source) < size(best):
            best = source
        if size(best) < EXACT:
            return best
    if best is None:
        raise first or ValueError("no config")
    return best


def size(source: Source) -> int:
    return sum(math.prod(shape) for shape in source.shapes.values())


def inverted_source(prog: Program, model_type: str, changes: Mapping[str, Any]) -> Source:
    """The program's names turned back as far as its sanitize undoes that."""
    from tests.derive.inverting import inverted

    if not prog.sanitizes(model_type):
        return own_source(prog, model_type, changes)
    return inverted(prog, model_type, own_source(prog, model_type, changes))


def untied_source(prog: Program, model_type: str, changes: Mapping[str, Any]) -> Source:
    """The same with an output layer of its own."""
    return inverted_source(prog, model_type, {"tie_word_embeddings": False, **changes})


def makers(model_type: str) -> list[Callable[[Program, str, Mapping[str, Any]], Source]]:
    """How a source may be made, the best first."""
    import transformers

    known = transformers_overrides.NAMES.get(model_type, model_type) in transformers.CONFIG_MAPPING
    own = [inverted_source, untied_source]
    return [transformers_source, fused_source, swapped_source, filled_source, *own] if known else own
