"""From what the readers find in a file to tensors over mapped bytes: nothing is read until it is used."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wconv.tensors.dtypes import DType
from wconv.tensors.lazy import FileTensor, LazyTensor, PackedFileTensor, Shape
from wconv.torch import dtypes
from wconv.torch.dtypes import dtype
from wconv.torch.storage import Bytes, UntypedStorage, map_file
from wconv.torch.strides import contiguous_strides
from wconv.torch.tensor import Tensor


class Maps:
    """The files of one load, each mapped once: what is written into the tensors of one load is not seen by
    another's."""

    def __init__(self) -> None:
        self._files: dict[str, Bytes] = {}

    def range(self, path: str, start: int, size: int) -> UntypedStorage:
        """Bytes of a file as a storage."""
        if path not in self._files:
            self._files[path] = map_file(path)
        return UntypedStorage.of(self._files[path][start : start + size])


def offered(row: DType, what: str) -> dtype:
    """torch's dtype object for a row of wconv's table.

    Raises:
        TypeError: torch has no such dtype.
    """
    if row.name not in dtypes.BY_NAME:
        raise TypeError(f"{what} is {row.name}, several values to a byte: wconv.torch does not offer it")
    return dtypes.by_name(row.name)


def shape_of(lazy: LazyTensor, what: str) -> Shape:
    """The shape of a lazy tensor in torch, which counts pairs where two values are in a byte.

    Raises:
        TypeError: the last axis is no whole number of bytes.
    """
    if lazy.dtype.name != dtypes.float4_x2.name:
        return lazy.shape
    if not lazy.shape or lazy.shape[-1] % 2:
        raise TypeError(f"{what} is {lazy.dtype.name} and its last axis is no pairs: shape {lazy.shape}")
    return (*lazy.shape[:-1], lazy.shape[-1] // 2)


def tensor(lazy: LazyTensor, maps: Maps, what: str) -> Tensor:
    """A lazy tensor as a tensor: over mapped bytes where the file holds them as they are."""
    to, shape = offered(lazy.dtype, what), shape_of(lazy, what)
    strides = contiguous_strides(shape)
    if type(lazy) is PackedFileTensor or (type(lazy) is FileTensor and not lazy.swap):
        return Tensor._at(maps.range(lazy.path, lazy.offset, lazy.nbytes), to, 0, shape, strides)
    dtypes.require_values(to)
    storage = UntypedStorage.pending(lazy.nbytes, reading(lazy))
    return Tensor._at(storage, to, 0, shape, strides)


def reading(lazy: LazyTensor) -> Callable[[], Bytes]:
    """Reads all of a tensor when called."""
    return lambda: lazy.read_range().view(np.uint8)
