"""Which rules a conversion follows, and in which direction; what comes of it."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from wconv.consumers import casts as consumer_casts
from wconv.consumers import derived_tables, pipelines, registry
from wconv.consumers.black_forest_labs.consumer import BLACK_FOREST_LABS
from wconv.consumers.consumer import ConfigMaker
from wconv.consumers.diffusers.consumer import DIFFUSERS
from wconv.consumers.layout_choice import choose_layout
from wconv.consumers.load_commands import load_command
from wconv.consumers.taken import ANY, check_scheme, check_taken
from wconv.consumers.transformers.consumer import TRANSFORMERS
from wconv.errors import LayoutError
from wconv.formats.modules import Module
from wconv.layouts.apply import ConvertedInPartError, Layout, LayoutResult, UnknownNamesError, apply
from wconv.layouts.file_form import Form
from wconv.layouts.options import options_of
from wconv.tensors.lazy import LazyTensor

HUB = TRANSFORMERS.layout_name
"""`--layout hf`: the hub's names and layouts."""

AS_STORED = "as stored"
"""Names and layouts as they are, whosever they are: for arrays."""

SINGLE_FILE = BLACK_FOREST_LABS.layout_name
"""`--layout bfl`: the names of Black Forest Labs' single files, to which diffusers' are laid back."""


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """The tensors as they will be written, and for whom.

    Attributes:
        consumer: whose layout it is; None when names and layouts passed unchanged.
        format: what the header promises: "mlx" for final names and layouts, "pt" for the hub's; None for
            what the source promised.
        command: loads the result; `{model}` stands for its path. "" where no command is known to.
        known: where there is no command, a sentence on what is known.
        table: the layout that was applied, where it is a table.
        options: what the layout lets one choose, each with its default.
        rules: what was done, as text, to tell one conversion from another.
        stale: fields of config.json that are no longer true.
        form: how the consumer keeps weights in files, where it is not the hub's way.
        casts: dtype → dtype that the consumer makes of it, unless the user says otherwise.
        config: config.json where it is made anew.
        config_name: what that file is called.
    """

    applied: LayoutResult
    consumer: str | None = None
    format: str | None = None
    command: str = ""
    rules: str = ""
    stale: tuple[str, ...] = ()
    form: Form | None = None
    casts: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] | None = None
    config_name: str = "config.json"
    known: str = ""
    table: Layout | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def lay_out(
    layout: str | Layout,
    tensors: Mapping[str, LazyTensor],
    config: Mapping[str, Any] | None = None,
    *,
    rules: str | os.PathLike[str] | Layout | None = None,
    types: Mapping[str, Module] | None = None,
    options: Mapping[str, Any] | None = None,
) -> PreparedModel:
    """Lays a state dict out as it is asked for, without writing anything.

    Args:
        layout: "auto", a consumer's name, "hf" for the way back to the hub's layout, "bfl" for that from
            diffusers' names to a single file's, or rules of one's own.
        config: the model's config.json, or what else describes it.
        rules: rules of one's own instead of the tables: a rules file, or a Layout; "auto" applies them,
            "hf" undoes them.
        types: the modules that the checkpoint holds, for models without a table.
        options: what a layout lets one choose ("include_fov").

    Raises:
        LayoutError: there is no such layout, or the tensors do not fit it.
    """
    if layout == AS_STORED:
        return PreparedModel(apply(None, tensors, config, options))
    own = _own(layout, rules)
    if layout == SINGLE_FILE and own is None:
        return _single_file(tensors, config)
    if layout == HUB:
        return _back(own or choose_layout("auto", config, tensors), tensors, config, options)
    chosen = own or choose_layout(layout, config, tensors)
    if chosen is None and layout == "auto" and types:
        from wconv.consumers.mlx_nn import by_layer

        if by_layer.fits(types):
            return PreparedModel(
                by_layer.apply(tensors, types), by_layer.CONSUMER, "mlx", rules="by layer type"
            )
    if chosen is None and isinstance(layout, str) and layout != "auto":
        raise NoLayoutError(_lacking(layout, config, tensors))
    if chosen is None:
        check_taken(ANY, tensors, config)
        command, sentence = load_command(None, config)
        kept = consumer_casts.of_consumer(apply(None, tensors, config, options), layout, config)
        return PreparedModel(kept, command=command, known=sentence)
    applied = _applied(chosen, tensors, config, options)
    if own is not None and own.form is None:
        unmatched = tuple(f"no tensor matches the rule: {rule}" for rule in applied.unmatched)
        applied = replace(applied, notes=(*applied.notes, *unmatched))
    stale = ("quantization_config",) if _holds_8_bits(tensors) and not _holds_8_bits(applied.tensors) else ()
    consumer = layout if isinstance(layout, str) and layout in chosen.consumers else chosen.consumers[0]
    known = registry.find_consumer(consumer)
    format = "mlx" if own is not None else known.format if known is not None else TRANSFORMERS.format
    done = PreparedModel(applied, consumer, format, rules=str(chosen), stale=stale, table=chosen)
    done = replace(done, form=chosen.form, casts=chosen.casts, options=options_of(chosen))
    if chosen.config:
        done = replace(done, config=config_maker(chosen.config)(config or {}, tensors))
    command, sentence = _loading(done, chosen, config)
    return replace(done, command=command, known=sentence)


