"""What a consumer calls each tensor and how it lays it out: tables of rules, and the engine for them."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from wconv.errors import LayoutError
from wconv.layout_names import CONSUMERS, NAMES
from wconv.layouts import pipelines
from wconv.layouts.engine import Applied, Layout, apply

__all__ = ["CONSUMERS", "NAMES", "Applied", "Layout", "apply", "choose", "describe", "find", "tables"]


def tables(consumer: str) -> tuple[Layout, ...]:
    """All layouts of one consumer."""
    module = importlib.import_module(f"wconv.layouts.{consumer.replace('-', '_')}")
    return tuple(module.LAYOUTS)


def choose(name: str | Layout, config: Mapping[str, Any] | None, names: Collection[str]) -> Layout | None:
    """The layout for a model, by its `model_type` or, without a config, by its tensors' names.

    None when there is no table: names stay as they are.

    Args:
        name: "auto", a consumer ("mlx-lm", "mlx-vlm", "mflux"), "hf" for the source's own names, or a
            layout of one's own, which is the answer.
        config: the model's config.json, if it has one.
        names: the source's tensor names.

    Raises:
        LayoutError: `name` is no layout.
    """
    if isinstance(name, Layout):
        return name
    if name not in NAMES:
        raise LayoutError(f"{name!r} is not a layout: one of {', '.join(NAMES)}")
    model_type = str((config or {}).get("model_type", "")).lower()
    # a consumer's own table comes before another's that serves it too
    for consumer in sorted(CONSUMERS, key=lambda one: one != name) if name != "hf" else ():
        for layout in tables(consumer):
            if name in ("auto", *layout.consumers) and _fits(layout, model_type, names):
                return layout
    return pipelines.of_component(name, config, names) or _derived(name, config, names)


def _derived(name: str, config: Mapping[str, Any] | None, names: Collection[str]) -> Layout | None:
    from wconv.consumers import derived_tables

    return derived_tables.choose(name, config, names)


def find(model_type: str, name: str = "auto") -> Layout:
    """The table of a model type, of the first consumer that has one or of that called `name`.

    Raises:
        LayoutError: there is none; the nearest model types are named.
    """
    layout = choose(name, {"model_type": model_type}, ())
    for consumer in CONSUMERS if name == "auto" else (name,):
        layout = layout or dict(pipelines.places(consumer)).get(model_type)
    if layout is not None:
        return layout
    known = {one for consumer, one, _ in describe() if name in ("auto", consumer)}
    import difflib

    close = difflib.get_close_matches(model_type.lower(), known, 3)
    whom = f" for {name}" if name != "auto" else ""
    raise LayoutError(
        f"there are no rules for {model_type!r}{whom}"
        + (f": nearest {', '.join(close)}" if close else "; wconv rules lists the models that have some")
    )


def _fits(layout: Layout, model_type: str, names: Collection[str]) -> bool:
    if model_type:
        return model_type in layout.model_types
    return bool(layout.recognised_by) and all(name in names for name in layout.recognised_by)


def describe() -> Iterator[tuple[str, str, str]]:
    """Consumer, model type and what its rules do, for every model that has a table."""
    for consumer in CONSUMERS:
        for layout in tables(consumer):
            verbs = dict.fromkeys(rule.verb for rule in layout.rules)
            for model_type in layout.model_types:
                yield consumer, model_type, ", ".join(verbs) or "names kept"
        for place, layout in pipelines.places(consumer):
            verbs = dict.fromkeys(rule.verb for rule in layout.rules)
            yield consumer, place, ", ".join(verbs) or "names kept"
    from wconv.consumers import derived_tables

    for consumer in derived_tables.CONSUMERS:
        written = {
            model_type
            for one in CONSUMERS
            for layout in tables(one)
            if consumer in layout.consumers
            for model_type in layout.model_types
        }
        for model_type in derived_tables.model_types(consumer):
            if model_type not in written:
                yield consumer, model_type, "derived from the consumer itself"
