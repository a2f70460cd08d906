"""What a report says of one model: what was kept, computed, merged and left out, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wconv.checkpoints.checkpoint import Checkpoint
from wconv.consumers import casts
from wconv.consumers import since as versions
from wconv.conversion import decode
from wconv.layouts.apply import LayoutResult
from wconv.tensors.dtypes import DType
from wconv.tensors.lazy import LazyTensor
from wconv.writing.plan import Entry
from wconv.writing.sidecars import Sidecars

if TYPE_CHECKING:
    from wconv.conversion.pack import Packed
    from wconv.conversion.quantize import Quantized
    from wconv.lora.read import Lora


def kept(entries: Sequence[Entry], requested: DType | None, applied: LayoutResult) -> dict[str, str]:
    """The tensors that a cast that was asked for left alone, each with its dtype and the reason."""
    if requested is None:
        return {}
    found: dict[str, str] = {}
    for entry in entries:
        if entry.dtype is not requested and entry.dtype.is_floating:
            why = applied.keep_why if entry.name in applied.keep_dtype else "bytes that the consumer decodes"
            found[entry.name] = f"{entry.dtype.name}, {why}"
    return found


def computed(
    entries: Sequence[Entry], applied: LayoutResult, picked: Mapping[str, LazyTensor]
) -> tuple[str, ...]:
    """A note on tensors that are cast before the consumer computes with them."""
    cast = [
        entry
        for entry in entries
        if entry.name in applied.computed and entry.dtype is not picked[entry.name].dtype
    ]
    if not cast:
        return ()
    return (casts.note({entry.name: applied.computed[entry.name] for entry in cast}, cast[0].dtype.name),)


def merged(loras: Sequence[Lora]) -> tuple[str, ...]:
    """A note on each adapter that is merged."""
    if not loras:
        return ()
    from wconv.lora import steps

    return steps.notes(loras)


def left_out(opened: Checkpoint, side_files: Sidecars | None) -> dict[str, str]:
    """Files of the source that the output lacks; what only looked like weights was copied."""
    if side_files is None:
        return dict(opened.left_out)
    looked = {name: reason for name, reason in opened.left_out.items() if name not in side_files.copied}
    return {**looked, **side_files.left_out}


def sources(
    applied: LayoutResult,
    opened: Checkpoint,
    of_state: Mapping[str, tuple[str, ...]],
    made: Quantized | Packed | None,
) -> dict[str, tuple[str, ...]]:
    """What each output is made of, by the names of the file.

    Args:
        of_state: of the tensors of an optimizer's state.
        made: what was quantized, or kept packed.
    """
    names = {**applied.sources, **of_state} if of_state or made is not None else applied.sources
    if made is not None:
        names = {**names, **{new: names[weight] for new, weight in made.sources.items()}}
    return decode.sources(names, opened)


def since(consumer: str | None, command: str, config: Mapping[str, Any] | None) -> tuple[str, ...]:
    """With which versions of a program the result was compared, where an older one wants it otherwise."""
    model_type = (config or {}).get("model_type")
    if not consumer or not command or not isinstance(model_type, str):
        return ()
    version = versions.since(consumer, model_type)
    if not version:
        return ()
    return (
        f"compared with {consumer} {version} and newer: an older one wants {model_type} otherwise,"
        " or does not know it",
    )
