"""Which dtypes a model without a table keeps, as the consumer that will load it keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from wconv.consumers import registry
from wconv.consumers.consumer import Consumer
from wconv.consumers.load_commands import likeliest_first
from wconv.layouts.apply import SCALES, LayoutResult, fitting


def of_consumer(applied: LayoutResult, layout: object, config: Mapping[str, Any] | None) -> LayoutResult:
    """A model without a table whose dtypes are kept as the consumer that will load it keeps them.

    Args:
        layout: a consumer's name; "auto" for the one that loads the model; where several do, the one
            for models like it.
    """
    config = config or {}
    model_type = str(config.get("model_type", "")).lower()
    consumer = _consumer(layout, model_type, config)
    if consumer is None or consumer.cast_rules is None:
        return applied
    rules = consumer.cast_rules()
    computed = fitting(rules.computed.get(model_type, ()), applied.tensors)
    return replace(
        applied,
        keep_dtype=fitting((*rules.kept.get(model_type, ()), SCALES), applied.tensors),
        keep_why=f"{consumer.name} keeps its dtype",
        computed=dict.fromkeys(sorted(computed), consumer.name),
    )


def note(cast: Mapping[str, str], dtype: str) -> str:
    """What the user should know of tensors that are cast before their consumer computes with them.

    Args:
        cast: their names, and the consumer's.
    """
    name, consumer = next(iter(cast.items()))
    more = f" and {len(cast) - 1} more" if len(cast) > 1 else ""
    return (
        f"{consumer} computes with {name}{more} when it loads the model: in {dtype} the result may differ"
        " from that of its own conversion, which computes first and casts then"
    )


def _consumer(layout: object, model_type: str, config: Mapping[str, Any]) -> Consumer | None:
    """The consumer that loads a model: of several the one for models like it."""
    for one in likeliest_first(config):
        rules = one.cast_rules() if one.cast_rules is not None else None
        if rules and layout in (registry.AUTO, one.layout_name) and model_type in rules.model_types:
            return one
    return None
