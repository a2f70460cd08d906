"""The flat vectors of DeepSpeed's ZeRO, which the ranks share, and the parameters that lie in them."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wconv.errors import FormatError
from wconv.tensors import dtypes
from wconv.tensors.lazy import LazyTensor, Shape
from wconv.tensors.pieces import Piece, joined


@dataclass(frozen=True, slots=True)
class FlatRow:
    """Vectors one after another: `ends` says where each ends."""

    parts: tuple[LazyTensor, ...]
    ends: tuple[int, ...]

    def range(self, begin: int, end: int, at: int) -> Iterable[Piece]:
        """The elements from `begin` to `end`, as pieces that begin at `at`."""
        index = bisect.bisect_right(self.ends, begin)
        while begin < end and index < len(self.parts):
            first = self.ends[index] - self.parts[index].size
            until = min(end, self.ends[index])
            if until > begin:
                yield Piece((at,), self.parts[index].slice(0, begin - first, until - first))
                at += until - begin
                begin = until
            index += 1


def row(parts: Iterable[LazyTensor]) -> FlatRow:
    """Tensors one after another, each flattened."""
    flat = tuple(part if part.ndim == 1 else part.reshape((part.size,)) for part in parts)
    return FlatRow(flat, tuple(itertools.accumulate(part.size for part in flat)))


def vector(pieces: Iterable[Piece], shape: Shape, name: str, where: str) -> LazyTensor:
    """A parameter whose elements are these pieces of one axis."""
    held = list(pieces)
    dtype = held[0].tensor.dtype if held else dtypes.by_name("float32")
    return joined(held, dtype, (math.prod(shape),), name, where).reshape(shape)


def gaps(paddings: Any, number: int, count: int, where: str) -> list[int]:
    """What is between the parameters of a group."""
    if paddings is None:
        return [0] * count
    found = paddings[number] if isinstance(paddings, list | tuple) and number < len(paddings) else None
    if not isinstance(found, list | tuple) or len(found) != count:
        raise FormatError(f"{where}: param_alignment_paddings are not those of the parameters")
    if any(type(gap) is not int or not 0 <= gap < 2**40 for gap in found):
        raise FormatError(f"{where}: param_alignment_paddings are no numbers")
    return list(found)


def cut_row(
    shares: Sequence[LazyTensor], shapes: Mapping[str, Shape], skipped: Sequence[int], group: str, where: str
) -> dict[str, LazyTensor]:
    """The parameters of a group that lie in a row over some ranks.

    Args:
        shares: what each of these ranks holds.
        skipped: the elements between a parameter and the next.
        group: which it is, for errors.

    Raises:
        FormatError: the row is of another length than the parameters.
    """
    whole = row(shares)
    found: dict[str, LazyTensor] = {}
    at = 0
    for (name, shape), gap in zip(shapes.items(), skipped, strict=True):
        size = math.prod(shape)
        found[name] = vector(whole.range(at, at + size, 0), shape, name, where)
        at += size + gap
    held = whole.ends[-1] if whole.ends else 0
    align = 2 * len(shares)
    if -(-at // align) != -(-held // align):
        raise FormatError(
            f"{where}: the parameters of {group} have {at:,} elements and the ranks hold {held:,}:"
            " the files are of different checkpoints"
        )
    return found