class NoLayoutError(LayoutError):
    """The layout that was asked for has no rules for this model."""


def _lacking(layout: str, config: Mapping[str, Any] | None, names: Collection[str]) -> str:
    kind = pipelines.kind_of(config or {})
    if found := derived_tables.why_not(layout, config or {}, names):
        return f"--layout {layout}: {found}: --layout auto or hf keeps its names and layouts"
    what = kind[:80] if kind else "this model, which has no config.json that says its type"
    return f"--layout {layout} has no rules for {what}: --layout auto or hf keeps its names and layouts"


def config_maker(name: str) -> ConfigMaker:
    """What makes the config.json that a layout calls so.

    Raises:
        LayoutError: no consumer has such a maker.
    """
    makers = {key: maker for one in registry.CONSUMERS for key, maker in one.config_makers().items()}
    if name not in makers:
        raise LayoutError(f"config must be one of {', '.join(sorted(makers))}, not {name!r:.60}")
    return makers[name]


def _loading(done: PreparedModel, chosen: Layout, config: Mapping[str, Any] | None) -> tuple[str, str]:
    """What loads a result of a table or of rules of one's own."""
    consumer = registry.find_consumer(done.consumer or "")
    if consumer is None or consumer.role != "automatic" or consumer.known_models is None:
        command = chosen.command or (consumer.command if consumer is not None else "")
        return command, "" if command else f"how {done.consumer} loads it is not known here"
    stated = {name: value for name, value in (done.config or config or {}).items() if name not in done.stale}
    command = chosen.command if done.consumer == chosen.consumers[0] else consumer.command
    return load_command(consumer.name, stated, command)


def _applied(
    chosen: Layout,
    tensors: Mapping[str, LazyTensor],
    config: Mapping[str, Any] | None,
    options: Mapping[str, Any] | None,
) -> LayoutResult:
    """What `apply` gives; a refusal says which other consumer takes a part of the model."""
    try:
        return apply(chosen, tensors, config, options, check_scheme)
    except UnknownNamesError as error:
        for consumer in chosen.consumers[1:]:
            other = choose_layout(consumer, config, tensors)
            if other is not chosen and _takes(other, tensors, config, options):
                raise LayoutError(f"{error}; --layout {consumer} takes the part that it loads") from None
        raise


def _takes(
    layout: Layout | None,
    tensors: Mapping[str, LazyTensor],
    config: Mapping[str, Any] | None,
    options: Mapping[str, Any] | None,
) -> bool:
    try:
        return layout is not None and bool(apply(layout, tensors, config, options, check_scheme).tensors)
    except LayoutError:
        return False


def _holds_8_bits(tensors: Mapping[str, LazyTensor]) -> bool:
    return any(tensor.dtype.name == "float8_e4m3fn" for tensor in tensors.values())


def _own(layout: str | Layout, rules: str | os.PathLike[str] | Layout | None) -> Layout | None:
    if rules is None:
        return layout if isinstance(layout, Layout) else None
    if layout not in ("auto", HUB):
        raise LayoutError(f"rules of one's own and the layout {layout!r} exclude each other: choose one")
    if isinstance(rules, Layout):
        return rules
    from wconv.layouts.file.rules_file import read

    return read(os.fspath(rules))


def _single_file(tensors: Mapping[str, LazyTensor], config: Mapping[str, Any] | None) -> PreparedModel:
    from wconv.layouts.inverse import restore

    table = pipelines.of_component(DIFFUSERS.name, config, tensors)
    restored = restore(table, tensors, config)
    if restored is None:
        raise LayoutError(
            f"--layout {SINGLE_FILE} is for a component in {DIFFUSERS.name}' form whose config.json says its"
            " class, of:"
            f" {', '.join(layout.model_types[0] for _, layout in pipelines.places(DIFFUSERS.name))}"
        )
    return PreparedModel(restored, BLACK_FOREST_LABS.name, BLACK_FOREST_LABS.format, rules=f"undone: {table}")


def _back(
    table: Layout | None,
    tensors: Mapping[str, LazyTensor],
    config: Mapping[str, Any] | None,
    options: Mapping[str, Any] | None,
) -> PreparedModel:
    from wconv.layouts.inverse import restore

    command, sentence = load_command(TRANSFORMERS.name, config)
    unchanged = PreparedModel(apply(None, tensors, config, options), None, "pt", command, known=sentence)
    unchanged = replace(unchanged, options=options_of(table))
    try:
        restored = restore(table, tensors, config, options)
    except ConvertedInPartError as error:
        note = f"names and layouts are kept as they are: {error}"
        return replace(unchanged, applied=replace(unchanged.applied, notes=(note,)))
    if table is None or restored is None:
        return unchanged
    stated = ((config or {}).get("quantization_config") or {}).get("quant_method")
    stale = ("quantization_config",) if stated == "fp8" and not _holds_8_bits(restored.tensors) else ()
    undone = PreparedModel(
        restored, TRANSFORMERS.name, TRANSFORMERS.format, command, f"undone: {table}", stale, known=sentence
    )
    return replace(undone, options=unchanged.options)
