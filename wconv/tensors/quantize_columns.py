"""How groups lie while they are quantized, and how their codes are packed.

A group of 64 is 8 cells of 8 neighbours; cells are what is moved, 16 bytes of a 16-bit dtype at once. The
groups of a block lie side by side: row `j` has cell `j` of each of them, the elements at even places in
one plane and those at odd places in another. So every step is one long loop over neighbouring numbers, and
a number of a group (its scale) is repeated four times only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from wconv.tensors.base import Array
from wconv.tensors.borrowed import Arena
from wconv.tensors.kernels import flushes_subnormals

CELL = 8
"""Elements that are moved together."""

PER_PLANE = CELL // 2
"""How many of them lie side by side in each plane."""

AT_ONCE = 1 << 18
"""Elements of one block: a plane of it is 512 KiB of float32, which fit in the cache.

With less, what is done for each group and each call weighs more, and two threads wait for each other.
"""

_WORKING = 11
"""Bytes that the arrays of `Work` take for each element of a block, at most."""


class Work:
    """Arrays to quantize one block of groups in.

    Attributes:
        plane: float32, (cells of a group, 4 for each group): one plane after the other.
        words: the elements of a block of 16-bit numbers, two to a word.
        codes: uint16, (2, cells of a group, 4 for each group).
        aside: uint16, like `plane`, for what else there is.
        ends: uint16, for the largest and the smallest number of each place of a cell.
    """

    ARRAYS = 8
    """How many there are, at most."""

    __slots__ = ("_top", "aside", "cells", "codes", "ends", "groups", "plane", "words")

    def __init__(self, arena: Arena, groups: int, group_size: int) -> None:
        self.groups, self.cells = groups, group_size // CELL
        row = groups * PER_PLANE
        self.plane = arena.empty((self.cells, row), np.float32)
        self.words = arena.empty((self.cells, row), np.uint32)
        self.codes = arena.empty((2, self.cells, row), np.uint16)
        self.ends = arena.empty((2, 2 * row), np.uint16)
        self.aside = arena.empty((self.cells, row), np.uint16)
        self._top = arena.empty((row,), np.uint16)
        self._top[:] = 0

    @staticmethod
    def nbytes(groups: int, group_size: int) -> int:
        """Bytes that the arrays for so many groups take."""
        return groups * group_size * _WORKING

    def limit(self, top: int, codes: Array) -> None:
        """Codes of 16 bits that are larger become `top`."""
        if self._top[0] != top:
            self._top[:] = top
        # with a scalar numpy takes ten times as long
        np.minimum(codes, self._top.view(codes.dtype), out=codes)


def spread_out(values: Array) -> Array:
    """A number for each group, repeated for its places in a row of a plane."""
    return np.repeat(values, PER_PLANE)


def load(block: Array, work: Work) -> None:
    """Fills `work.words` with the groups of a block, if its numbers are of 16 bits."""
    if block.dtype.itemsize == 2:
        # a complex number is a cell's 16 bytes, which numpy moves at once
        np.copyto(work.words.view(np.complex128), block.view(np.complex128).T)


def fill_plane(block: Array, work: Work, at: int) -> Array:
    """The elements at even (`at` 0) or odd (1) places of a block that is loaded, in `work.plane`."""
    plane = work.plane
    if block.dtype.itemsize == 4:
        aside = work.words.view(np.float32).reshape(-1)
        np.copyto(aside, block.reshape(-1)[at::2])
        np.copyto(plane.view(np.complex128), aside.view(np.complex128).reshape(work.groups, work.cells).T)
        return plane
    # two of them are one word; a bfloat16 becomes a float32 when the other's bits are gone
    bits = plane.view(np.int32)
    if at == 0:
        np.left_shift(work.words.view(np.int32), 16, out=bits)
    else:
        np.bitwise_and(work.words.view(np.int32), np.int32(-0x10000), out=bits)
    if block.dtype == np.float16:
        _widen(work, at)
    return plane


_UP_112 = np.float32(2.0**112)


def _widen(work: Work, at: int) -> None:
    """From float16's places to float32's; a multiplication corrects the bias."""
    halves = work.words.view(np.uint16)
    if flushes_subnormals() or np.bitwise_and(halves, np.uint16(0x7C00)).max() == 0x7C00:
        np.copyto(work.plane, halves.view(np.float16)[:, at::2])
        return
    bits = work.plane.view(np.int32)
    np.right_shift(bits, 3, out=bits)
    np.bitwise_and(bits, np.int32(-0x70000001), out=bits)  # the shift has copied the sign into three bits
    np.multiply(work.plane, _UP_112, out=work.plane)


def ends(block: Array, work: Work) -> tuple[Array, Array]:
    """The largest and the smallest number of each group as float32; NaN in one of them where there is one.

    Floats of one sign are ordered as their bits are, those below zero the other way round. So the largest
    bits, taken as signed, are those of the largest number, unless all are negative; taken as unsigned those
    of the smallest, unless none is.
    """
    if block.dtype.itemsize == 4:
        return _ends_of_floats(block, work, pass_nan=False)
    halves = work.words.view(np.uint16)
    signed, unsigned = work.ends
    np.maximum.reduce(halves.view(np.int16), 0, out=signed.view(np.int16))
    np.maximum.reduce(halves, 0, out=unsigned)
    np.bitwise_xor(unsigned, np.uint16(0x8000), out=unsigned)
    high, low = _within_cells(work.ends.view(np.int16), work.groups).view(np.uint16)
    np.bitwise_xor(low, np.uint16(0x8000), out=low)
    if high.max() >= 0x8000 or low.min() < 0x8000:
        # of one sign alone: the other end is that of the least magnitude
        least = np.bitwise_xor(np.minimum.reduce(halves, 0), np.uint16(0x7FFF)).view(np.int16)
        nearest = np.bitwise_xor(
            _within_cells(least[None], work.groups)[0].view(np.uint16), np.uint16(0x7FFF)
        )
        np.copyto(low, nearest, where=low < 0x8000)
        np.copyto(high, nearest, where=high >= 0x8000)
    return _single(high, block.dtype), _single(low, block.dtype)


def finite_ends(block: Array, work: Work) -> tuple[Array, Array]:
    """As `ends`, passing over NaN."""
    return _ends_of_floats(block, work, pass_nan=True)


def _ends_of_floats(block: Array, work: Work, *, pass_nan: bool) -> tuple[Array, Array]:
    high, low = np.empty((2, 2 * PER_PLANE, work.groups), np.float32)
    for at in (0, 1):
        plane = fill_plane(block, work, at)
        nan = np.isnan(plane) if pass_nan else None
        here = slice(at * PER_PLANE, (at + 1) * PER_PLANE)
        for ends_, operation, least in ((high, np.maximum, -np.inf), (low, np.minimum, np.inf)):
            if nan is not None:
                plane[nan] = least
            ends_[here] = operation.reduce(plane, 0).reshape(work.groups, PER_PLANE).T
    return np.maximum.reduce(high, 0), np.minimum.reduce(low, 0)


def _within_cells(rows: Array, groups: int) -> Array:
    """The largest of each eight neighbours of every row, int16."""
    cells = np.ascontiguousarray(rows.view(np.uint32).reshape(-1, PER_PLANE).T).view(np.int16)
    pairs = np.maximum.reduce(cells, 0).reshape(len(rows), groups, 2)
    found: Array = np.maximum(pairs[:, :, 0], pairs[:, :, 1])
    return found


def _single(halves: Array, dtype: np.dtype[Any]) -> Array:
    if dtype == np.float16:
        return halves.view(np.float16).astype(np.float32)
    return np.left_shift(halves, 16, dtype=np.uint32).view(np.float32)


def pack(work: Work, bits: int, out: Array) -> None:
    """Writes the codes as little-endian runs of bits.

    Args:
        out: bytes, one row for each group.
    """
    even, odd = work.codes
    np.left_shift(odd, bits, out=odd)
    np.bitwise_or(even, odd, out=even)
    if bits == 4:
        bytes_ = odd.reshape(-1).view(np.uint8)[: even.size].reshape(even.shape)
        np.copyto(bytes_, even, casting="unsafe")
        _turn(bytes_.view(np.uint32), out.view(np.uint32))
        return
    # four pairs in a cell: of their bits, each time neighbours are moved together
    cells = even.view(np.uint64)
    for lane in (16, 32):
        used = bits * lane // 8
        _together(cells, lane, used)
    if bits == 8:
        _turn(cells, out.view(np.uint64))
        return
    _turn(_runs(cells, bits), out.view(np.uint32))


def _together(cells: Array, lane: int, used: int) -> None:
    """Of each two neighbouring lanes, with `used` bits in the lower end of each, makes one."""
    lower = sum(((1 << used) - 1) << at for at in range(0, 64, 2 * lane))
    upper = np.bitwise_and(cells, np.uint64(lower << lane))
    np.right_shift(upper, np.uint64(lane - used), out=upper)
    np.bitwise_and(cells, np.uint64(lower), out=cells)
    np.bitwise_or(cells, upper, out=cells)


def _runs(cells: Array, bits: int) -> Array:
    """Cells of `bits` bytes each, four to a run: as words of 32 bits, in rows."""
    width = bits * 8
    runs = cells.reshape(-1, 4, cells.shape[1])
    words = np.zeros((len(runs), bits, cells.shape[1]), np.uint32)
    for at in range(bits):
        for cell in range(4):
            shift = cell * width - at * 32
            if -width < shift < 32:
                part = runs[:, cell] << np.uint64(shift) if shift >= 0 else runs[:, cell] >> np.uint64(-shift)
                words[:, at] |= part.astype(np.uint32)
    return words.reshape(-1, cells.shape[1])


def _turn(rows: Array, out: Array) -> None:
    np.copyto(out, rows.T)
