"""Codes of a few bits as lazy tensors: unpacked, one to a byte, a range at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from wconv.errors import FormatError
from wconv.tensors import dtypes
from wconv.tensors.dtypes import DType
from wconv.tensors.lazy import Array, LazyTensor, Shape
from wconv.tensors.nodes import UnaryNode, by_blocks

UINT8 = dtypes.by_name("uint8")

SLAB = 1 << 19
"""Elements that are turned together: a run of each row of the stored matrix."""

LINE = 16 << 10
"""Bytes of a stored row up to which reading all of it costs less than a read of its own for a part."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Unpacked(LazyTensor):
    """The codes of rows that are packed little-endian, `bits` for each, with no bits between them.

    Attributes:
        packed: bytes, the rows' last axis.
        columns: codes of a row; what is left of its last byte is padding.
        high_first: of two codes in a byte the first is the upper one.
    """

    PARENTS: ClassVar[tuple[str, ...]] = ("packed",)

    packed: LazyTensor
    bits: int
    columns: int
    high_first: bool = False

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return UINT8

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        return (*self.packed.shape[:-1], self.columns)

    @property
    def in_pairs(self) -> bool:
        """Whether each byte holds two codes of a row, the first in the lower half."""
        return self.bits == 4 and not self.high_first and self.packed.shape[-1] * 2 == self.columns

    @property
    def _block(self) -> int:
        """Codes that fill whole bytes: of a run of bits, or of a row where it is padded."""
        whole = self.packed.shape[-1] * 8 == self.columns * self.bits
        return 8 // math.gcd(8, self.bits) if whole else max(self.columns, 1)

    @property
    def block_size(self) -> int:
        inner = self.packed.block_size
        return math.lcm(self._block, inner * 8 // self.bits) if inner > 1 else self._block

    def read_into(self, start: int, stop: int, out: Array) -> None:
        by_blocks(start, stop, out, self._block, self._blocks)

    def _blocks(self, first: int, last: int, out: Array) -> None:
        whole = self._block != self.columns or self.packed.shape[-1] * 8 == self.columns * self.bits
        width = self._block * self.bits // 8 if whole else self.packed.shape[-1]
        packed = self.packed.read_range(first * width, last * width)
        if whole:
            unpack(packed, self.bits, out, high_first=self.high_first)
            return
        rows = packed.reshape(last - first, width)
        usable = width * 8 // self.bits
        run = 8 // math.gcd(8, self.bits)
        padded = -(-usable // run) * run
        wide = np.zeros((last - first, padded * self.bits // 8), np.uint8)
        wide[:, :width] = rows
        codes = np.empty((last - first) * padded, np.uint8)
        unpack(wide.reshape(-1), self.bits, codes, high_first=self.high_first)
        out.reshape(last - first, self.columns)[:] = codes.reshape(last - first, padded)[:, : self.columns]


def _pairs(high_first: bool) -> Array:
    """For each byte its two codes of 4 bits, as the two bytes of a word."""
    both = np.arange(256, dtype=np.uint16)
    low, high = both & 15, both >> 4
    return (high | low << 8) if high_first else (low | high << 8)


_PAIRS = {False: _pairs(False), True: _pairs(True)}


def unpack(packed: Array, bits: int, out: Array, *, high_first: bool = False) -> None:
    """Writes one byte for each code of a little-endian run of bits, whose length fills whole bytes."""
    if bits == 8:
        out[:] = packed
        return
    if bits == 4:
        np.take(_PAIRS[high_first], packed, out=out.view(np.uint16), mode="clip")
        return
    run = 8 // math.gcd(8, bits)
    width, mask = run * bits // 8, (1 << bits) - 1
    rows, codes = packed.reshape(-1, width), out.reshape(-1, run)
    for place in range(run):
        byte, shift = divmod(place * bits, 8)
        here = rows[:, byte] >> shift
        if shift + bits > 8:
            here = here | rows[:, byte + 1] << (8 - shift)
        np.bitwise_and(here, mask, out=codes[:, place])


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Turned(UnaryNode):
    """A matrix with its axes exchanged, read by runs of columns: memory is that of the rows asked for."""

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        return self.parent.shape[::-1]

    @property
    def step(self) -> int:
        """Rows that are cheapest read together."""
        rows, height = self.shape
        fitting = max(SLAB // max(height, 1), 32)
        return min(fitting // 32 * 32, max(rows, 1))

    @property
    def block_size(self) -> int:
        return max(self.step * self.shape[1], 1)

    def read_into(self, start: int, stop: int, out: Array) -> None:
        by_blocks(start, stop, out, max(self.shape[1], 1), self._rows)

    def _rows(self, first: int, last: int, out: Array) -> None:
        height, width = self.parent.shape
        count = last - first
        target = out.reshape(count, height)
        line = width * self.dtype.itemsize
        if count * self.dtype.itemsize * 4 >= line or line <= LINE:
            step = max((1 << 20) // max(line, 1), 1)
            for at in range(0, height, step):
                until = min(at + step, height)
                lines = self.parent.read_range(at * width, until * width).reshape(until - at, width)
                target[:, at:until] = lines[:, first:last].T
            return
        lines = np.empty((height, count), self.dtype.numpy)
        for at in range(height):
            self.parent.read_into(at * width + first, at * width + last, lines[at])
        np.copyto(target, lines.T)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Spread(LazyTensor):
    """A matrix whose words hold codes of as many rows: a row of `bits` words becomes 32 rows of codes.

    Attributes:
        words: integers of 8, 16 or 32 bits, (rows * bits / those, columns).
        order: of eight rows, which place of a word each has (4 bits).
        raised: added to each code. Where codes fill a word it is added to words, so that what GPTQModel has
            taken off in words comes back: a code of zero has borrowed from its neighbour.
    """

    PARENTS: ClassVar[tuple[str, ...]] = ("words",)

    words: LazyTensor
    bits: int
    rows: int
    order: tuple[int, ...] = ()
    raised: int = 0

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return UINT8

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        return (self.rows, self.words.shape[1])

    @property
    def _unit(self) -> tuple[int, int]:
        """Words that hold whole codes, and how many they hold."""
        width = self.words.dtype.bits
        return (1, width // self.bits) if width % self.bits == 0 else (self.bits, width)

    @property
    def step(self) -> int:
        """Rows that are cheapest read together."""
        inner = self.words.step if isinstance(self.words, Turned) else 1
        words, codes = self._unit
        return max(inner // words, 1) * codes

    @property
    def block_size(self) -> int:
        return max(self.step * self.shape[1], 1)

    def read_into(self, start: int, stop: int, out: Array) -> None:
        columns = max(self.shape[1], 1)
        by_blocks(start, stop, out, columns, self._rows)

    def _rows(self, first: int, last: int, out: Array) -> None:
        per_words, per = self._unit
        columns = self.shape[1]
        begin, end = first // per, -(-last // per)
        words = self.words.read(begin * per_words, min(end * per_words, self.words.shape[0]))
        width, word = self.words.dtype.bits, np.dtype(f"u{self.words.dtype.itemsize}").type
        words = words.view(word)
        if self.raised and per_words == 1:
            words = words + word(sum(self.raised << at for at in range(0, width, self.bits)))
        words = words.reshape(end - begin, per_words, columns)
        whole = begin * per == first and end * per == last
        codes = out if whole else np.empty((end - begin) * per * columns, np.uint8)
        codes = codes.reshape(end - begin, per, columns)
        mask = word((1 << self.bits) - 1)
        for place in range(per):
            at, shift = divmod((self.order[place] if self.order else place) * self.bits, width)
            here = words[:, at] >> word(shift)
            if shift + self.bits > width:
                here = here | words[:, at + 1] << word(width - shift)
            if self.raised and per_words > 1:
                here = here + word(self.raised)
            codes[:, place] = here & mask
        if not whole:
            flat = codes.reshape(-1, columns)[first - begin * per : last - begin * per]
            out.reshape(last - first, columns)[:] = flat


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class BitField(UnaryNode):
    """Some bits of every byte, which may not exceed `most`."""

    shift: int
    mask: int
    most: int
    name: str

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return UINT8

    def read_into(self, start: int, stop: int, out: Array) -> None:
        self.parent.read_into(start, stop, out)
        np.right_shift(out, self.shift, out=out)
        np.bitwise_and(out, self.mask, out=out)
        if out.size and out.max() > self.most:
            raise FormatError(f"{self.name} holds a code of {out.max()}, beyond the largest, {self.most}")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Flipped(UnaryNode):
    """Signed bytes as unsigned ones, 128 higher."""

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return UINT8

    def read_into(self, start: int, stop: int, out: Array) -> None:
        self.parent.read_into(start, stop, out.view(self.parent.dtype.numpy))
        np.bitwise_xor(out, 128, out=out)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Repacked(LazyTensor):
    """Codes packed as MLX has them: little-endian runs of bits, as uint32 along the last axis."""

    PARENTS: ClassVar[tuple[str, ...]] = ("codes",)

    codes: LazyTensor
    bits: int

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return dtypes.by_name("uint32")

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        return (*self.codes.shape[:-1], self.codes.shape[-1] * self.bits // 32)

    @property
    def block_size(self) -> int:
        return max(math.lcm(self.codes.block_size, 32) * self.bits // 32, 1)

    def read_into(self, start: int, stop: int, out: Array) -> None:
        by_blocks(start, stop, out, self.bits, self._runs)

    def _runs(self, first: int, last: int, out: Array) -> None:
        codes = self.codes.read_range(first * 32, last * 32).reshape(-1, 32)
        packed = np.zeros((last - first, self.bits), np.uint32)
        for place in range(32):
            at, shift = divmod(place * self.bits, 32)
            wide = codes[:, place].astype(np.uint32)
            packed[:, at] |= wide << np.uint32(shift)
            if shift + self.bits > 32:
                packed[:, at + 1] |= wide >> np.uint32(32 - shift)
        out[:] = packed.reshape(-1)
