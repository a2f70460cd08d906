"""Which layout a model has, and for whom: asked of the consumers, one after another."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from wconv.consumers import derived_tables, load_commands, pipelines, registry, table_files
from wconv.consumers.consumer import Consumer
from wconv.errors import LayoutError
from wconv.layouts.apply import Layout


def choose_layout(
    name: str | Layout, config: Mapping[str, Any] | None, names: Collection[str]
) -> Layout | None:
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
    known = registry.layout_names()
    if name not in known:
        raise LayoutError(f"{name!r} is not a layout: one of {', '.join(known)}")
    model_type = str((config or {}).get("model_type", "")).lower()
    # a consumer's own table comes before another's that serves it too
    asked = (
        registry.with_role("automatic")
        if name == registry.AUTO
        else registry.with_role("automatic", "by name")
    )
    written = (
        layout
        for consumer in sorted(asked, key=lambda one: one.layout_name != name)
        for layout in _tables(consumer, model_type)
        if name in (registry.AUTO, *layout.consumers) and _fits(layout, model_type, names)
    )
    layout = next(written, None)
    if layout is not None:
        if name == registry.AUTO and len(layout.consumers) == 1:
            layout = _likelier([layout, *written], config or {}, names)
        return derived_tables.laid_out_already(name, layout, config or {}, names) or layout
    component = pipelines.of_component(name, config, names)
    return component or derived_tables.choose(name, config or {}, names)


def _likelier(tables: list[Layout], config: Mapping[str, Any], names: Collection[str]) -> Layout:
    """Of several consumers' tables that of the one whose names they are already, or that runs such models."""
    if len(tables) == 1:  # names are looked at, of which there may be many
        return tables[0]
    for layout in tables:
        if names and derived_tables.is_laid_out(layout, names):
            return layout
    likely = [one.layout_name for one in load_commands.likeliest_first(config)]
    return min(tables, key=lambda one: (*likely, one.consumers[0]).index(one.consumers[0]))


def _tables(consumer: Consumer, model_type: str) -> Iterator[Layout]:
    """A consumer's tables that a person wrote and that may fit: of its files one alone is read."""
    yield from consumer.tables()
    if consumer.table_folder:
        for one in (model_type,) if model_type else consumer.recognisable:
            layout = table_files.find(consumer.table_folder, one)
            if layout is not None and not layout.derived_from:
                yield layout


def layout_of_model_type(model_type: str, name: str = registry.AUTO) -> Layout:
    """The table of a model type, of the first consumer that has one or of that called `name`.

    Raises:
        LayoutError: there is none; the nearest model types are named.
    """
    layout = choose_layout(name, {"model_type": model_type}, ())
    for consumer in registry.automatic_names() if name == registry.AUTO else (name,):
        layout = layout or dict(pipelines.places(consumer)).get(model_type)
    if layout is not None:
        return layout
    known = {one for consumer, one, _ in describe() if name in (registry.AUTO, consumer)}
    close = difflib.get_close_matches(model_type.lower(), known, 3)
    whom = f" for {name}" if name != registry.AUTO else ""
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
    served = {
        (name, model_type)
        for consumer in registry.with_role("automatic")
        for layout in (one for one in registry.tables(consumer.name) if not one.derived_from)
        for name in layout.consumers[1:]
        for model_type in layout.model_types
    }
    for consumer in registry.with_role("automatic"):
        for layout in consumer.tables():
            for model_type in layout.model_types:
                yield consumer.name, model_type, _verbs(layout)
        for model_type in table_files.model_types(consumer.table_folder) if consumer.table_folder else ():
            found = table_files.find(consumer.table_folder, model_type)
            # a person's table of another consumer comes first
            if found is not None and not (found.derived_from and (consumer.name, model_type) in served):
                yield consumer.name, model_type, _verbs(found)
        for place, layout in pipelines.places(consumer.name):
            yield consumer.name, place, _verbs(layout)


def _verbs(layout: Layout) -> str:
    """What the rules of a layout do, in a few words."""
    return ", ".join(dict.fromkeys(rule.verb for rule in layout.rules)) or "names kept"
