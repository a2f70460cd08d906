"""An adapter by itself, in the naming that is asked for."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from wconv.checkpoints.checkpoint import Checkpoint
from wconv.consumers import registry
from wconv.consumers.adapters.modules import WRAPPERS
from wconv.consumers.adapters.namings import FILES, METADATA
from wconv.consumers.lay_out import HUB, PreparedModel
from wconv.consumers.mlx_lm.consumer import MLX_LM
from wconv.consumers.peft.consumer import PEFT
from wconv.errors import FormatError, LayoutError
from wconv.formats.side_files import read_json
from wconv.layouts.apply import LayoutResult
from wconv.layouts.file_form import Form
from wconv.lora import image, language
from wconv.lora.kinds import LORA, kind_of, other_kind
from wconv.lora.read import adapters, slot_of
from wconv.lora.scales import config_path
from wconv.tensors.lazy import LazyTensor


def is_adapter(opened: Checkpoint, tensors: Mapping[str, LazyTensor]) -> bool:
    """Whether a checkpoint is an adapter by itself, of any kind.

    The `adapter_config.json` beside it decides; else its names: most are parts of adapters, or what is none
    belongs to no layer. A file that holds the weights that it adapts is a model, unless PEFT has wrapped all.
    """
    path = config_path(opened)
    wrapped = all(name.startswith(WRAPPERS) for name in tensors)
    if FILES.fullmatch(opened.files[0].name):
        described = path is not None and kind_of(read_json(path)) is not None
        if described or wrapped:
            return True
    slots = {name: found for name in tensors if (found := slot_of(name)) is not None}
    others = [name for name in tensors if name not in slots]
    kinds = [name for name in others if other_kind(name) is not None]
    adapted = {module for module, slot in slots.values() if slot.startswith(("down", "embedding_down"))}
    if adapted and wrapped:
        return True
    if not (adapted or kinds) or any(f"{one}{end}" in tensors for one in adapted for end in OWN_WEIGHTS):
        return False
    alone = adapted and not any(NUMBER.search(name) for name in others)
    return bool(alone) or 2 * (len(slots) + len(kinds)) > len(tensors)


OWN_WEIGHTS = (".weight", ".base_layer.weight", ".qweight")
"""What is added to a module's name for the weight that an adapter changes."""

NUMBER = re.compile(r"[._]\d+[._]")


def _as_it_is(opened: Checkpoint) -> Form | None:
    """The form of a directory in which an adapter's file must keep its name; None for any other file."""
    if not opened.path.is_dir() or len(opened.files) > 1 or not FILES.fullmatch(opened.files[0].name):
        return None
    return Form(f"{opened.files[0].stem}.safetensors", image.ONE_FILE, {"format": "pt", **_texts(opened)})


def _texts(opened: Checkpoint) -> dict[str, str]:
    """What the source's header says."""
    strings = opened.metadata.items() if opened.format == "safetensors" else ()
    return {key: value for key, value in strings if isinstance(value, str)}


def convert_adapter(
    opened: Checkpoint, tensors: Mapping[str, LazyTensor], layout: object
) -> PreparedModel | None:
    """An adapter as its consumer reads it; None where nothing changes.

    Args:
        tensors: those of the checkpoint that are wanted.
        layout: a naming. "auto" takes mlx-lm's adapters to PEFT, those of image models to mflux, others to
            mlx-lm.

    Raises:
        LayoutError: the consumer cannot apply some of it; by name.
        FormatError: it is no adapter throughout.
    """
    from_mlx = any(name.endswith(".lora_a") for name in tensors)
    if layout == HUB and not from_mlx:
        form = _as_it_is(opened)
        return PreparedModel(LayoutResult(dict(tensors)), form=form) if form is not None else None
    _check_kind(opened)
    laid = _laid_out(opened, tensors, layout, from_mlx)
    if laid.form is None:
        return laid
    # PEFT's settings of the source's names are written anew where they are needed
    texts = {key: text for key, text in _texts(opened).items() if key != METADATA}
    form = dataclasses.replace(laid.form, metadata={**texts, **laid.form.metadata})
    return dataclasses.replace(laid, form=form)


def _check_kind(opened: Checkpoint) -> None:
    """Refuses adapters of a kind that is not converted."""
    path = config_path(opened)
    kind = kind_of(read_json(path)) if path is not None else None
    if kind not in (None, LORA):
        raise FormatError(
            f"{path} describes a {kind!r} adapter, which is not converted: --layout hf copies it unchanged"
        )


def _laid_out(
    opened: Checkpoint, tensors: Mapping[str, LazyTensor], layout: object, from_mlx: bool
) -> PreparedModel:
    found = adapters(dataclasses.replace(opened, tensors=dict(tensors)))
    whole = next((one for one in found if one.wholes), None)
    if whole is not None:
        raise LayoutError(
            f"{whole.keys[-1]} takes the place of the model's own (modules_to_save), which no adapter but"
            " PEFT's own can" + image.WHOLE + ", --layout hf copies the adapter unchanged"
        )
    if from_mlx:
        if layout not in (registry.AUTO, HUB, PEFT.layout_name):
            raise LayoutError(f"{opened.path} is mlx-lm's already; --layout hf makes a PEFT adapter of it")
        return language.to_peft(found)
    consumer = registry.find_consumer(layout) if isinstance(layout, str) else None
    if consumer is not None and consumer.takes_language_adapters:
        return language.to_mlx_lm(found)
    of_image_model = image.is_of_image_model(found)
    naming = layout.partition(":")[0] if isinstance(layout, str) else ""
    namings = registry.adapter_namings()
    automatic = [one.layout_name for one in registry.with_role("automatic") if one.adapter_naming is not None]
    if layout == registry.AUTO:
        return image.in_naming(found, automatic[0]) if of_image_model else language.to_mlx_lm(found)
    if naming == PEFT.layout_name and not of_image_model:
        return language.to_peft(found)
    if naming in automatic or (naming in namings and of_image_model):
        return image.in_naming(found, str(layout))
    if naming in namings:
        raise LayoutError(
            f"{opened.path} is no image model's adapter: --layout {MLX_LM.layout_name},"
            f" {PEFT.layout_name} or {HUB}"
        )
    raise LayoutError(
        f"{opened.path} is an adapter: --layout {', '.join(namings)}, {MLX_LM.layout_name} or {HUB}"
    )
