"""config.json as the consumers read it: what transformers 5 moved or renamed is added under its old name.

Nothing is removed, so that transformers reads the result as before. The consumers take a missing field for
its default without a word: a llama whose `rope_theta` stands in `rope_parameters` alone loads, and is wrong.
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from typing import Any

from wconv.consumers.mlx import needed_fields

Config = dict[str, Any]

PARTS = ("text_config", "llm_config")
"""Where a model of several parts keeps its language model's fields."""

ROPE_ALONE = ("rope_theta", "partial_rotary_factor")
"""Fields of `rope_parameters` that used to stand beside `rope_scaling`, not in it."""

SCALED_BY_LAYER = ("gemma3", "gemma3_text")
"""Model types with a base for each kind of layer whose consumers read `rope_scaling` all the same."""


def _rope(part: Config, name: str) -> Any:
    """A field of `rope_parameters`; the full-attention layers' where each kind of layer has its own."""
    found = part.get("rope_parameters")
    if not isinstance(found, Mapping):
        return None
    full = found.get("full_attention")
    return (full if isinstance(full, Mapping) else found).get(name)


def _rope_scaling(part: Config) -> Any:
    """`rope_parameters` as `rope_scaling` used to be: only where it changes the default."""
    found = part.get("rope_parameters")
    if not isinstance(found, Mapping):
        return None
    full = found.get("full_attention")
    if isinstance(full, Mapping) and part.get("model_type") not in SCALED_BY_LAYER:
        return None
    scaling = dict(full if isinstance(full, Mapping) else found)
    if scaling.get("rope_type", "default") == "default" and "mrope_section" not in scaling:
        return None
    for name in ROPE_ALONE:
        scaling.pop(name, None)
    scaling.setdefault("type", scaling.get("rope_type", "default"))
    return scaling


def _rope_of_sliding(part: Config) -> Any:
    found = part.get("rope_parameters")
    sliding = found.get("sliding_attention") if isinstance(found, Mapping) else None
    return sliding.get("rope_theta") if isinstance(sliding, Mapping) else None


def _every(part: Config) -> Any:
    """Every how many layers one has full attention; None when the layers do not repeat like that."""
    layers = part.get("layer_types")
    if not isinstance(layers, list) or "full_attention" not in layers:
        return part.get("_sliding_window_pattern")
    every = layers.index("full_attention") + 1
    regular = all((kind == "full_attention") == (at % every == 0) for at, kind in enumerate(layers, 1))
    return every if regular else None


def _expanded(part: Config) -> Any:
    expand, size = part.get("expand"), part.get("hidden_size")
    return expand * size if isinstance(expand, int) and isinstance(size, int) else None


def _largest_head(part: Config) -> Any:
    """The head size of the layers that are said to have another one."""
    layers = part.get("per_layer_config")
    found = layers.values() if isinstance(layers, Mapping) else ()
    heads = (layer.get("head_dim") for layer in found if isinstance(layer, Mapping))
    sizes = {size for size in heads if isinstance(size, int)}
    return sizes.pop() if len(sizes) == 1 else None


def _field(name: str) -> Callable[[Config], Any]:
    return lambda part: part.get(name)


ADDED: tuple[tuple[str, Callable[[Config], Any], tuple[str, ...]], ...] = (
    ("rope_theta", lambda part: _rope(part, "rope_theta"), ()),
    ("partial_rotary_factor", lambda part: _rope(part, "partial_rotary_factor"), ()),
    ("rope_scaling", _rope_scaling, ()),
    ("rope_local_base_freq", _rope_of_sliding, ()),
    ("rotary_emb_base", lambda part: _rope(part, "rope_theta"), ("gpt_neox",)),
    ("rotary_pct", lambda part: _rope(part, "partial_rotary_factor"), ("gpt_neox",)),
    ("num_experts", _field("num_local_experts"), ("qwen2_moe", "qwen3_moe", "qwen3_next", "olmoe")),
    ("num_experts", _field("num_local_experts"), ("qwen3_vl_moe_text", "qwen3_5_moe_text")),
    ("sliding_window_pattern", _every, ("cohere2", "gemma3", "gemma3_text", "exaone4")),
    ("full_attention_interval", _every, ("qwen3_next", "qwen3_5", "qwen3_5_text", "qwen3_5_moe_text")),
    ("norm_topk_prob", lambda part: True, ("qwen3_vl_moe_text",)),
    ("intermediate_size", _expanded, ("mamba2",)),
    ("global_head_dim", _largest_head, ("gemma4_text",)),
    ("n_ctx", _field("n_positions"), ("gpt2",)),
    ("torch_dtype", _field("dtype"), ()),
)
"""Old field, where its value is found, and the model types that have it; where there are none given, those
that are known to read it, for some refuse every field that they do not know."""

OF_ROOT = ("torch_dtype",)
"""Fields that are read of every model, and of the config's root alone."""

TIED_BY_ROOT = (
    *("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe", "gemma3", "gemma3n"),
    *("gemma4", "llava", "llava_next", "llava_onevision", "paligemma", "aya_vision", "cohere2_vision"),
    *("idefics2", "idefics3", "smolvlm", "mistral3", "pixtral", "internvl", "internvl_chat", "mllama"),
)
"""Model types whose root's `tie_word_embeddings` holds, whatever the language model's part says."""

