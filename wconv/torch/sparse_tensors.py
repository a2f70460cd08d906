"""Sparse tensors as far as they are made, looked at and made dense; nothing computes with them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from wconv.tensors.base import Array
from wconv.torch import dtypes
from wconv.torch.creation import Device, as_tensor, zeros
from wconv.torch.device import layout, require_cpu, sparse_coo, sparse_csc, sparse_csr
from wconv.torch.dtypes import dtype
from wconv.torch.size import lengths
from wconv.torch.storage import UntypedStorage
from wconv.torch.tensor import Tensor


class SparseTensor(Tensor):
    """Positions and the values at them; all other elements are 0."""

    __module__ = "torch"

    _layout: layout
    _positions: tuple[Tensor, ...]
    _elements: Tensor
    _coalesced: bool

    @property
    def _array(self) -> Array:
        raise RuntimeError(f"this is not offered by wconv.torch for {self._layout} tensors: use to_dense()")

    @property
    def layout(self) -> layout:
        return self._layout

    @property
    def is_sparse(self) -> bool:
        return self._layout is sparse_coo

    def untyped_storage(self) -> UntypedStorage:
        raise NotImplementedError("Cannot access storage of a sparse tensor")

    def _nnz(self) -> int:
        return int(self._elements.shape[0])

    def _values(self) -> Tensor:
        return self._elements

    def _indices(self) -> Tensor:
        return self._positions[0]

    def values(self) -> Tensor:
        self._require_coalesced("values")
        return self._elements

    def indices(self) -> Tensor:
        """The positions, a column for each value. Raises: RuntimeError: two may be the same."""
        self._require(sparse_coo, "indices")
        self._require_coalesced("indices")
        return self._positions[0]

    def crow_indices(self) -> Tensor:
        self._require(sparse_csr, "crow_indices")
        return self._positions[0]

    def col_indices(self) -> Tensor:
        self._require(sparse_csr, "col_indices")
        return self._positions[1]

    def ccol_indices(self) -> Tensor:
        self._require(sparse_csc, "ccol_indices")
        return self._positions[0]

    def row_indices(self) -> Tensor:
        self._require(sparse_csc, "row_indices")
        return self._positions[1]

    def _require(self, wanted: Any, name: str) -> None:
        if self._layout is not wanted:
            raise RuntimeError(f"{name} expected a tensor of {wanted} but got {self._layout}")

    def _require_coalesced(self, name: str) -> None:
        if self._layout is sparse_coo and not self._coalesced:
            raise RuntimeError(f"Cannot get {name} on an uncoalesced tensor, please call .coalesce() first")

    def is_coalesced(self) -> bool:
        self._require(sparse_coo, "is_coalesced")
        return self._coalesced

    def sparse_dim(self) -> int:
        return self._positions[0].shape[0] if self._layout is sparse_coo else 2

    def dense_dim(self) -> int:
        return self.ndim - self.sparse_dim()

    def coalesce(self) -> Tensor:
        """Each position once, in order; values of the same position are added."""
        self._require(sparse_coo, "coalesce")
        if self._coalesced:
            return self
        sizes = self.shape[: self.sparse_dim()]
        flat = _flat(self._positions[0]._array, sizes)
        found, inverse = np.unique(flat, return_inverse=True)
        sums = np.zeros((len(found), *self._elements.shape[1:]), self._elements._array.dtype)
        _add_at(sums, inverse.reshape(-1), self._elements._array)
        where = np.array(np.unravel_index(found, sizes), np.int64).reshape(len(sizes), len(found))
        return _made(sparse_coo, (Tensor._of(where),), Tensor._of(sums), tuple(self.shape), True)

    def to_dense(self, dtype: dtype | None = None) -> Tensor:
        """The dense tensor."""
        made = np.zeros(tuple(self.shape), self._elements._array.dtype)
        count = self.sparse_dim()
        rows = made.reshape(math.prod(self.shape[:count]), *self.shape[count:])
        _add_at(rows, _flat(self._all_positions(), self.shape[:count]), self._elements._array)
        dense = Tensor._of(made)
        return dense if dtype is None else dense.to(dtype)

    def _all_positions(self) -> Array:
        """A row of positions for each sparse axis."""
        if self._layout is sparse_coo:
            return self._positions[0]._array
        ends, others = (each._array for each in self._positions)
        lines = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
        return np.stack([lines, others] if self._layout is sparse_csr else [others, lines])

    def detach(self) -> Tensor:
        return self

    def __repr__(self) -> str:
        return f"tensor(size={tuple(self.shape)}, nnz={self._nnz()}, layout={self._layout})"

    def __reduce__(self) -> Any:
        return _made, (self._layout, self._positions, self._elements, tuple(self.shape), self._coalesced)


SparseTensor.__name__ = SparseTensor.__qualname__ = "Tensor"


def _flat(positions: Array, sizes: Sequence[int]) -> Array:
    if not len(sizes):
        return np.zeros(positions.shape[1], np.int64)
    return np.ravel_multi_index(tuple(positions), tuple(sizes)) if positions.size else np.zeros(0, np.int64)


def _add_at(target: Array, where: Array, values: Array) -> None:
    """Adds values to rows; the first of each is written, which changes no bit of it."""
    _, first = np.unique(where, return_index=True)
    target[where[first]] = values[first]
    again = np.ones(len(where), bool)
    again[first] = False
    for at in np.flatnonzero(again):
        target[where[at]] = target[where[at]] + values[at]


def _made(
    kind: layout, positions: tuple[Tensor, ...], elements: Tensor, shape: tuple[int, ...], coalesced: bool
) -> Tensor:
    made = SparseTensor._at(UntypedStorage(0), elements.dtype, 0, shape, [0] * len(shape))
    made.__dict__.update(_layout=kind, _positions=positions, _elements=elements, _coalesced=coalesced)
    return made


def sparse_coo_tensor(
    indices: Any = None,
    values: Any = None,
    size: Any = None,
    *,
    dtype: dtype | None = None,
    device: Device = None,
    check_invariants: bool | None = None,
    is_coalesced: bool = False,
) -> Tensor:
    """A sparse tensor of values and their positions, a column of `indices` for each; always checked.

    Raises:
        RuntimeError: indices, values and size do not fit together.
    """
    require_cpu(device)
    if indices is None and values is None:
        if size is None:
            raise TypeError("sparse_coo_tensor() needs indices and values, or a size")
        indices, values = np.zeros((len(tuple(size)), 0), np.int64), zeros(0, dtype=dtype)
    where, elements = as_tensor(indices).to(dtypes.int64), as_tensor(values, dtype=dtype)
    if where.ndim != 2 or not elements.ndim or where.shape[1] != elements.shape[0]:
        raise RuntimeError(
            f"indices of shape {list(where.shape)} do not give a position to each of values of shape"
            f" {list(elements.shape)}"
        )
    positions = where._array
    if positions.size and positions.min() < 0:
        raise RuntimeError("found negative index")
    if size is None:
        ends = [int(row.max()) + 1 if row.size else 0 for row in positions]
        shape: tuple[int, ...] = (*ends, *elements.shape[1:])
    else:
        shape = lengths((tuple(size),))
    count = where.shape[0]
    if len(shape) != count + elements.ndim - 1 or tuple(shape[count:]) != tuple(elements.shape[1:]):
        raise RuntimeError(f"size {list(shape)} does not fit values of shape {list(elements.shape)}")
    for axis, row in enumerate(positions):
        if row.size and row.max() >= shape[axis]:
            raise RuntimeError(
                f"size is inconsistent with indices: for dim {axis}, size is {shape[axis]} but found index"
                f" {int(row.max())}"
            )
    return _made(sparse_coo, (where,), elements, shape, is_coalesced)


def _compressed(kind: layout, ends: Any, others: Any, values: Any, size: Any, dtype: dtype | None) -> Tensor:
    compressed, plain, elements = as_tensor(ends), as_tensor(others), as_tensor(values, dtype=dtype)
    if compressed.ndim != 1 or plain.ndim != 1 or elements.ndim != 1:
        raise RuntimeError("compressed tensors in batches, or of blocks, are not offered by wconv.torch")
    marks, at = compressed._array, plain._array
    lines = len(marks) - 1
    if size is None:
        across = int(at.max()) + 1 if at.size else 0
        shape = (lines, across) if kind is sparse_csr else (across, lines)
    else:
        shape = tuple(lengths((tuple(size),)))  # type: ignore[assignment]
    wanted = shape if kind is sparse_csr else shape[::-1]
    right = len(shape) == 2 and wanted[0] == lines and len(at) == elements.shape[0]
    right = (
        right
        and len(marks) > 0
        and marks[0] == 0
        and marks[-1] == len(at)
        and bool((np.diff(marks) >= 0).all())
    )
    if not right or (at.size and not 0 <= at.min() <= at.max() < wanted[1]):
        raise RuntimeError(
            f"indices, values and the size {list(shape)} of a {kind} tensor do not fit together"
        )
    return _made(kind, (compressed, plain), elements, shape, True)


def sparse_csr_tensor(
    crow_indices: Any,
    col_indices: Any,
    values: Any,
    size: Any = None,
    *,
    dtype: dtype | None = None,
    device: Device = None,
    check_invariants: bool | None = None,
) -> Tensor:
    """A sparse matrix by rows: where each begins, the column of each value, the values."""
    require_cpu(device)
    return _compressed(sparse_csr, crow_indices, col_indices, values, size, dtype)


def sparse_csc_tensor(
    ccol_indices: Any,
    row_indices: Any,
    values: Any,
    size: Any = None,
    *,
    dtype: dtype | None = None,
    device: Device = None,
    check_invariants: bool | None = None,
) -> Tensor:
    """A sparse matrix by columns: where each begins, the row of each value, the values."""
    require_cpu(device)
    return _compressed(sparse_csc, ccol_indices, row_indices, values, size, dtype)


def loaded(kind: str, indices: Sequence[Tensor], values: Tensor, shape: Sequence[int]) -> Tensor | None:
    """A tensor of a file; None for a layout that is not offered. Positions in order are coalesced ones.

    Raises:
        RuntimeError: the parts do not fit together.
    """
    if kind == "sparse_coo":
        made = sparse_coo_tensor(indices[0], values, tuple(shape))
        flat = _flat(indices[0]._array, tuple(shape)[: indices[0].shape[0]])
        made.__dict__["_coalesced"] = bool((np.diff(flat) > 0).all())
        return made
    makers: dict[str, Any] = {"sparse_csr": sparse_csr_tensor, "sparse_csc": sparse_csc_tensor}
    if kind not in makers or any(each.ndim != 1 for each in (*indices, values)):
        return None
    compressed: Tensor = makers[kind](*indices, values, tuple(shape))
    return compressed


def to_sparse(self: Tensor) -> Tensor:
    """The values that are not 0 and their positions."""
    if isinstance(self, SparseTensor):
        return self
    where = np.array(np.nonzero(self._array), np.int64).reshape(self.ndim, -1)
    values = np.asarray(self._array[tuple(where)] if self.ndim else self._array.reshape(-1)[: where.shape[1]])
    return _made(sparse_coo, (Tensor._of(where),), Tensor._of(values), tuple(self.shape), True)


def to_dense(self: Tensor, dtype: dtype | None = None) -> Tensor:
    """The tensor itself, in another dtype where one is given."""
    return self if dtype is None else self.to(dtype)


METHODS = (to_sparse, to_dense)
FUNCTIONS = (sparse_coo_tensor, sparse_csr_tensor, sparse_csc_tensor)
