"""Which tensors of a file are the same elements, and which share some."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from wconv.formats.torch.objects import TorchTensor
from wconv.formats.torch.tensors import EXTRA_SIZES


def ties(tensors: Mapping[str, Any]) -> tuple[tuple[tuple[str, ...], ...], list[tuple[str, str]]]:
    """Groups of names for the very same elements, and pairs of tensors that overlap in part."""
    if _apart(tensors):
        return (), []
    by_source: dict[int, list[tuple[int, int, str, TorchTensor]]] = {}
    for name, tensor in tensors.items():
        if type(tensor) is TorchTensor and 0 not in tensor.shape:
            by_source.setdefault(id(tensor.storage.source), []).append((*_extent(tensor), name, tensor))
    groups: dict[tuple[Any, ...], dict[str, None]] = {}
    overlaps: list[tuple[str, str]] = []
    for source, views in by_source.items():
        views.sort(key=lambda view: view[:2])
        last_end, last_name = -1, ""
        for begin, end, name, tensor in views:
            if begin >= last_end:
                last_end, last_name, last = end, name, tensor
                continue
            known = len(groups)
            for other, alike in ((last_name, last), (name, tensor)):
                groups.setdefault((source, *_identity(alike)), {})[other] = None
            if len(groups) == known + 2 or (
                len(groups) == known + 1 and _identity(last) != _identity(tensor)
            ):
                overlaps.append((last_name, name))
            if end > last_end:
                last_end, last_name, last = end, name, tensor
    order = {name: at for at, name in enumerate(tensors)}
    tied = [tuple(sorted(group, key=order.__getitem__)) for group in groups.values() if len(group) > 1]
    return tuple(sorted(tied, key=lambda group: order[group[0]])), overlaps


def _apart(tensors: Mapping[str, Any]) -> bool:
    """Whether no two tensors are of storages that share a byte: the common case, told at a glance."""
    places = [
        (id(storage.source), storage.start, storage.numel * storage.dtype.itemsize)
        for storage in [tensor.storage for tensor in tensors.values() if type(tensor) is TorchTensor]
    ]
    places.sort()
    return not any(
        source == other and start + size > begin
        for (source, start, size), (other, begin, _) in itertools.pairwise(places)
    )


def _identity(tensor: TorchTensor) -> tuple[Any, ...]:
    """What two tensors that are the same elements have in common."""
    begin, _ = _extent(tensor)
    quantizer = str(tensor.quantizer) if tensor.quantizer else None
    return (begin, tensor.shape, tensor.stride, str(tensor.dtype), tensor.conj, tensor.neg, quantizer)


def _extent(tensor: TorchTensor) -> tuple[int, int]:
    """First and last + 1 byte of a view within the source of its storage."""
    size = EXTRA_SIZES[tensor.dtype] if isinstance(tensor.dtype, str) else tensor.dtype.itemsize
    last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride, strict=True))
    start = tensor.storage.start
    return start + tensor.offset * size, start + (last + 1) * size
