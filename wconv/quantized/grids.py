"""Scales in a grid over a weight: one for all of it, for each row, for each block of rows and columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from wconv.quantized.stored import check_some, misfit
from wconv.quantized.values import Decoded, ScaleValues
from wconv.tensors import operations
from wconv.tensors.lazy import LazyTensor

BLOCKS = (128, 64, 32, 16)
"""Lengths of blocks that are tried where the last one of an axis is cut."""


def block_size_of(settings: Mapping[str, Any]) -> tuple[int, int] | None:
    """`weight_block_size` of a config: rows and columns of a block."""
    found = settings.get("weight_block_size")
    if isinstance(found, list) and len(found) == 2 and all(isinstance(one, int) and one > 0 for one in found):
        return found[0], found[1]
    return None


def on_grid(
    weight: Decoded,
    scales: ScaleValues,
    size: tuple[int, int] | None = None,
    zeros: LazyTensor | None = None,
) -> LazyTensor:
    """`weight` with scales that cover it as their shape says.

    Args:
        weight: without scales that count: its codes, dtype and name.
        scales: of any of the shapes that are known.
        size: what the config says of a block.
        zeros: of the shape of `scales`.

    Raises:
        FormatError: the scales' shape covers no weight of that shape.
    """
    shape = weight.codes.shape
    check_some(weight.name, weight.codes)
    if not shape:
        raise misfit(scales.name, scales, weight.name, weight.codes, "a weight with axes")
    check_some(scales.name, scales)
    rows, columns = (shape[-2], shape[-1]) if len(shape) > 1 else (1, shape[-1] if shape else 1)
    leading = shape[:-2]
    count = 1
    for length in leading:
        count *= length
    if scales.size == 1:
        return _with(weight, scales, zeros, (1, 1), (count * rows, columns))
    if leading and scales.size == count:
        return _with(weight, scales, zeros, (count, 1), (rows, columns))
    if scales.size == count * rows and scales.shape[-1:] in ((1,), (rows,)):
        return _with(weight, scales, zeros, (count * rows, 1), (1, columns))
    if scales.ndim < 2 or scales.shape[:-2] != leading:
        raise misfit(scales.name, scales, weight.name, weight.codes)
    high, wide = scales.shape[-2:]
    block = _block(rows, columns, high, wide, size)
    if block is None:
        raise misfit(scales.name, scales, weight.name, weight.codes)
    if count > 1 and rows % block[0]:
        return _one_by_one(weight, scales, zeros, block, count)
    return _with(weight, scales, zeros, (count * high, wide), block)


def _with(
    weight: Decoded,
    scales: ScaleValues,
    zeros: LazyTensor | None,
    shape: tuple[int, int],
    block: tuple[int, int],
) -> LazyTensor:
    flat = replace(scales, parent=scales.parent.reshape(shape))
    return replace(weight, scales=flat, zeros=None if zeros is None else zeros.reshape(shape), block=block)


def _block(
    rows: int, columns: int, high: int, wide: int, size: tuple[int, int] | None
) -> tuple[int, int] | None:
    """Rows and columns of a block, where so many blocks cover the weight.

    Beside the blocks that a config says there are only groups of a row.
    """
    if size is not None and (-(-rows // size[0]), -(-columns // size[1])) == (high, wide):
        return size
    if size is not None and high != rows:
        return None
    both = tuple(_length(length, blocks) for length, blocks in ((rows, high), (columns, wide)))
    return (both[0], both[1]) if all(both) else None


def _length(length: int, blocks: int) -> int:
    if blocks and length % blocks == 0:
        return length // blocks
    return next((one for one in BLOCKS if -(-length // one) == blocks), 0)


def _one_by_one(
    weight: Decoded, scales: ScaleValues, zeros: LazyTensor | None, block: tuple[int, int], count: int
) -> LazyTensor:
    """A stack of matrices whose last blocks are cut: each by itself."""
    shape = weight.codes.shape
    grid = scales.shape[-2:]
    codes = weight.codes.reshape((count, *shape[-2:]))
    factors = scales.parent.reshape((count, *grid))
    offsets = None if zeros is None else zeros.reshape((count, *grid))
    made = [
        replace(
            weight,
            codes=codes.slice(0, at, at + 1).reshape(shape[-2:]),
            scales=replace(scales, parent=factors.slice(0, at, at + 1).reshape(grid)),
            zeros=None if offsets is None else offsets.slice(0, at, at + 1).reshape(grid),
            block=block,
        )
        for at in range(count)
    ]
    return operations.stack(made).reshape(shape)
