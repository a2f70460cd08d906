"""Lazy tensors of adapters: a product of two small matrices, and weights with such products added."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from wconv import casts, dtypes
from wconv.dtypes import DType
from wconv.errors import OutputError
from wconv.nodes import Derived, by_blocks
from wconv.tensor import Array, LazyTensor, Shape

BLOCK = 32 << 20
"""Bytes of the wide matrix, in float32, that are held at once; of a larger one a part of the rank."""

STEP = 1 << 20
"""Bytes of a product, in float32, that are computed at once."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Product(LazyTensor):
    """`scale · up @ down` in float32, in the shape of the weight that it changes.

    Attributes:
        up: (rows, rank).
        down: (rank, columns).
        shape: begins with `rows`; the other lengths' product is `columns`.
    """

    up: LazyTensor
    down: LazyTensor
    scale: float
    shape: Shape

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return dtypes.by_name("float32")

    @property
    def origin(self) -> tuple[str, int]:
        return self.up.origin

    @property
    def grain(self) -> int:
        columns = self.down.shape[1]
        return max(STEP // (4 * columns), 1) * columns

    def fill(self, start: int, stop: int, out: Array) -> None:
        by_blocks(start, stop, out, self.down.shape[1], self._rows)

    def _rows(self, first: int, last: int, out: Array) -> None:
        rank, columns = self.down.shape
        up = single(self.up.read(first, last))
        product = out.reshape(last - first, columns)
        step = max(BLOCK // (4 * columns), 1)
        if rank <= step:
            np.matmul(up, _whole(self.down), out=product)
        else:
            product[:] = 0
            for at in range(0, rank, step):
                part = single(self.down.read(at, min(at + step, rank)))
                product += up[:, at : at + len(part)] @ part
        if self.scale != 1:
            product *= np.float32(self.scale)


@functools.lru_cache(maxsize=4)
def _whole(tensor: LazyTensor) -> Array:
    """A small matrix in float32; the chunks of one weight follow each other, and each needs it."""
    return single(tensor.numpy())


def single(array: Array) -> Array:
    """An array in float32."""
    if array.dtype == np.float32:
        return array
    out = np.empty(array.shape, np.float32)
    casts.cast(np.ascontiguousarray(array).reshape(-1), out.reshape(-1))
    return out


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Scaled(Derived):
    """A tensor times a number, in float32."""

    scale: float

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return dtypes.by_name("float32")

    def fill(self, start: int, stop: int, out: Array) -> None:
        casts.cast(self.parent.elements(start, stop), out)
        out *= np.float32(self.scale)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Zeros(LazyTensor):
    """Nothing but zeros, which take no memory."""

    shape: Shape
    dtype: DType

    def fill(self, start: int, stop: int, out: Array) -> None:
        out[:] = 0


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """What one adapter does to a weight.

    Attributes:
        delta: is added, row by row.
        row: of the weight, where the delta's first row goes.
        magnitude: of a weight-decomposed adapter, the length that each row has afterwards: (rows,).
    """

    delta: LazyTensor
    row: int = 0
    magnitude: LazyTensor | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Merged(LazyTensor):
    """A weight with adapters' deltas added in order: computed in float32 and rounded once.

    Attributes:
        name: of the weight, for messages.
        to: the dtype of the result.
    """

    name: str
    base: LazyTensor
    terms: tuple[Term, ...]
    target: DType

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return self.target

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        return self.base.shape

    @property
    def origin(self) -> tuple[str, int]:
        return self.base.origin

    @property
    def _row(self) -> int:
        return math.prod(self.base.shape[1:])

    @property
    def grain(self) -> int:
        return max(STEP // (4 * self._row), 1) * self._row

    def fill(self, start: int, stop: int, out: Array) -> None:
        by_blocks(start, stop, out, self._row, self._blocks)

    def _blocks(self, first: int, last: int, out: Array) -> None:
        step = max(STEP // (4 * self._row), 1)
        for at in range(first, last, step):
            until = min(at + step, last)
            self._rows(at, until, out[(at - first) * self._row : (until - first) * self._row])

    def _rows(self, first: int, last: int, out: Array) -> None:
        row = self._row
        weight = single(self.base.elements(first * row, last * row)).reshape(last - first, row)
        for term in self.terms:
            begin, end = max(first, term.row), min(last, term.row + term.delta.shape[0])
            if begin >= end:
                continue
            part = weight[begin - first : end - first]
            delta = term.delta.elements((begin - term.row) * row, (end - term.row) * row)
            np.add(part, single(delta).reshape(part.shape), out=part)
            if term.magnitude is not None:
                lengths = np.sqrt(np.einsum("ij,ij->i", part, part))
                wanted = single(term.magnitude.elements(begin - term.row, end - term.row))
                # a row of zeros has no direction: it stays as it is
                part *= np.divide(wanted, lengths, out=np.ones_like(lengths), where=lengths > 0)[:, None]
        lost = casts.cast(weight.reshape(-1), out)
        if lost.count:
            raise OutputError(
                f"{self.name} with the adapter overflows {self.target.name} ({lost.count:,} values):"
                " choose --dtype float32 or bfloat16, or a smaller scale"
            )