NULLS: dict[str, tuple[str, ...]] = {"llama4_text": ("rope_scaling",)}
"""Fields that a consumer wants to be there even where they are null, by the part's model type."""

HOISTED = ("qwen2_vl", "qwen2_5_vl")
"""Model types whose consumers read the language model's fields from the root."""

HOISTED_ALONE = {"gemma3": ("vocab_size",), "gemma4": ("vocab_size",)}
"""Fields of the language model's part that a consumer reads from the root alone, by model type."""

VISION_TYPES = {
    "qwen2_vl_vision": "qwen2_vl",
    "qwen2_5_vl_vision": "qwen2_5_vl",
    "qwen3_vl_vision": "qwen3_vl",
    "qwen3_vl_moe_vision": "qwen3_vl_moe",
    "qwen3_5_vision": "qwen3_5",
    "qwen3_5_moe_vision": "qwen3_5_moe",
    "idefics3_vision": "idefics3",
}
"""`vision_config.model_type` as transformers 5 writes it → as the consumers check it."""

NOT_HOISTED = ("model_type", "architectures", "dtype", "torch_dtype", "transformers_version")


def normalise(config: Mapping[str, Any]) -> tuple[Config, tuple[str, ...]]:
    """`config` with the fields that the consumers read, and the dotted paths of those that were added.

    Values that are there already are not replaced, with these exceptions: `vision_config.model_type` where
    the consumers refuse the newer name, the language model's `tie_word_embeddings`, which transformers takes
    from the root and the consumers from the part, and the few fields of `needed_fields.RESPELT`.
    """
    new = copy.deepcopy(dict(config))
    added = []
    model_type = new.get("model_type")
    for prefix, part in _parts(new):
        for name, value in _missing(part, prefix, str(model_type)):
            part[name] = value
            added.append(prefix + name)
        for name, value in (*needed_fields.needed(part), *needed_fields.respelt(part)):
            part[name] = value
            added.append(prefix + name)
    tied = new.get("tie_word_embeddings")
    for prefix, part in _parts(new):
        if prefix and isinstance(tied, bool) and _follows(part, tied, str(model_type)):
            part["tie_word_embeddings"] = tied
            added.append(prefix + "tie_word_embeddings")
    text = new.get("text_config")
    if isinstance(text, dict):
        hoisted = {name: text[name] for name in _hoisted(new, text) if name not in new}
        new.update(hoisted)
        added.extend(hoisted)
    vision = new.get("vision_config")
    if isinstance(vision, dict) and (old := VISION_TYPES.get(str(vision.get("model_type")))):
        if old != vision["model_type"]:
            added.append("vision_config.model_type")
        vision["model_type"] = old
    return new, tuple(added)


def untied(config: Mapping[str, Any]) -> Config:
    """`config` of a model whose output layer is not the embedding, in all parts that tell of language."""
    new = copy.deepcopy(dict(config))
    for _, part in _parts(new):
        part["tie_word_embeddings"] = False
    return new


def _hoisted(config: Config, text: Config) -> list[str]:
    model_type = str(config.get("model_type"))
    if model_type in HOISTED:
        return [name for name in text if name not in NOT_HOISTED]
    return [name for name in HOISTED_ALONE.get(model_type, ()) if name in text]


def _parts(config: Config) -> Iterator[tuple[str, Config]]:
    yield "", config
    for name in PARTS:
        if isinstance(config.get(name), dict):
            yield f"{name}.", config[name]


def _follows(part: Config, tied: bool, model_type: str) -> bool:
    """Whether the language model's part gets the root's word on its output layer."""
    own = part.get("tie_word_embeddings")
    if isinstance(own, bool):
        return own is not tied and model_type in TIED_BY_ROOT
    return _reads("tie_word_embeddings", "text", model_type)


def _reads(name: str, part: str, model_type: str) -> bool:
    """Whether a consumer is known to read a field there; `torch_dtype` is read of every root."""
    if name in OF_ROOT:
        return part == "root"
    readers = _readers(name, part)
    return readers is None or model_type in readers or model_type.lower() in readers


@functools.cache
def _readers(field: str, part: str) -> frozenset[str] | None:
    """The model types of which a program reads a field of config.json; None for a field of which all do.

    Args:
        part: "root", or "text" for the language model's part.
    """
    text = resources.files("wconv.consumers").joinpath("mlx", "config_readers.json").read_text("utf-8")
    found = json.loads(text).get(field)
    return None if found is None else frozenset(found[part])


def _missing(part: Config, prefix: str, model_type: str) -> Iterator[tuple[str, Any]]:
    where = "text" if prefix else "root"
    for name, find, model_types in ADDED:
        if part.get(name) is not None:
            continue
        if part.get("model_type") in model_types if model_types else _reads(name, where, model_type):
            value = find(part)
            if name == "rope_scaling" and value is not None:
                # transformers takes it for the whole: what has no field of its own stays in it
                alone = {one: _rope(part, one) for one in ROPE_ALONE if part.get(one) is None}
                value = {**value, **{one: own for one, own in alone.items() if own is not None}}
            if value is not None:
                yield name, value
    for name in NULLS.get(str(part.get("model_type")), ()):
        if name not in part:
            yield name, None
