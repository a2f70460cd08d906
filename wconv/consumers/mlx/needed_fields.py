"""Fields of config.json without which a program makes no model, made from what transformers 5 writes instead.

transformers leaves a field out whose value follows from others, or which its class does not know any more;
the programs stop at the first such field. What each of them needs is in `model_types.json`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from wconv.consumers import registry

Config = Mapping[str, Any]

NOTHING = object()
"""No value can be found."""

INFINITE = "__float__"
"""The only key of what transformers 5 writes for a number that JSON does not have."""

OLD_KINDS = {"linear_attention": "mamba", "full_attention": "attention"}
"""Kinds of layers as transformers 5 names them → as models of Mamba's layers named them before."""


def _per_head(part: Config) -> Any:
    size, heads = part.get("hidden_size"), part.get("num_attention_heads")
    if not (type(size) is int and type(heads) is int and heads > 0):
        return NOTHING
    return size // heads if size % heads == 0 else NOTHING


def _kinds(part: Config) -> list[str] | None:
    kinds = part.get("mlp_layer_types")
    return kinds if isinstance(kinds, list) and kinds else None


def _sparse(part: Config) -> Any:
    """Which layers have experts."""
    kinds = _kinds(part)
    return NOTHING if kinds is None else [kind == "sparse" for kind in kinds]


def _dense_first(part: Config) -> Any:
    """How many layers without experts there are before the first that has some."""
    kinds = _kinds(part)
    if kinds is None:
        return 0
    first = kinds.index("sparse") if "sparse" in kinds else len(kinds)
    return first if "dense" not in kinds[first:] else NOTHING


def _rotated(part: Config) -> Any:
    """How many numbers of a head are turned."""
    rope = part.get("rope_parameters")
    share = rope.get("partial_rotary_factor", 1.0) if isinstance(rope, Mapping) else 1.0
    size = part.get("head_dim") or _per_head(part)
    return int(size * share) if type(size) is int and isinstance(share, int | float) else NOTHING


def _field(name: str) -> Callable[[Config], Any]:
    return lambda part: NOTHING if part.get(name) is None else part[name]


MADE: tuple[tuple[str, Callable[[Config], Any], tuple[str, ...]], ...] = (
    ("head_dim", _per_head, ()),
    ("rope_scaling", lambda _: None, ()),
    ("num_experts", _field("num_local_experts"), ()),
    ("is_moe_layer", _sparse, ()),
    ("rotary_dim", _rotated, ()),
    ("partial_rotary_factor", lambda _: 1.0, ("solar_open",)),
    ("first_k_dense_replace", _dense_first, ("solar_open",)),
    ("intermediate_size", _field("moe_intermediate_size"), ("solar_open",)),
    ("block_dim", _field("hidden_size"), ("lfm2",)),
    ("shared_intermediate_size", lambda _: 0, ("minimax_m2",)),
    ("mlp_bias", lambda _: False, ("apertus",)),
    ("post_norm", lambda _: False, ("apertus",)),
    ("qk_norm", lambda _: True, ("apertus",)),
)
"""Field, where its value is found, and the model types of which that is true; of all where none are given.
A value that is none of the config's is what transformers' own class computes with."""


def needed(part: Config) -> Iterator[tuple[str, Any]]:
    """The fields that a part of a config lacks and a program needs, with their values."""
    model_type = part.get("model_type")
    if not isinstance(model_type, str):
        return
    wanted = _required(model_type)
    for name, find, model_types in MADE:
        if name not in wanted or (model_types and model_type not in model_types):
            continue
        value = find(part) if part.get(name) is None else NOTHING
        if value is not NOTHING and not (value is None and name in part):
            yield name, value


def _required(model_type: str) -> frozenset[str]:
    """The fields without which some program makes no model of this type."""
    known = (one.known_models() for one in registry.CONSUMERS if one.known_models is not None)
    return frozenset(name for one in known for name in one.required.get(model_type, ()))


def _letters(part: Config) -> Any:
    """Which layers of a group are local and which global, as one letter each."""
    every = part["sliding_window_pattern"]
    return "L" * (every - 1) + "G" if type(every) is int and 0 < every < 1000 else NOTHING


def _old_kinds(part: Config) -> Any:
    kinds = part["layer_types"]
    if not isinstance(kinds, list) or "linear_attention" not in kinds:
        return NOTHING
    return [OLD_KINDS.get(kind, kind) if isinstance(kind, str) else kind for kind in kinds]


def _no_position(part: Config) -> Any:
    """What the program calls it where transformers says null, which the program takes for its own default."""
    return "nope" if part["position_embedding_type"] is None else NOTHING


def _finite(part: Config) -> Any:
    """The limits of time steps with an infinity that Python reads."""
    limits = part["time_step_limit"]
    if not isinstance(limits, list):
        return NOTHING
    marked = [isinstance(one, Mapping) and one.get(INFINITE) == "Infinity" for one in limits]
    return (
        [float("inf") if is_it else one for one, is_it in zip(limits, marked, strict=True)]
        if any(marked)
        else NOTHING
    )


RESPELT: tuple[tuple[str, Callable[[Config], Any], tuple[str, ...]], ...] = (
    ("sliding_window_pattern", _letters, ("exaone4",)),
    ("layer_types", _old_kinds, ("granitemoehybrid",)),
    ("position_embedding_type", _no_position, ("granitemoehybrid",)),
    ("time_step_limit", _finite, ("mamba2", "granitemoehybrid")),
)
"""Fields whose newer spelling a program refuses: transformers reads the older one as the same."""


def respelt(part: Config) -> Iterator[tuple[str, Any]]:
    """The fields of a part of a config that a program reads in another spelling, in that spelling."""
    for name, find, model_types in RESPELT:
        if name in part and part.get("model_type") in model_types:
            value = find(part)
            if value is not NOTHING:
                yield name, value
