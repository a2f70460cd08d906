"""Lazy tensors: they know dtype and shape at once and read their elements when asked, a range at a time.

Everything is built on one method, `fill(start, stop, out)`: elements `start` to `stop` of the flattened
tensor, into a buffer of the caller's. Rows, whole arrays and index expressions are expressed by it, so a
reader that moves 2 MiB at a time holds little more, whatever the tensor's size.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wconv.errors import FormatError
from wconv.stores import files
from wconv.tensors.dtypes import DType, DTypeLike
from wconv.wording import fitted

Array = NDArray[Any]
Shape = tuple[int, ...]


class LazyTensor(ABC):
    """A tensor that has not been read.

    Subclasses provide `dtype`, `shape` and `fill`; the rest follows. Instances are immutable and can be
    pickled, so that a plan can be sent to another process.

    Example:
        >>> tensor = wconv.open("model.ckpt")["linear.weight"]
        >>> tensor.dtype.name, tensor.shape
        ('float32', (200, 4))
        >>> tensor.transpose((1, 0)).read(0, 2).shape
        (2, 200)
    """

    __slots__ = ()

    dtype: DType
    shape: Shape

    @abstractmethod
    def fill(self, start: int, stop: int, out: Array) -> None:
        """Writes the flattened elements `start` to `stop` (C order) into `out`.

        Args:
            out: 1-D and contiguous, of `stop - start` elements of `self.dtype.numpy`.

        Raises:
            FormatError: the file does not hold what its header promised.
        """

    @property
    def grain(self) -> int:
        """Elements that are cheapest read together, counted from 0: the writer cuts at multiples of it."""
        return 1

    @property
    def origin(self) -> tuple[str, int]:
        """File and offset of its first bytes ("" for none): the writer reads in that order."""
        return "", 0

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that the tensor takes when stored in its dtype."""
        return self.dtype.nbytes(self.size)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def __repr__(self) -> str:
        return fitted(f"{type(self).__name__}({self.dtype.name}, {self.shape})")

    def elements(self, start: int = 0, stop: int | None = None, out: Array | None = None) -> Array:
        """The flattened elements `start` to `stop`, 1-D, in `out` where it is given."""
        stop = self.size if stop is None else stop
        if not 0 <= start <= stop <= self.size:
            raise IndexError(f"elements {start}:{stop} of a tensor of {self.size}")
        if out is None:
            out = np.empty(stop - start, self.dtype.numpy)
        if stop > start:
            self.fill(start, stop, out)
        return out

    def read(self, start: int = 0, stop: int | None = None, out: Array | None = None) -> Array:
        """Rows `start` to `stop` of axis 0 as a C-contiguous array (a 0-d tensor has none: use `numpy`).

        Args:
            out: a C-contiguous array of the rows' dtype and shape to read into; made when absent.
        """
        if not self.shape:
            raise IndexError("a 0-d tensor has no rows: use numpy()")
        stop = self.shape[0] if stop is None else stop
        if not 0 <= start <= stop <= self.shape[0]:
            raise IndexError(f"rows {start}:{stop} of a tensor with {self.shape[0]}")
        row = math.prod(self.shape[1:])
        shape = (stop - start, *self.shape[1:])
        if out is None:
            return self.elements(start * row, stop * row).reshape(shape)
        if out.shape != shape or out.dtype != self.dtype.numpy or not out.flags.c_contiguous:
            raise ValueError(f"out must be C-contiguous, {self.dtype.name} and {shape}")
        self.elements(start * row, stop * row, out.reshape(-1))
        return out

    def numpy(self) -> Array:
        """The whole tensor as an array (of an ml_dtypes type for bfloat16, float8 and smaller)."""
        return self.elements().reshape(self.shape)

    def __array__(self, dtype: np.dtype[Any] | None = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("a lazy tensor is always read into a new array")
        array = self.numpy()
        return array if dtype is None else array.astype(dtype, copy=False)

    def __getitem__(self, index: Any) -> Array:
        """`tensor[2]`, `tensor[:, 4:8]`, `tensor[..., ::-2]`: reads what numpy would pick, and little else.

        Suits `jax.make_array_from_callback`, whose callback is handed a tuple of slices.

        Raises:
            IndexError: the tensor has no such axis or position, or `index` holds a mask or a list.
        """
        from wconv.tensors import indexing

        return indexing.read(self, index)

    @property
    def T(self) -> LazyTensor:  # noqa: N802 - numpy's name
        """All axes reversed."""
        return self.transpose(range(self.ndim)[::-1])

    def cast(self, dtype: DTypeLike) -> LazyTensor:
        """The same values in another dtype of any library, rounded to nearest even as torch does."""
        from wconv.tensors import operations

        return operations.cast(self, dtype)

    def astype(self, dtype: DTypeLike) -> LazyTensor:
        """`cast` under numpy's name."""
        return self.cast(dtype)

    def to(self, dtype: DTypeLike) -> LazyTensor:
        """`cast` under torch's name."""
        return self.cast(dtype)

    def reshape(self, shape: Sequence[int]) -> LazyTensor:
        """The same elements in another shape; one length may be -1."""
        from wconv.tensors import operations

        return operations.reshape(self, shape)

    def transpose(self, axes: Sequence[int]) -> LazyTensor:
        """Axes in another order, as `numpy.transpose`."""
        from wconv.tensors import operations

        return operations.transpose(self, axes)

    def slice(self, axis: int, start: int, stop: int, step: int = 1) -> LazyTensor:
        """Elements `start` to `stop` of one axis, every `step`-th."""
        from wconv.tensors import operations

        return operations.slice_axis(self, axis, start, stop, step)

    def split(self, sections: int | Sequence[int], axis: int = 0) -> tuple[LazyTensor, ...]:
        """Consecutive parts along an axis: so many equal ones, or of the given lengths."""
        from wconv.tensors import operations

        return operations.split(self, sections, axis)

    def view(self, dtype: DTypeLike) -> LazyTensor:
        """The same bytes read as another dtype; the last axis shrinks or grows, as `torch.Tensor.view`."""
        from wconv.tensors import operations

        return operations.view(self, dtype)

    def add(self, value: float) -> LazyTensor:
        """Every element plus a number, rounded once to the tensor's own dtype."""
        from wconv.tensors import operations

        return operations.add(self, value)


@dataclass(slots=True, eq=False, repr=False)
class Stored(LazyTensor):
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
    def origin(self) -> tuple[str, int]:
        return self.path, self.offset

    def fill(self, start: int, stop: int, out: Array) -> None:
        raw = out.view(np.uint8)
        files.source(self.path).read_into(self.offset + start * self.dtype.itemsize, raw.data)
        if self.swap:
            swap_bytes(raw, self.dtype)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Packed(LazyTensor):
    """A tensor of 4- or 6-bit elements, packed little-endian in one file; in memory a byte holds one."""

    path: str
    offset: int
    dtype: DType
    shape: Shape

    @property
    def origin(self) -> tuple[str, int]:
        return self.path, self.offset

    @property
    def grain(self) -> int:
        return 8 // math.gcd(8, self.dtype.bits)

    def fill(self, start: int, stop: int, out: Array) -> None:
        bits, grain = self.dtype.bits, self.grain
        first, last = start // grain, -(-stop // grain)
        group = grain * bits // 8
        end = min(last * group, self.nbytes)
        packed = files.source(self.path).read(self.offset + first * group, end - first * group)
        packed.extend(bytes(last * group - end))
        groups = np.frombuffer(packed, np.uint8).reshape(-1, group)
        word = np.zeros(len(groups), np.uint32)
        for at in range(group):
            word |= groups[:, at].astype(np.uint32) << np.uint32(8 * at)
        lanes = np.stack(
            [(word >> np.uint32(bits * at)) & np.uint32(2**bits - 1) for at in range(grain)], axis=1
        )
        flat = lanes.astype(np.uint8).reshape(-1)
        out.view(np.uint8)[:] = flat[start - first * grain : stop - first * grain]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class InMemory(LazyTensor):
    """A tensor that is an array already."""

    array: Array
    dtype: DType
    shape: Shape

    def fill(self, start: int, stop: int, out: Array) -> None:
        out[:] = self.array.reshape(-1)[start:stop]


def from_array(array: Array) -> InMemory:
    """An array as a `LazyTensor` (native byte order, C order; copied where it has neither).

    Raises:
        WconvError: its dtype is no tensor's (strings, objects).
    """
    from wconv.tensors import dtypes

    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return InMemory(
        np.ascontiguousarray(native).reshape(array.shape), dtypes.from_numpy(array.dtype), array.shape
    )


def swap_bytes(raw: NDArray[np.uint8], dtype: DType) -> None:
    """Reverses the byte order of each element of `raw` in place; of each component of a complex one."""
    width = dtype.itemsize // 2 if dtype.kind == "complex" else dtype.itemsize
    if width > 1:
        raw.view(f"u{width}").byteswap(inplace=True)


MOST_AXES = 64
"""Axes that an array of numpy's can have."""


def is_shape(lengths: Sequence[Any]) -> bool:
    """Whether these are at most 64 non-negative integers whose product, zeros left out, stays below 2^59.

    Sixteen bytes for each of so many elements are what numpy can address.
    """
    if not lengths:
        return True
    if len(lengths) > MOST_AXES or set(map(type, lengths)) != {int} or min(lengths) < 0:
        return False
    product: int = math.prod(lengths if 0 not in lengths else filter(None, lengths))
    return product < 2**59


def checked_shape(shape: Sequence[Any], where: str) -> Shape:
    """`shape` as a tuple.

    Raises:
        FormatError: it is none; `where` names the tensor and its file.
    """
    if not is_shape(shape):
        raise FormatError(f"{where} has an impossible shape {tuple(shape)!r:.80}")
    return tuple(shape)
