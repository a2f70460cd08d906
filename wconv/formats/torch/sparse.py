"""Sparse tensors as dense ones, and the members of nested tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from wconv.errors import FormatError
from wconv.formats.torch import dense
from wconv.formats.torch.objects import NestedTensor, SparseTensor, TorchTensor, UnavailableError
from wconv.tensors.dtypes import DType
from wconv.tensors.lazy import Array, LazyTensor, Shape

DENSE_LIMIT = 1 << 30
"""Bytes of the dense form, beyond `DENSE_RATIO` times the stored one."""

DENSE_RATIO = 1000
"""How many times larger than the stored parts the dense form may be, above 1 MiB."""

ENTRIES_LIMIT = 64 << 20
"""Stored elements; their places are held in memory while the dense form is made."""


def lazy(tensor: SparseTensor) -> LazyTensor:
    """The dense form of a sparse tensor.

    Raises:
        UnavailableError: it would be out of all proportion to what is stored.
        FormatError: its parts do not fit together.
    """
    values = dense.lazy(tensor.values)
    indices = tuple(dense.lazy(part) for part in tensor.indices)
    _check(tensor, values, indices)
    nbytes = math.prod(tensor.shape) * values.dtype.itemsize
    stored = values.nbytes + sum(part.nbytes for part in indices)
    if nbytes > DENSE_LIMIT or nbytes > (1 << 20) + DENSE_RATIO * stored or values.size > ENTRIES_LIMIT:
        raise UnavailableError(
            f"it is sparse, and dense it would take {nbytes:,} bytes for the {stored:,} it has"
        )
    return DensifiedTensor(tensor.layout, indices, values, tensor.shape, tensor.values.storage_where)


def _check(tensor: SparseTensor, values: LazyTensor, indices: tuple[LazyTensor, ...]) -> None:
    shape = tensor.shape
    if tensor.layout == "sparse_coo":
        (index,) = indices
        fits = (
            index.ndim == 2
            and values.ndim >= 1
            and index.shape[0] + values.ndim - 1 == len(shape)
            and index.shape[1] == values.shape[0]
            and shape[index.shape[0] :] == values.shape[1:]
        )
    else:
        compressed, plain = indices
        batch = compressed.ndim - 1
        block = 2 if tensor.layout in ("sparse_bsr", "sparse_bsc") else 0
        fits = (
            batch >= 0
            and plain.ndim == batch + 1
            and values.ndim >= batch + 1 + block
            and len(shape) == batch + 2 + values.ndim - batch - 1 - block
            and compressed.shape[:batch] == plain.shape[:batch] == values.shape[:batch] == shape[:batch]
            and plain.shape[-1] == values.shape[batch]
            and compressed.shape[-1] >= 1
        )
        if fits and block:
            fits = all(
                length > 0 and shape[batch + axis] % length == 0
                for axis, length in enumerate(values.shape[batch + 1 : batch + 3])
            )
    if not fits:
        raise FormatError(
            f"{tensor.values.storage_where} is damaged: the parts of a sparse tensor do not fit together"
        )


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class DensifiedTensor(LazyTensor):
    """A sparse tensor as a dense one, computed whole."""

    PARENTS: ClassVar[tuple[str, ...]] = ("indices", "values")

    layout: str
    indices: tuple[LazyTensor, ...]
    values: LazyTensor
    shape: Shape
    where: str

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return self.values.dtype

    @property
    def block_size(self) -> int:
        return max(self.size, 1)

    def read_into(self, start: int, stop: int, out: Array) -> None:
        places, values = (self._coo if self.layout == "sparse_coo" else self._compressed)()
        inside = (places >= start) & (places < stop)
        places, values = places[inside] - start, values[inside]
        out[:] = 0
        if values.dtype == bool:
            out[places[values]] = True
        else:
            # a place that occurs twice is the sum of both, as for torch
            np.add.at(out, places, values)

    def _coo(self) -> tuple[Array, Array]:
        index, values = self.indices[0].numpy(), self.values.numpy()
        lengths = self.shape[: index.shape[0]]
        base = self._ravel(tuple(index), lengths)
        inner = math.prod(values.shape[1:])
        places = base[:, None] * inner + np.arange(inner)
        return places.reshape(-1), values.reshape(-1)

    def _ravel(self, index: tuple[Array, ...], lengths: Shape) -> Array:
        place = np.zeros(index[0].shape if index else (self.values.shape[0],), np.int64)
        for along, length in zip(index, lengths, strict=True):
            along = along.astype(np.int64)
            if along.size and (along.min() < 0 or along.max() >= length):
                raise FormatError(
                    f"{self.where} is damaged: a sparse tensor's index lies outside of its shape"
                )
            place = place * length + along
        return place

    def _compressed(self) -> tuple[Array, Array]:
        """CSR, CSC, BSR and BSC: the compressed axis is spelled out, then blocks, then trailing axes."""
        compressed, plain = (part.numpy().astype(np.int64) for part in self.indices)
        values = self.values.numpy()
        batch = compressed.ndim - 1
        blocked = self.layout in ("sparse_bsr", "sparse_bsc")
        block = values.shape[batch + 1 : batch + 3] if blocked else (1, 1)
        count = plain.shape[-1]
        compressed = compressed.reshape(-1, compressed.shape[-1])
        if (
            (compressed[:, 0] != 0).any()
            or (compressed[:, -1] != count).any()
            or (np.diff(compressed, axis=1) < 0).any()
        ):
            raise FormatError(f"{self.where} is damaged: a sparse tensor's index contradicts itself")
        outer = np.stack([np.repeat(np.arange(row.size - 1), np.diff(row)) for row in compressed]).reshape(
            len(compressed), count
        )
        plain = plain.reshape(-1, count)
        by_row = self.layout in ("sparse_csr", "sparse_bsr")
        row, column = (outer, plain) if by_row else (plain, outer)
        rows, columns = self.shape[batch : batch + 2]
        trailing = math.prod(self.shape[batch + 2 :])
        number = np.broadcast_to(np.arange(len(compressed))[:, None], row.shape)
        grid = (len(compressed), rows // block[0], columns // block[1])
        self._ravel((number, row, column), grid)  # checks that every index lies inside
        down = np.arange(block[0])[:, None, None]
        across = np.arange(block[1])[None, :, None]
        spread = (slice(None), slice(None), None, None, None)
        places = (
            (number[spread] * rows + row[spread] * block[0] + down) * columns
            + column[spread] * block[1]
            + across
        ) * trailing + np.arange(trailing)
        return places.reshape(-1), values.reshape(-1)


MEMBERS_LIMIT = 1_000_000
"""Members of a nested tensor."""


def nested_parts(tensor: NestedTensor) -> list[TorchTensor]:
    """The members of a nested tensor as views of its buffer.

    Raises:
        FormatError: a member lies outside of the buffer.
    """
    buffer = tensor.buffer
    where = buffer.storage_where
    sizes, strides, offsets = (dense.lazy(part) for part in (tensor.sizes, tensor.strides, tensor.offsets))
    count = offsets.size
    if sizes.ndim != 2 or strides.shape != sizes.shape or sizes.shape[0] != count or count > MEMBERS_LIMIT:
        raise FormatError(f"{where} is damaged: the parts of a nested tensor do not fit together")
    parts = []
    for shape, stride, offset in zip(
        sizes.numpy().tolist(), strides.numpy().tolist(), offsets.numpy().reshape(-1).tolist(), strict=True
    ):
        last = offset + sum((length - 1) * step for length, step in zip(shape, stride, strict=True))
        if min([offset, *shape, *stride]) < 0 or (0 not in shape and last >= math.prod(buffer.shape)):
            raise FormatError(f"{where} is damaged: a member of a nested tensor lies outside of it")
        part = buffer.copy()
        part.offset, part.shape, part.stride = buffer.offset + offset, tuple(shape), tuple(stride)
        parts.append(part)
    return parts
