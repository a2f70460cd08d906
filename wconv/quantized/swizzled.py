"""Scales in the order of cuBLAS: tiles of 128 rows by 4 columns, each of 512 bytes one after another.

As `to_blocked` of torchao and of comfy_kitchen has it (NVIDIA's "1D block scaling factors layout"): a tile is
32 rows of 16 bytes; a byte's place in its row is its quarter of the tile's rows, times 4, plus its column.
"""

from __future__ import annotations

from wconv.quantized.stored import misfit
from wconv.tensors.lazy import LazyTensor

ROWS, COLUMNS = 128, 4


def padded(rows: int, columns: int) -> tuple[int, int]:
    """The lengths of a matrix of scales when its last tiles are filled up."""
    return -(-rows // ROWS) * ROWS, -(-columns // COLUMNS) * COLUMNS


def unswizzled(
    name: str, scales: LazyTensor, rows: int, columns: int, weight: str, codes: LazyTensor
) -> LazyTensor:
    """The matrix of scales, (rows, columns), that is stored in tiles.

    Raises:
        FormatError: there are not so many as whole tiles of it hold.
    """
    high, wide = padded(rows, columns)
    if scales.size != high * wide or not scales.size:
        raise misfit(name, scales, weight, codes, f"a scale for each of {high} by {wide} in tiles")
    tiles = scales.reshape((high // ROWS, wide // COLUMNS, 32, 4, COLUMNS))
    whole = tiles.transpose((0, 3, 2, 1, 4)).reshape((high, wide))
    return whole.slice(0, 0, rows).slice(1, 0, columns)
