"""Adapters of modules that are split and joined: the same change to the same rows, in other matrices.

A part of a split layer has its rows of `up` and the whole of `down`. Parts that are joined share `down` where
theirs are equal to the last bit; else their matrices stand along the diagonal, so that the ranks add up:
`[q 0; 0 k] @ [a; b]` changes the rows of q by `q @ a` and those of k by `k @ b`. Such a matrix is cut along
its blocks again when it is split, which leaves out products with zeros alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from wconv.errors import LayoutError
from wconv.layouts.reverse_rules import same_bits
from wconv.layouts.rules import Rule
from wconv.lora.deltas import ScaledNode, single
from wconv.lora.pieces import ABSENT, ModuleRows, arranged
from wconv.lora.read import Adapter
from wconv.tensors.lazy import LazyTensor
from wconv.tensors.nodes import ZerosNode
from wconv.tensors.operations import concat

Pieces = tuple[ModuleRows, ...]
Columns = tuple[int, int]


def rearranged(rules: Sequence[Rule], adapters: Mapping[str, Adapter]) -> dict[str, Adapter]:
    """The adapters of the modules that `rules` make of others.

    Reads what decides how they are split and joined: `up` of a module that is split, `down` of those that are
    joined.

    Args:
        adapters: by module.

    Raises:
        LayoutError: a module cannot be split so, or the parts of one cannot be joined.
    """
    made = arranged(rules, {module: rows_of(one) for module, one in adapters.items()})
    columns = _columns(made, adapters)
    return {
        module: _composed(module, found, adapters, columns.get(module))
        for module, found in made.items()
        if columns.get(module) != (0, 0)
    }


def rows_of(adapter: Adapter) -> int:
    """The rows of the weight, or the length of the bias, that an adapter changes."""
    return next(one.shape[0] for one in (adapter.up, *adapter.diffs.values()) if one is not None)


def _columns(made: Mapping[str, Pieces], adapters: Mapping[str, Adapter]) -> dict[str, Columns]:
    """The ranks that each part of a split module needs, where it does not need all: (0, 0) for none."""
    parts: dict[str, list[str]] = {}
    for module, found in made.items():
        bases = {piece.base for piece in found}
        if len(bases) == 1:
            parts.setdefault(bases.pop(), []).append(module)
    columns: dict[str, Columns] = {}
    for base, modules in parts.items():
        up = adapters[base].up
        if len(modules) > 1 and up is not None and not adapters[base].diffs:
            blocks = _blocks(up, [made[module] for module in modules])
            if adapters[base].magnitude is not None:  # sets lengths even where nothing is added
                blocks = [(0, up.shape[1]) if block == (0, 0) else block for block in blocks]
            columns.update(zip(modules, blocks, strict=True) if blocks else ())
    return columns


def _blocks(up: LazyTensor, parts: Sequence[Pieces]) -> list[Columns]:
    """The columns of each part's block on the diagonal; empty when the matrix has no such blocks."""
    rank = up.shape[1]
    used = np.array([np.any([_used(up, piece) for piece in part], axis=0) for part in parts])
    if not used.any():
        return []
    equal = rank // len(parts)
    ends = [(equal * at, equal * (at + 1)) for at in range(len(parts))]
    if rank % len(parts) == 0 and all(
        not row[:first].any() and not row[last:].any() for row, (first, last) in zip(used, ends, strict=True)
    ):
        return ends
    blocks: list[Columns] = []
    end = 0
    for row in used:
        places = np.flatnonzero(row)
        if not places.size:
            blocks.append((0, 0))
            continue
        if places[0] < end:
            return []
        blocks.append((end, int(places[-1]) + 1))
        end = int(places[-1]) + 1
    last = max(at for at, block in enumerate(blocks) if block != (0, 0))
    blocks[last] = (blocks[last][0], rank)
    return blocks


