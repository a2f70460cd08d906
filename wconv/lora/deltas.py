"""Lazy tensors of adapters: a product of two small matrices, and weights with such products added."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from wconv.errors import ComputedOverflowError, OutputError
from wconv.tensors import casts, dtypes
from wconv.tensors.array_cache import array_cache
from wconv.tensors.dtypes import DType
from wconv.tensors.graph import leaves
from wconv.tensors.lazy import Array, LazyTensor, Shape
from wconv.tensors.nodes import UnaryNode, by_blocks

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

    PARENTS: ClassVar[tuple[str, ...]] = ("up", "down")

    up: LazyTensor
    down: LazyTensor
    scale: float
    shape: Shape

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return dtypes.by_name("float32")

    @property
    def block_size(self) -> int:
        columns = self.down.shape[1]
        return max(STEP // (4 * columns), 1) * columns

    def read_into(self, start: int, stop: int, out: Array) -> None:
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


@array_cache(maxsize=4)
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
class ScaledNode(UnaryNode):
    """A tensor times a number, in float32."""

    scale: float

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return dtypes.by_name("float32")

    def read_into(self, start: int, stop: int, out: Array) -> None:
        casts.cast(self.parent.read_range(start, stop), out)
        before = casts.count_not_finite(out)
        with np.errstate(all="ignore"):
            out *= np.float32(self.scale)
        if casts.count_not_finite(out) > before:
            raise ComputedOverflowError(f"times its scale of {self.scale:g} it overflows float32")


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """What one adapter does to a weight.

    Attributes:
        delta: is added, row by row.
        row: of the weight, where the delta's first row goes.
        magnitude: of a weight-decomposed adapter, the length that each row has afterwards: (rows,).
        adapter: its file and its layer there, for messages.
    """

    delta: LazyTensor
    row: int = 0
    magnitude: LazyTensor | None = None
    adapter: str = "the adapter"

    @property
    def tensors(self) -> tuple[LazyTensor, ...]:
        """What it is computed of."""
        return (self.delta,) if self.magnitude is None else (self.delta, self.magnitude)


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
    def parents(self) -> tuple[LazyTensor, ...]:
        return (self.base, *(tensor for term in self.terms for tensor in term.tensors))

    def with_parents(self, *parents: LazyTensor) -> LazyTensor:
        base, *left = parents
        terms = []
        for term in self.terms:
            terms.append(
                replace(term, delta=left.pop(0), magnitude=None if term.magnitude is None else left.pop(0))
            )
        return replace(self, base=base, terms=tuple(terms))

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return self.target

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        return self.base.shape

    @property
    def _row(self) -> int:
        return math.prod(self.base.shape[1:])

    @property
    def block_size(self) -> int:
        return max(STEP // (4 * self._row), 1) * self._row

    def read_into(self, start: int, stop: int, out: Array) -> None:
        by_blocks(start, stop, out, self._row, self._blocks)

    def _blocks(self, first: int, last: int, out: Array) -> None:
        step = max(STEP // (4 * self._row), 1)
        for at in range(first, last, step):
            until = min(at + step, last)
            self._rows(at, until, out[(at - first) * self._row : (until - first) * self._row])

    def _rows(self, first: int, last: int, out: Array) -> None:
        row = self._row
        stored = self.base.read_range(first * row, last * row)
        weight = single(stored).reshape(last - first, row)
        odd = casts.count_not_finite(weight)
        if odd > casts.count_not_finite(stored):
            raise OutputError(f"{self.name} overflows float32, in which adapters are merged")
        with np.errstate(all="ignore"):
            for term in self.terms:
                begin, end = max(first, term.row), min(last, term.row + term.delta.shape[0])
                if begin < end:
                    _change(weight[begin - first : end - first], term, begin - term.row, end - term.row)
                    if casts.count_not_finite(weight) > odd:
                        raise OutputError(f"{self.name}: {_why_not_finite(term)}")
        lost = casts.cast(weight.reshape(-1), out)
        if lost.count:
            raise OutputError(
                f"{self.name} with the adapter overflows {self.target.name} ({lost.count:,} values, largest"
                f" {lost.largest:.3g}): {_instead(lost.largest)}"
            )


def _change(part: Array, term: Term, begin: int, end: int) -> None:
    """Adds rows `begin` to `end` of a delta to the same rows of a weight, in float32."""
    row = part.shape[1]
    delta = term.delta.read_range(begin * row, end * row)
    np.add(part, single(delta).reshape(part.shape), out=part)
    if term.magnitude is not None:
        lengths = np.sqrt(np.einsum("ij,ij->i", part, part))
        wanted = single(term.magnitude.read_range(begin, end))
        # a row of zeros has no direction: it stays as it is
        part *= np.divide(wanted, lengths, out=np.ones_like(lengths), where=lengths > 0)[:, None]


def _why_not_finite(term: Term) -> str:
    """What is wrong with an adapter that makes finite weights infinite or NaN."""
    for tensor in leaves(*term.tensors):
        odd = sum(
            casts.count_not_finite(tensor.read_range(at, min(at + STEP, tensor.size)))
            for at in range(0, tensor.size, STEP)
        )
        if odd:
            return (
                f"{term.adapter} holds {odd:,} values that are NaN or infinite: the adapter is damaged,"
                " take another copy or leave it out"
            )
    return f"{term.adapter} overflows float32: choose a smaller scale"


def _instead(largest: float) -> str:
    dtype = casts.holding(largest)
    return f"choose --dtype {dtype}, or a smaller scale" if dtype else "choose a smaller scale"
