"""The pieces of a model-parallel checkpoint, one file for each rank, joined into whole tensors.

`consolidated.00.pth`, `consolidated.01.pth` … hold every tensor under one name, cut along the axis that its
kind of layer is parallel in (fairscale's ColumnParallelLinear, RowParallelLinear and ParallelEmbedding), or
whole in each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import ClassVar

import numpy as np

from wconv.errors import FormatError
from wconv.tensors import operations
from wconv.tensors.lazy import Array, LazyTensor
from wconv.tensors.nodes import UnaryNode

PIECE = re.compile(r"consolidated\.(?P<number>\d{2})\.(?P<suffix>pth|pt)")
"""The name of a rank's file."""

PARAMS = "params.json"
"""What stands beside such files in place of config.json."""

COLUMNS, ROWS, WHOLE, EMBEDDING, FEATURES = "columns", "rows", "whole", "embedding", "features"
"""How a tensor is cut: along its first axis, along its second, not at all, along the one that makes an
embedding as wide as the model, and not at all where its length is the model's width."""

AXES = {COLUMNS: 0, ROWS: 1}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Replicated(UnaryNode):
    """A tensor that every rank holds whole: read from all, which must agree.

    Attributes:
        others: the other ranks' copies.
        name: what it is called, for the message.
    """

    PARENTS: ClassVar[tuple[str, ...]] = ("parent", "others")

    others: tuple[LazyTensor, ...]
    name: str

    def read_into(self, start: int, stop: int, out: Array) -> None:
        self.parent.read_into(start, stop, out)
        again = np.empty_like(out)
        for other in self.others:
            other.read_into(start, stop, again)
            if again.tobytes() != out.tobytes():
                path, _ = other.file_position
                raise FormatError(
                    f"{path}: {self.name:.80} differs from that of the first piece, though every"
                    " piece holds it whole: the files are of different checkpoints"
                )


def order(names: Sequence[str], where: PurePath) -> list[str]:
    """The files of one set by rank.

    Raises:
        FormatError: a rank is missing.
    """
    numbers = {int(match["number"]): name for name in names if (match := PIECE.fullmatch(name))}
    for number in range(len(numbers)):
        if number not in numbers:
            suffix = names[0].rpartition(".")[2]
            lost = where / f"consolidated.{number:02d}.{suffix}"
            raise FormatError(f"{lost} is missing: the model is in several pieces; download it again")
    return [numbers[number] for number in sorted(numbers)]


def join_pieces(
    pieces: Sequence[Mapping[str, LazyTensor]], where: PurePath, cuts: Sequence[tuple[str, str]]
) -> dict[str, LazyTensor]:
    """Whole tensors of the ranks' pieces; what only one rank holds passes as it is.

    Args:
        pieces: each rank's tensors by name.
        where: their directory, for errors.
        cuts: regular expressions of names, and how such a tensor is cut (`COLUMNS` and its like); the first
            that matches a whole name counts.

    Raises:
        FormatError: the pieces do not fit each other, or there is no rule for a name.
    """
    if len(pieces) == 1:
        return dict(pieces[0])
    how = {
        name: next((cut for pattern, cut in cuts if re.fullmatch(pattern, name)), None) for name in pieces[0]
    }
    widths = [pieces[0][name].shape for name, cut in how.items() if cut == FEATURES]
    width = widths[0][0] if widths and len(widths[0]) == 1 else None
    joined: dict[str, LazyTensor] = {}
    for name in dict.fromkeys(name for piece in pieces for name in piece):
        parts = [piece[name] for piece in pieces if name in piece]
        if len(parts) == 1:
            joined[name] = parts[0]
        elif len(parts) < len(pieces):
            raise FormatError(f"{where}: {name:.80} is in {len(parts)} of {len(pieces)} pieces")
        else:
            joined[name] = _whole(name, parts, how.get(name), width, where)
    return joined


def _whole(
    name: str, parts: list[LazyTensor], cut: str | None, width: int | None, where: PurePath
) -> LazyTensor:
    if cut is None:
        raise FormatError(f"{where}: it is not known how the pieces of {name:.80} are joined")
    try:
        if cut in (WHOLE, FEATURES):
            if len({(part.dtype.name, part.shape) for part in parts}) > 1:
                raise ValueError("every piece should hold it whole")
            return Replicated(parts[0], tuple(parts[1:]), name)
        return operations.concat(parts, _embedding_axis(parts, width) if cut == EMBEDDING else AXES[cut])
    except (ValueError, IndexError) as error:
        shapes = ", ".join(str(part.shape) for part in parts[:4])
        raise FormatError(f"{where}: the pieces of {name:.80} ({shapes}) do not fit: {error}") from None


def _embedding_axis(parts: list[LazyTensor], width: int | None) -> int:
    """Llama 3 cuts the vocabulary, its predecessors the features: the norm's length tells which."""
    columns = {part.shape[-1] for part in parts}
    if width is not None and columns == {width}:
        return 0
    if width is not None and sum(part.shape[-1] for part in parts) == width:
        return 1
    raise ValueError(f"rows or columns should make a model of {width or 'unknown'} features")