def _used(up: LazyTensor, piece: ModuleRows) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Which columns of some rows hold anything but zeros."""
    found = np.zeros(up.shape[1], np.bool_)
    step = max((1 << 20) // up.shape[1], 1)
    for at in range(piece.row, piece.row + piece.rows, step):
        part = single(up.read(at, min(at + step, piece.row + piece.rows)))
        found |= (part != 0).any(axis=0)
    return found


def _composed(
    module: str, found: Pieces, adapters: Mapping[str, Adapter], columns: Columns | None
) -> Adapter:
    sources = [adapters[name] for name in dict.fromkeys(piece.base for piece in found) if name != ABSENT]
    first = sources[0]
    if len(found) == 1 and columns is None and found[0].rows == rows_of(first):
        return first
    up, down, scale = _product(module, found, adapters, sources)
    if columns is not None and up is not None and down is not None:
        up, down = up.slice(1, *columns), down.slice(0, *columns)
    return dataclasses.replace(
        first,
        up=up,
        down=down,
        scale=scale,
        magnitude=_stacked(module, found, adapters, lambda one: one.magnitude, "DoRA's lengths"),
        diffs={
            kind: stacked
            for kind in ("weight", "bias")
            if (stacked := _stacked(module, found, adapters, _diff(kind), "whole differences")) is not None
        },
        keys=tuple(dict.fromkeys(key for one in sources for key in one.keys)),
    )


def _diff(kind: str) -> Callable[[Adapter], LazyTensor | None]:
    return lambda one: one.diffs.get(kind)


def _stacked(
    module: str,
    found: Pieces,
    adapters: Mapping[str, Adapter],
    pick: Callable[[Adapter], LazyTensor | None],
    what: str,
) -> LazyTensor | None:
    """Rows of what all parts must have if one of them does."""
    tensors = [pick(adapters[piece.base]) if piece.base != ABSENT else None for piece in found]
    if all(tensor is None for tensor in tensors):
        return None
    parts = [_rows(one, piece) for one, piece in zip(tensors, found, strict=True) if one is not None]
    if len(parts) < len(found):
        names = [adapters[piece.base].name for piece in found if piece.base != ABSENT]
        raise LayoutError(
            f"{names[0]} has {what}, which other parts of {module} lack: they cannot be written as one"
        )
    return _joined(parts, module, 0)


def _product(
    module: str, found: Pieces, adapters: Mapping[str, Adapter], sources: Sequence[Adapter]
) -> tuple[LazyTensor | None, LazyTensor | None, float]:
    """The two matrices of all rows, and their scale."""
    pairs = [(one, one.up, one.down) for one in sources]
    complete = [(one, up, down) for one, up, down in pairs if up is not None and down is not None]
    if not complete:
        return None, None, 1.0
    scale = next((one.scale for one, _, _ in complete if one.scale), 0.0)
    downs = [down for _, _, down in complete]
    shared = all(down is downs[0] or same_bits(down, downs[0]) for down in downs)
    starts = np.cumsum([0, *(down.shape[0] for down in downs)]).tolist()
    width = downs[0].shape[0] if shared else starts[-1]
    at = {id(one): 0 if shared else start for (one, _, _), start in zip(complete, starts, strict=False)}
    dtype = complete[0][1].dtype
    rows: list[LazyTensor] = []
    for piece in found:
        one = adapters[piece.base] if piece.base != ABSENT else None
        if one is None or one.up is None:
            rows.append(ZerosNode((piece.rows, width), dtype))
            continue
        part = _rows(one.up, piece)
        part = part if one.scale == scale else ScaledNode(part, one.scale / scale)
        before, after = at[id(one)], width - at[id(one)] - part.shape[1]
        sides = [
            ZerosNode((piece.rows, length), part.dtype) if length else None for length in (before, after)
        ]
        rows.append(_joined([side for side in (sides[0], part, sides[1]) if side is not None], module, 1))
    return _joined(rows, module, 0), downs[0] if shared else _joined(downs, module, 0), scale


def _rows(tensor: LazyTensor, piece: ModuleRows) -> LazyTensor:
    return tensor.slice(0, piece.row, piece.row + piece.rows)


def _joined(tensors: Sequence[LazyTensor], module: str, axis: int) -> LazyTensor:
    """One after another, in float32 where their dtypes differ."""
    if len({tensor.dtype.name for tensor in tensors}) > 1:
        tensors = [tensor.cast("float32") for tensor in tensors]
    try:
        return concat(tensors, axis)
    except ValueError as error:
        raise LayoutError(f"the parts of {module} cannot be joined: {error}") from None
