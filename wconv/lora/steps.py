"""The steps of a conversion that adapters take part in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from wconv.consumers.adapters.modules import renames
from wconv.consumers.lay_out import PreparedModel
from wconv.consumers.layout_choice import choose_layout
from wconv.errors import LayoutError
from wconv.layouts.rules import Rule
from wconv.lora.convert import convert_adapter, is_adapter
from wconv.lora.merge import merge, share
from wconv.lora.read import Lora, read
from wconv.tensors import dtypes
from wconv.tensors.dtypes import DType
from wconv.tensors.lazy import LazyTensor
from wconv.wording import plural

__all__ = ["convert_adapter", "is_adapter", "laid_out", "notes", "read_all", "renames_of", "share"]


def read_all(wanted: Sequence[str | Lora]) -> tuple[Lora, ...]:
    """Every adapter that is to be merged; those that have been read already stay."""
    return tuple(one if isinstance(one, Lora) else read(one) for one in wanted)


def notes(loras: Sequence[Lora]) -> tuple[str, ...]:
    """A sentence for each adapter that is merged."""
    return tuple(
        f"merged {lora.path.name}: {plural(len(lora.adapters), 'layer')}, scale {lora.strength:g}"
        for lora in loras
    )


def renames_of(config: Mapping[str, Any] | None, names: Collection[str]) -> tuple[Rule, ...]:
    """The rules by which the names of a model's weights, and of its adapters, come to be the same."""
    try:
        return renames(choose_layout("auto", config, names))
    except LayoutError:
        return ()


def laid_out(
    lay_out: Callable[[Mapping[str, LazyTensor]], PreparedModel],
    tensors: Mapping[str, LazyTensor],
    loras: Sequence[Lora],
    requested: DType | None,
    where: str,
    respelling: Sequence[Rule] = (),
) -> PreparedModel:
    """Merges, then lays out; what is cast afterwards is rounded to that dtype alone.

    A tensor that rules make one with a merged one is cast with it.

    Args:
        respelling: rules that bring several generations of the model's names to one.
    """
    merged = merge(tensors, loras, where=where, respelling=respelling)
    laid = lay_out(merged)
    if requested is None and not laid.casts:
        return laid
    casts = {name: dtypes.by_name(to) for name, to in laid.casts.items()}
    changed = {name for name, tensor in merged.items() if tensor is not tensors[name]}
    to: dict[str, DType] = {}
    for name in laid.applied.tensors.keys() - laid.applied.keep_dtype:
        sources = laid.applied.sources.get(name, (name,))
        if not changed.isdisjoint(sources):
            kinds = ((source, tensors[source].dtype) for source in sources)
            to.update({source: requested or casts.get(kind.name, kind) for source, kind in kinds})
    again = merge(tensors, loras, to, where, respelling)
    for name, dtype in to.items():
        if name not in changed and again[name].dtype.is_floating and again[name].dtype.bits >= 16:
            again[name] = again[name].cast(dtype)
    return lay_out(again)
