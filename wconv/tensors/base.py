"""Lazy tensors: they know dtype and shape at once and read their elements when asked, a range at a time.

Everything is built on one method, which reads a range of elements of the flattened tensor into a buffer of
the caller's. Rows, whole arrays and index expressions are expressed by it, so a reader that moves 512 KiB at
a time holds 512 KiB, whatever the tensor's size.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wconv.errors import FormatError
from wconv.tensors.dtypes import DType, DTypeLike
from wconv.wording import fitted

Array = NDArray[Any]
Shape = tuple[int, ...]


class LazyTensor(ABC):
    """A tensor that has not been read.

    Subclasses provide `dtype`, `shape` and the one abstract method; the rest follows. Instances are
    immutable and can be pickled, so that a plan can be sent to another process.

    One that is computed of others is a dataclass and names, in `PARENTS`, its fields that hold them: a
    lazy tensor, a tuple of some, or None. So a graph can be walked and rebuilt without knowing its nodes.

    Example:
        >>> tensor = wconv.open("model.ckpt")["linear.weight"]
        >>> tensor.dtype.name, tensor.shape
        ('float32', (200, 4))
        >>> tensor.transpose((1, 0)).read(0, 2).shape
        (2, 200)
    """

    __slots__ = ()

    PARENTS: ClassVar[tuple[str, ...]] = ()
    """Names of the fields that hold what it is computed of."""

    MOVES: ClassVar[bool] = False
    """Every element is one of a parent's, unchanged: the node made over others moves theirs likewise."""

    dtype: DType
    shape: Shape

    @abstractmethod
    def read_into(self, start: int, stop: int, out: Array) -> None:
        """Writes the flattened elements `start` to `stop` (C order) into `out`.

        Args:
            out: 1-D and contiguous, of `stop - start` elements of `self.dtype.numpy`.

        Raises:
            FormatError: the file does not hold what its header promised.
        """

    @property
    def parents(self) -> tuple[LazyTensor, ...]:
        """The lazy tensors that it is computed of, in the order of its fields; none where it is read."""
        return parents_of(self, self.PARENTS)

    def with_parents(self, *parents: LazyTensor) -> LazyTensor:
        """The same operation on other tensors, as many as `parents`.

        Raises:
            ValueError: it has another number of parents.
        """
        made: LazyTensor = replaced_parents(self, self.PARENTS, parents)
        return made

    @property
    def block_size(self) -> int:
        """Elements that are cheapest read together, counted from 0: the writer cuts at multiples of it."""
        return 1

    @property
    def passes(self) -> int:
        """How often reading all of it reads its parents."""
        return 1

    @property
    def file_position(self) -> tuple[str, int]:
        """File and offset of its first bytes, or its first parent's ("" for none): the order of reading."""
        parents = self.parents
        return parents[0].file_position if parents else ("", 0)

    @property
    def stream(self) -> object | None:
        """What has to be read from its beginning to have its elements, or its first parent's; else None.

        Of tensors of one stream, two threads would each read all of it.
        """
        parents = self.parents
        return parents[0].stream if parents else None

    def consecutive(self, start: int, shape: Shape) -> LazyTensor | None:
        """The elements from `start` on as a tensor of that shape, where it needs no operation; else None."""
        return None

    def reinterpreted(self, dtype: DType, shape: Shape) -> LazyTensor | None:
        """The same bytes as a tensor of that dtype and shape, where it needs no operation; else None."""
        return None

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

    def read_range(self, start: int = 0, stop: int | None = None, out: Array | None = None) -> Array:
        """The flattened elements `start` to `stop`, 1-D, in `out` where it is given."""
        stop = self.size if stop is None else stop
        if not 0 <= start <= stop <= self.size:
            raise IndexError(f"elements {start}:{stop} of a tensor of {self.size}")
        if out is None:
            out = np.empty(stop - start, self.dtype.numpy)
        if stop > start:
            self.read_into(start, stop, out)
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
            return self.read_range(start * row, stop * row).reshape(shape)
        if out.shape != shape or out.dtype != self.dtype.numpy or not out.flags.c_contiguous:
            raise ValueError(f"out must be C-contiguous, {self.dtype.name} and {shape}")
        self.read_range(start * row, stop * row, out.reshape(-1))
        return out

    def numpy(self) -> Array:
        """The whole tensor as an array (of an ml_dtypes type for bfloat16, float8 and smaller)."""
        return self.read_range().reshape(self.shape)

    def __array__(self, dtype: np.dtype[Any] | None = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("a lazy tensor is always read into a new array")
        array = self.numpy()
        return array if dtype is None else array.astype(dtype, copy=False)

    @property
    def T(self) -> LazyTensor:  # noqa: N802 - numpy's name
        """All axes reversed."""
        return self.transpose(range(self.ndim)[::-1])

    if TYPE_CHECKING:
        # functions of other modules, which `methods` attaches

        def __getitem__(self, index: Any) -> Array: ...
        def cast(self, dtype: DTypeLike) -> LazyTensor: ...
        def astype(self, dtype: DTypeLike) -> LazyTensor: ...
        def to(self, dtype: DTypeLike) -> LazyTensor: ...
        def reshape(self, shape: Sequence[int]) -> LazyTensor: ...
        def transpose(self, axes: Sequence[int]) -> LazyTensor: ...
        def slice(self, axis: int, start: int, stop: int, step: int = 1) -> LazyTensor: ...
        def split(self, sections: int | Sequence[int], axis: int = 0) -> tuple[LazyTensor, ...]: ...
        def view(self, dtype: DTypeLike) -> LazyTensor: ...
        def add(self, value: float) -> LazyTensor: ...


def parents_of(node: Any, fields: Sequence[str]) -> tuple[LazyTensor, ...]:
    """What the fields of a node hold, one after another."""
    found: list[LazyTensor] = []
    for field in fields:
        value = getattr(node, field)
        if isinstance(value, tuple):
            found += value
        elif value is not None:
            found.append(value)
    return tuple(found)


def replaced_parents(node: Any, fields: Sequence[str], parents: Sequence[LazyTensor]) -> Any:
    """A copy of a node, which is a dataclass, whose fields hold other tensors; itself where it has none.

    Raises:
        ValueError: it has another number of parents.
    """
    if len(parents) != len(parents_of(node, fields)):
        raise ValueError(f"{type(node).__name__} has {len(parents_of(node, fields))} parents")
    left = list(parents)
    values: dict[str, Any] = {}
    for field in fields:
        value = getattr(node, field)
        if isinstance(value, tuple):
            values[field], left = tuple(left[: len(value)]), left[len(value) :]
        elif value is not None:
            values[field] = left.pop(0)
    return replace(node, **values) if values else node


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
