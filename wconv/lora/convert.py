"""An adapter by itself, in the naming that is asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from wconv.checkpoint import Checkpoint
from wconv.errors import LayoutError
from wconv.layouts.adapter_namings import NAMINGS
from wconv.layouts.choice import HUB, LaidOut
from wconv.layouts.engine import Applied
from wconv.layouts.forms import Form
from wconv.lora import image, language
from wconv.lora.read import adapters, other_kind, slot_of
from wconv.tensor import LazyTensor

MLX_LM = ("mlx-lm", "mlx-vlm")


def is_adapter(tensors: Mapping[str, LazyTensor]) -> bool:
    """Whether a checkpoint is an adapter by itself: most of what it holds is part of one, of any kind."""
    slots = [found[1] for name in tensors if (found := slot_of(name)) is not None]
    others = [name for name in tensors if other_kind(name) is not None]
    told = bool(others) or any(slot.startswith(("down", "embedding_down")) for slot in slots)
    parts = len(slots) + len(others)
    return told and 2 * parts > len(tensors) and not any(".base_layer." in name for name in tensors)


def _as_it_is(opened: Checkpoint, tensors: Mapping[str, LazyTensor]) -> LaidOut | None:
    """PEFT's directory, in which the file must keep its name; None for any other file."""
    name = NAMINGS["peft"].filename
    if not opened.path.is_dir() or [one.stem for one in opened.files] != [Path(name).stem]:
        return None
    texts = {key: value for key, value in opened.metadata.items() if isinstance(value, str)}
    form = Form(name, image.ONE_FILE, {**texts, "format": "pt"})
    return LaidOut(Applied(dict(tensors)), form=form)


def lay_out(opened: Checkpoint, tensors: Mapping[str, LazyTensor], layout: object) -> LaidOut | None:
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
        return _as_it_is(opened, tensors)
    found = adapters(dataclasses.replace(opened, tensors=dict(tensors)))
    if from_mlx:
        if layout not in ("auto", HUB, "peft"):
            raise LayoutError(f"{opened.path} is mlx-lm's already; --layout hf makes a PEFT adapter of it")
        return language.to_peft(found)
    if layout in MLX_LM:
        return language.to_mlx_lm(found)
    of_image_model = image.is_of_image_model(found)
    naming = layout.partition(":")[0] if isinstance(layout, str) else ""
    if layout == "auto":
        return image.lay_out(found, "mflux") if of_image_model else language.to_mlx_lm(found)
    if naming == "peft" and not of_image_model:
        return language.to_peft(found)
    if naming == "mflux" or (naming in NAMINGS and of_image_model):
        return image.lay_out(found, str(layout))
    if naming in NAMINGS:
        raise LayoutError(f"{opened.path} is no image model's adapter: --layout mlx-lm, peft or hf")
    raise LayoutError(f"{opened.path} is an adapter: --layout {', '.join(NAMINGS)}, mlx-lm or hf")
