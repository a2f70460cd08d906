"""Lazy tensors that are not computed of others: in a file, packed in one, or in memory already.

Whoever imports this module, and so whoever has a lazy tensor, has `LazyTensor` with all its methods.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from wconv.stores import files
from wconv.tensors import methods as methods
from wconv.tensors.base import MOST_AXES as MOST_AXES
from wconv.tensors.base import Array as Array
from wconv.tensors.base import LazyTensor as LazyTensor
from wconv.tensors.base import Shape as Shape
from wconv.tensors.base import checked_shape as checked_shape
from wconv.tensors.base import is_shape as is_shape
from wconv.tensors.dtypes import DType


@dataclass(slots=True, eq=False, repr=False)
class FileTensor(LazyTensor):
    """A tensor whose bytes lie in C order in one file.

    Nobody changes one; it is not frozen because a header makes tens of thousands, which takes thrice as long.

    Attributes:
        path: the file.
        offset: of the first byte.
        swap: the file holds the other byte order (complex: of each component).
    """

    path: str
    offset: int
    dtype: DType
    shape: Shape
    swap: bool = False

    @property
    def file_position(self) -> tuple[str, int]:
        return self.path, self.offset

    def consecutive(self, start: int, shape: Shape) -> LazyTensor:
        return replace(self, offset=self.offset + start * self.dtype.itemsize, shape=shape)

    def reinterpreted(self, dtype: DType, shape: Shape) -> LazyTensor | None:
        return None if self.swap else replace(self, dtype=dtype, shape=shape)

    def read_into(self, start: int, stop: int, out: Array) -> None:
        raw = out.view(np.uint8)
        files.source(self.path).read_into(self.offset + start * self.dtype.itemsize, raw.data)
        if self.swap:
            swap_bytes(raw, self.dtype)

    def copy_range(self, start: int, nbytes: int, fd: int, at: int, write: files.Write) -> bool:
        """Whether bytes from element `start` on were copied to `at` in another file with no buffer of ours.

        Raises FormatError as `read_into` does.
        """
        if self.swap:
            return False
        first = self.offset + start * self.dtype.itemsize
        return files.copy_range(self.path, first, nbytes, fd, at, write)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class PackedFileTensor(LazyTensor):
    """A tensor of 4- or 6-bit elements, packed little-endian in one file; in memory a byte holds one."""

    path: str
    offset: int
    dtype: DType
    shape: Shape

    @property
    def file_position(self) -> tuple[str, int]:
        return self.path, self.offset

    @property
    def block_size(self) -> int:
        return 8 // math.gcd(8, self.dtype.bits)

    def read_into(self, start: int, stop: int, out: Array) -> None:
        bits, block_size = self.dtype.bits, self.block_size
        first, last = start // block_size, -(-stop // block_size)
        group = block_size * bits // 8
        end = min(last * group, self.nbytes)
        packed = files.source(self.path).read(self.offset + first * group, end - first * group)
        packed.extend(bytes(last * group - end))
        groups = np.frombuffer(packed, np.uint8).reshape(-1, group)
        word = np.zeros(len(groups), np.uint32)
        for at in range(group):
            word |= groups[:, at].astype(np.uint32) << np.uint32(8 * at)
        lanes = np.stack(
            [(word >> np.uint32(bits * at)) & np.uint32(2**bits - 1) for at in range(block_size)], axis=1
        )
        flat = lanes.astype(np.uint8).reshape(-1)
        out.view(np.uint8)[:] = flat[start - first * block_size : stop - first * block_size]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ArrayTensor(LazyTensor):
    """A tensor that is an array already."""

    array: Array
    dtype: DType
    shape: Shape

    def read_into(self, start: int, stop: int, out: Array) -> None:
        out[:] = self.array.reshape(-1)[start:stop]


def from_array(array: Array) -> ArrayTensor:
    """An array as a `LazyTensor` (native byte order, C order; copied where it has neither).

    Raises:
        WconvError: its dtype is no tensor's (strings, objects).
    """
    from wconv.tensors import dtypes

    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return ArrayTensor(
        np.ascontiguousarray(native).reshape(array.shape), dtypes.from_numpy(array.dtype), array.shape
    )


def swap_bytes(raw: NDArray[np.uint8], dtype: DType) -> None:
    """Reverses the byte order of each element of `raw` in place; of each component of a complex one."""
    width = dtype.itemsize // 2 if dtype.kind == "complex" else dtype.itemsize
    if width > 1:
        raw.view(f"u{width}").byteswap(inplace=True)
