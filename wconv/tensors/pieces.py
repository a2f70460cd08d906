"""A tensor that lies in pieces: boxes of one tensor, each a lazy tensor of its own, read by range.

`joined` checks once that the boxes cover the tensor: a hole is an error that names it. Boxes may overlap, as
copies do that several ranks keep; what overlaps is compared when it is read, and must agree.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from wconv.errors import FormatError
from wconv.tensors.base import Array, LazyTensor, Shape
from wconv.tensors.dtypes import DType

BLOCK = 1 << 20
"""Bytes up to which the rows that pieces share are read together."""

CELLS = 100_000
"""Cells of the grid on which boxes are compared that lie across each other."""


class Piece(NamedTuple):
    """A box of a tensor: where it begins, and its elements."""

    offsets: Shape
    tensor: LazyTensor

    @property
    def ends(self) -> Shape:
        """Where it ends, along each axis."""
        return tuple(begin + length for begin, length in zip(self.offsets, self.tensor.shape, strict=True))


Range = tuple[int, int]
Box = tuple[Range, ...]


def joined(pieces: Sequence[Piece], dtype: DType, shape: Shape, name: str, where: str) -> LazyTensor:
    """The tensor whose pieces these are; the piece itself where it is the whole.

    Empty pieces are passed over. Pieces of other dtypes, or beyond the tensor, are refused.

    Args:
        name, where: the tensor and its files, for errors.

    Raises:
        FormatError: a part of the tensor is in no piece, or a piece does not fit it.
    """
    boxes: dict[tuple[Shape, Shape], None] = {}
    held: list[Piece] = []
    again = False
    for piece in pieces:
        offsets, tensor = piece
        sizes = tensor.shape
        if tensor.dtype is not dtype:
            raise FormatError(
                f"{where}: a piece of {name:.200} is {tensor.dtype.name} and another is {dtype.name}"
            )
        if len(offsets) != len(shape) or len(sizes) != len(shape):
            raise FormatError(f"{where}: a piece of {name:.200} has {len(sizes)} axes, not {len(shape)}")
        if 0 in sizes and 0 not in shape:
            continue
        for begin, length, whole in zip(offsets, sizes, shape, strict=True):
            if begin < 0 or begin + length > whole:
                box = tuple(zip(offsets, piece.ends, strict=True))
                raise FormatError(
                    f"{where}: a piece of {name:.200} is its {spelled(box)}, beyond its shape {shape!r:.80}"
                )
        again = again or (offsets, sizes) in boxes
        boxes[offsets, sizes] = None
        held.append(piece)
    region: Box = tuple((0, length) for length in shape)
    overlap = again
    if 0 not in shape:
        distinct = [tuple((a, a + n) for a, n in zip(*box, strict=True)) for box in boxes]
        overlap = _covered(distinct, region, name, where) or again
    elif not held:
        from wconv.tensors.nodes import ZerosNode

        return ZerosNode(shape, dtype)
    if len(held) == 1 or (0 in shape and held):
        return held[0].tensor
    held.sort(key=lambda piece: piece.offsets)
    return PiecesNode(
        tuple(piece.tensor for piece in held),
        tuple(piece.offsets for piece in held),
        dtype,
        shape,
        overlap,
        name,
        where,
    )


def spelled(box: Box) -> str:
    """A box as Python would slice it: `[0:4, 8:16]`."""
    return f"[{', '.join(f'{begin}:{end}' for begin, end in box)}]" if box else "only element"


def _hole(box: Box, name: str, where: str) -> FormatError:
    return FormatError(f"{where}: {spelled(box)} of {name:.200} is in no file: a rank's file is missing")


def _covered(boxes: Sequence[Box], region: Box, name: str, where: str) -> bool:
    """Whether any of the different boxes overlap. Raises `FormatError` where they leave a hole.

    Boxes that can be cut apart along an axis are looked at by themselves; that is so for all that are made
    by cutting a tensor along one axis after another.
    """
    pending: list[tuple[Sequence[Box], Box]] = [(boxes, region)]
    overlap = False
    while pending:
        group, whole = pending.pop()
        if not group:
            raise _hole(whole, name, where)
        if len(group) == 1:
            _check_single(group[0], whole, name, where)
            continue
        for axis in range(len(whole)):
            parts = _apart(group, axis)
            at, end = whole[axis]
            for (begin, until), _ in parts:
                if begin > at:
                    raise _hole((*whole[:axis], (at, begin), *whole[axis + 1 :]), name, where)
                at = until
            if at < end:
                raise _hole((*whole[:axis], (at, end), *whole[axis + 1 :]), name, where)
            if len(parts) > 1:
                pending += [(part, (*whole[:axis], span, *whole[axis + 1 :])) for span, part in parts]
                break
        else:
            overlap = True
            _check_across(group, whole, name, where)
    return overlap


def _check_single(box: Box, whole: Box, name: str, where: str) -> None:
    for axis, ((begin, end), (first, last)) in enumerate(zip(box, whole, strict=True)):
        missing = (first, begin) if begin > first else (end, last) if end < last else None
        if missing is not None:
            raise _hole((*whole[:axis], missing, *whole[axis + 1 :]), name, where)


def _apart(group: Sequence[Box], axis: int) -> list[tuple[Range, list[Box]]]:
    """Boxes in groups that do not reach into each other along an axis, in its order."""
    parts: list[tuple[Range, list[Box]]] = []
    for box in sorted(group, key=lambda box: box[axis]):
        begin, end = box[axis]
        if parts and begin < parts[-1][0][1]:
            (first, last), part = parts[-1]
            part.append(box)
            parts[-1] = ((first, max(last, end)), part)
        else:
            parts.append(((begin, end), [box]))
    return parts


def _check_across(group: Sequence[Box], whole: Box, name: str, where: str) -> None:
    """Boxes that lie across each other: looked at on the grid of all their edges. Raises `FormatError`."""
    edges = [sorted({edge for box in (*group, whole) for edge in box[axis]}) for axis in range(len(whole))]
    counts = [len(one) - 1 for one in edges]
    if math.prod(counts) > CELLS or math.prod(counts) * len(group) > 100 * CELLS:
        raise FormatError(f"{where}: the {len(group):,} pieces of {name:.200} lie across each other: refused")
    held = np.zeros(counts, bool)
    for box in group:
        places = (
            slice(one.index(begin), one.index(end)) for one, (begin, end) in zip(edges, box, strict=True)
        )
        held[tuple(places)] = True
    if not held.all():
        cell = np.argwhere(~held)[0]
        hole = tuple((one[at], one[at + 1]) for one, at in zip(edges, cell, strict=True))
        raise _hole(hole, name, where)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class PiecesNode(LazyTensor):
    """A tensor out of boxes that cover it.

    Attributes:
        parts: the boxes' elements, sorted by where they begin.
        offsets: where each begins.
        overlap: some cover the same elements, and must agree there.
        name, where: the tensor and its files, for errors.
    """

    PARENTS: ClassVar[tuple[str, ...]] = ("parts",)

    parts: tuple[LazyTensor, ...]
    offsets: tuple[Shape, ...]
    dtype: DType
    shape: Shape
    overlap: bool
    name: str
    where: str

    @property
    def file_position(self) -> tuple[str, int]:
        return self.parts[0].file_position

    @property
    def block_size(self) -> int:
        last = next(
            (
                axis
                for axis in reversed(range(1, len(self.shape)))
                if any(part.shape[axis] != self.shape[axis] for part in self.parts)
            ),
            0,
        )
        if not last:
            return 1
        row = math.prod(self.shape[last:])
        return row if row * self.dtype.itemsize <= BLOCK else 1

    def read_into(self, start: int, stop: int, out: Array) -> None:
        filled = np.zeros(out.size, bool) if self.overlap else None
        at = 0
        for box in boxes_of(start, stop, self.shape):
            sizes = tuple(end - begin for begin, end in box)
            count = math.prod(sizes)
            mask = filled[at : at + count].reshape(sizes) if filled is not None else None
            self._read_box(box, out[at : at + count].reshape(sizes), mask)
            at += count

    def _read_box(self, box: Box, out: Array, filled: Array | None) -> None:
        for index in self._reached(box):
            part, offsets = self.parts[index], self.offsets[index]
            common = tuple(
                (max(begin, first), min(end, first + length))
                for (begin, end), first, length in zip(box, offsets, part.shape, strict=True)
            )
            if any(begin >= end for begin, end in common):
                continue
            place: tuple[Any, ...] = tuple(
                slice(begin - first, end - first)
                for (begin, end), (first, _) in zip(common, box, strict=True)
            )
            within = tuple(
                (begin - first, end - first) for (begin, end), first in zip(common, offsets, strict=True)
            )
            target = out[(*place, ...)]
            if filled is None:
                read_box(part, within, target)
            else:
                self._fill_or_compare(part, within, target, filled[(*place, ...)])

    def _fill_or_compare(self, part: LazyTensor, within: Box, target: Array, filled: Array) -> None:
        found = np.empty(target.shape, target.dtype)
        read_box(part, within, found)
        if filled.any() and found[filled].tobytes() != target[filled].tobytes():
            path, _ = part.file_position
            raise FormatError(
                f"{path or self.where}: {self.name:.200} differs from what another file holds of the same"
                " elements: the files are of different checkpoints"
            )
        np.copyto(target, found)
        filled[...] = True

    def _reached(self, box: Box) -> Iterator[int]:
        """The parts that may have elements of a box: those that begin before it ends."""
        if not box:
            return iter(range(len(self.parts)))
        last = bisect.bisect_left(self.offsets, (box[0][1],))
        if last <= 8:
            return iter(range(last))
        begin = box[0][0]
        return (index for index in range(last) if self.offsets[index][0] + self.parts[index].shape[0] > begin)


def boxes_of(start: int, stop: int, shape: Shape) -> Iterator[Box]:
    """The boxes that a range of a flattened tensor is made of, in order: two for each axis at most."""
    if start >= stop:
        return
    if not shape:
        yield ()
        return
    row = math.prod(shape[1:])
    first, last = -(-start // row), stop // row
    if first > last:
        # within one row
        index = first - 1
        for box in boxes_of(start - index * row, stop - index * row, shape[1:]):
            yield ((index, index + 1), *box)
        return
    if start < first * row:
        index = first - 1
        for box in boxes_of(start - index * row, row, shape[1:]):
            yield ((index, index + 1), *box)
    if first < last:
        yield ((first, last), *((0, length) for length in shape[1:]))
    if last * row < stop:
        for box in boxes_of(0, stop - last * row, shape[1:]):
            yield ((last, last + 1), *box)


def read_box(tensor: LazyTensor, box: Box, out: Array) -> None:
    """Reads a box of a tensor into an array of its shape, which need not lie in one run.

    Consecutive elements are read at once, up to `BLOCK` bytes of them aside where `out` is not contiguous.
    """
    shape = tensor.shape
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    # the axes from `whole` on are taken in full: those of one box before it make one run
    whole = len(shape)
    while whole and box[whole - 1] == (0, shape[whole - 1]):
        whole -= 1
    axis = max(whole - 1, 0)
    if not shape:
        tensor.read_into(0, 1, out.reshape(-1))
        return
    begin, end = box[axis]
    run = strides[axis]
    for outer in itertools.product(*(range(*span) for span in box[:axis])):
        base = sum(at * stride for at, stride in zip(outer, strides, strict=False))
        target = out[tuple(at - span[0] for at, span in zip(outer, box, strict=False))]
        if target.flags.c_contiguous:
            tensor.read_into(base + begin * run, base + end * run, target.reshape(-1))
            continue
        step = max(BLOCK // max(run * tensor.dtype.itemsize, 1), 1)
        for at in range(begin, end, step):
            until = min(at + step, end)
            lines = tensor.read_range(base + at * run, base + until * run)
            target[at - begin : until - begin] = lines.reshape(until - at, *target.shape[1:])
