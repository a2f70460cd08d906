"""The stages of every conversion: pick, merge, lay out, cast, quantize, plan. All are lazy.

`prepare` runs them for a model and for each component of a pipeline; `--optimizer` lays its state out by the
same ones; `load_mlx` reads what they planned into arrays instead of files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wconv.checkpoints.checkpoint import Checkpoint, check_lost
from wconv.consumers import pipelines, registry
from wconv.consumers.adapters.namings import FILES, MARKS
from wconv.consumers.lay_out import AS_STORED, HUB, PreparedModel, lay_out
from wconv.consumers.made_tensors import SETTINGS, tensor_maker
from wconv.consumers.megatron import names as megatron
from wconv.consumers.pieces import PIECES
from wconv.conversion import decode, own_form
from wconv.conversion.opened_once import open_once
from wconv.conversion.output_dtypes import written_dtypes
from wconv.conversion.request import Request
from wconv.errors import FormatError, WconvError
from wconv.formats.side_files import read_json
from wconv.quantized import names as quantized_names
from wconv.tensors.dtypes import DType
from wconv.tensors.lazy import LazyTensor
from wconv.tensors.name_kinds import may_contain
from wconv.writing import file_formats
from wconv.writing.plan import MAX_SHARD_SIZE, Entry, Plan, make

if TYPE_CHECKING:
    from wconv.conversion.pack import Packed
    from wconv.conversion.quantize import Quantized
    from wconv.layouts.apply import Layout


@dataclass(frozen=True, slots=True)
class Picked:
    """A checkpoint, and what of it is wanted.

    Attributes:
        tensors: those that are converted.
        filtered: the reason for each name that is not.
        dtype: to which floating tensors are cast: as it was asked for, else as the consumer would where it
            decodes a model of its own; None for each its own.
    """

    opened: Checkpoint
    tensors: dict[str, LazyTensor]
    filtered: dict[str, str]
    dtype: DType | None = None


def pick(request: Request) -> Picked:
    """Opens the source and picks the tensors that are wanted.

    Raises:
        FormatError: it cannot be read, holds nothing, or something wanted of it cannot be had.
        WconvError: a filter is not a regular expression, or takes a part of a quantized weight.
    """
    options = request.options
    opened = open_once(
        request.source,
        key=options.key,
        variant=request.variant,
        allow_inflation=options.allow_inflation,
        skip_unreadable=True,
        pieces=PIECES,
        config=options.config,
    )
    opened = _with_hub_names(opened, request)
    tensors, filtered = _filtered(opened, options.include, options.exclude)
    if not options.skip_unreadable:
        # one that is filtered out is not missed
        lost = {name: reason for name, reason in opened.lost.items() if name not in filtered}
        check_lost(request.source, lost, others=bool(tensors))
    if not opened.tensors:
        raise FormatError(f"{request.source} holds no tensors")
    if filtered:
        quantized_names.check_complete(opened.tensors, tensors)
    return Picked(*decode.decoded(request, opened, tensors, filtered))


def _with_hub_names(opened: Checkpoint, request: Request) -> Checkpoint:
    """A checkpoint of Megatron's under the hub's names, where its config says which model it is."""
    if not megatron.is_megatron(opened.tensors) or request.layout == AS_STORED or request.options.rules:
        return opened
    named = megatron.to_hub(opened.tensors, opened.config) if opened.config is not None else None
    if named is None:
        why = (
            "config.json names none of its models" if opened.config is not None else "no config.json is here"
        )
        note = f"the names stay Megatron's, for {why}: --config DIR says which model of the hub's it is"
        return dataclasses.replace(opened, notes=(*opened.notes, note))
    tensors, sources = named
    return dataclasses.replace(
        opened,
        tensors=tensors,
        made_of={**opened.made_of, **sources},
        notes=(*opened.notes, "Megatron's names and layouts → the hub's"),
    )


def _filtered(
    opened: Checkpoint, include: str | None, exclude: str | None
) -> tuple[dict[str, LazyTensor], dict[str, str]]:
    """The tensors that two expressions leave, and the reason for each that they do not."""
    if include is None and exclude is None:
        return dict(opened.tensors), {}
    wanted = _matching(include, "--include", (*opened, *opened.lost))
    unwanted = _matching(exclude, "--exclude", (*opened, *opened.lost))
    picked: dict[str, LazyTensor] = {}
    filtered: dict[str, str] = {}
    for name, tensor in (*opened.items(), *opened.lost.items()):
        if wanted is not None and name not in wanted:
            filtered[name] = f"not in --include {include}"
        elif unwanted is not None and name in unwanted:
            filtered[name] = f"in --exclude {exclude}"
        elif isinstance(tensor, LazyTensor):
            picked[name] = tensor
    return picked, filtered


def _matching(text: str | None, option: str, names: Collection[str]) -> set[str] | None:
    """The names in which an expression is found; None where there is no expression."""
    if text is None:
        return None
    from wconv.layouts.name_filter import NameFilter

    return NameFilter(text, option).matching(names)


def merge_and_lay_out(
    request: Request, opened: Checkpoint, tensors: Mapping[str, LazyTensor]
) -> PreparedModel:
    """The tensors in their new layout, adapters merged into them; an adapter alone by its own naming.

    Raises:
        LayoutError: they do not fit the layout, or the adapters do not fit them.
    """
    options = request.options
    undone, known = None, ""
    if request.layout == HUB and options.rules is None:
        undone, known = _of_own_form(opened, tensors)

    def laid_out(tensors: Mapping[str, LazyTensor]) -> PreparedModel:
        laid = lay_out(
            request.layout,
            tensors,
            opened.description,
            rules=options.rules if undone is None else undone,
            types=opened.modules,
            options=options.options or {},
        )
        return dataclasses.replace(laid, command="", known=known) if known else laid

    if request.loras:
        from wconv.lora import steps

        renames = steps.renames_of(opened.description, tensors)
        return steps.laid_out(laid_out, tensors, request.loras, request.dtype, str(request.source), renames)
    if options.rules is None and request.layout != AS_STORED and may_be_adapter(opened, tensors):
        from wconv.lora import steps
        from wconv.lora.convert import convert_adapter

        if steps.is_adapter(opened, tensors):
            adapter = convert_adapter(opened, tensors, request.layout)
            if adapter is not None:
                return adapter
    return laid_out(tensors)


def _of_own_form(opened: Checkpoint, tensors: Mapping[str, LazyTensor]) -> tuple[Layout | None, str]:
    """The table that undoes the form of the program that wrote a file, or a sentence that there is none."""
    own = registry.named_in_header(opened.metadata)
    if own is None:
        return None, ""
    quantized = any(name.endswith(".scales") for name in tensors)
    layout = None if quantized else own_form.undone_by(own, opened.path, opened.description, tensors)
    return layout, "" if layout is not None else own_form.nothing_undoes(own)


def may_be_adapter(opened: Checkpoint, names: Iterable[str]) -> bool:
    """Whether a file is called as adapters are, or a name has in it what those of adapters have."""
    if FILES.fullmatch(opened.files[0].name):
        return True
    names = tuple(names)
    return may_contain(names, MARKS) and any(mark in name for name in names for mark in MARKS)


def with_made_tensors(laid: PreparedModel, opened: Checkpoint) -> PreparedModel:
    """With what the consumer keeps among the weights and the source in a file beside them."""
    settings = opened.path / SETTINGS
    maker = tensor_maker(laid.table)
    if maker is None or not opened.path.is_dir() or not settings.is_file():
        return laid
    made = maker(read_json(settings), laid.config or {})
    new = {name: tensor for name, tensor in made.items() if name not in laid.applied.tensors}
    applied = dataclasses.replace(
        laid.applied,
        tensors={**laid.applied.tensors, **new},
        sources={**laid.applied.sources, **dict.fromkeys(new, ())},
        notes=(*laid.applied.notes, *(f"{name}: made of {SETTINGS}" for name in new)),
    )
    return dataclasses.replace(laid, applied=applied)


def cast(request: Request, laid: PreparedModel) -> list[Entry]:
    """Each tensor with the dtype in which it is written.

    Raises:
        LayoutError: the cast that was asked for would change what belongs to quantized weights.
    """
    applied = laid.applied
    written = written_dtypes(
        applied.tensors,
        request.dtype,
        applied.keep_dtype,
        casts=laid.casts,
        for_torch=request.file_format.for_torch,
    )
    return list(map(Entry, applied.tensors.keys(), applied.tensors.values(), written))


def keep_packed(
    request: Request, opened: Checkpoint, laid: PreparedModel, dense: Sequence[Entry]
) -> Packed | None:
    """MLX's own forms in the place of decoded weights, where they hold every value.

    Returns:
        None where no weight could be kept, whatever its values.

    Raises:
        FormatError: a part of a weight is damaged.
    """
    if not opened.made_of:
        return None
    from wconv.conversion.pack import keep_packed as keep

    has_config = opened.path.is_dir() and not request.single
    return keep(dense, laid.consumer, (laid.config or opened.config) if has_config else None)


def quantize(
    request: Request, opened: Checkpoint, laid: PreparedModel, dense: Sequence[Entry]
) -> Quantized | None:
    """Several entries in the place of each weight that the consumer's converter would quantize.

    Returns:
        None where that is not asked for.

    Raises:
        WconvError: quantized weights have no place in what is written, or there is nothing to quantize.
    """
    recipe = request.options.quantize
    if recipe is None:
        return None
    excluded = {
        "--optimizer": request.options.optimizer,
        "--format pt": request.file_format.for_torch,
        "--layout hf": request.layout == HUB and not request.part,
    }
    what = next((option for option, given in excluded.items() if given), None)
    if what is not None:
        raise WconvError(f"-q and {what} exclude each other: quantized weights are for MLX's programs")
    if laid.table is not None and laid.table.quantize:
        recipe = dataclasses.replace(recipe, rules=(*laid.table.quantize, *recipe.rules))
    config = laid.config or opened.config or {}
    model_type = pipelines.place_of(laid.consumer or "", laid.table) or str(config.get("model_type", ""))
    if not model_type and laid.table is not None and laid.table.model_types:
        model_type = laid.table.model_types[0]
    from wconv.conversion.quantize import quantize_entries

    return quantize_entries(dense, laid.consumer, model_type, config, recipe, part=request.part)


def plan(request: Request, opened: Checkpoint, laid: PreparedModel, entries: Sequence[Entry]) -> Plan:
    """The model's files: in the consumer's own form, else named as the hub names them."""
    file_format = request.file_format
    stem = registry.file_stem(laid.consumer, opened.files[0].name)
    if stem:
        file_format = file_formats.with_stem(file_format, stem)
    form = laid.form if not file_format.for_torch else None
    filename = request.target.name if request.single else None
    if form is not None and form.single and request.shard_bytes is None:
        filename = filename or form.shard
    planned = make(
        entries,
        form.metadata if form else _metadata(opened, laid.format),
        max_shard_size=request.shard_bytes or (form.max_shard_size if form else MAX_SHARD_SIZE),
        filename=filename,
        names=form.names if form else file_format.names,
        shard=file_format.shard,
        by_file=not opened.in_pieces,
    )
    index = file_format.index if form is None or not form.single else f"{form.shard}.index.json"
    return dataclasses.replace(planned, index_name=index, about=form.metadata if form else None)


def _metadata(opened: Checkpoint, promise: str | None) -> dict[str, str]:
    """The source's own header strings, and `format`: "mlx" promises final names, which only rules give."""
    texts = {name: value for name, value in opened.metadata.items() if isinstance(value, str)}
    strings = texts if opened.format == "safetensors" else {}
    return {**strings, "format": promise or strings.get("format", "pt")}
