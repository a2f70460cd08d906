"""`Tensor`: a numpy array with torch's meaning, or the place in a storage where one lies until it is used.

The class holds what every tensor knows and its ways to Python numbers. Everything else is in plain functions
whose modules list which of them are methods; `methods.py` attaches them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from wconv.tensors.base import Array
from wconv.torch import missing
from wconv.torch.device import CPU, device, layout, strided
from wconv.torch.dtypes import dtype, of_numpy, require_values
from wconv.torch.size import Size, axis
from wconv.torch.storage import UntypedStorage
from wconv.torch.strides import address, contiguous_strides, restride


class Tensor:
    """An array of one dtype. Views share memory where torch's do; nothing is read until it is used."""

    __module__ = "torch"
    __array_priority__ = 1000

    _held: Array | None
    _dtype: dtype
    _shape: Size
    _strides: tuple[int, ...]
    _offset: int
    _storage: UntypedStorage | None
    _root: Tensor | None

    if TYPE_CHECKING:

        def __new__(cls, *data: Any) -> Tensor: ...

    @classmethod
    def _of(cls, array: Array, root: Tensor | None = None) -> Tensor:
        """The tensor that is `array` (of a dtype that torch has); `root`: whose memory it is a view of."""
        made = object.__new__(cls)
        made._held, made._dtype = array, of_numpy(array.dtype)
        made._shape = Size(array.shape)
        made._storage, made._root = None, root
        made._requires_grad = False
        return made

    @classmethod
    def _at(
        cls, storage: UntypedStorage, dtype: dtype, offset: int, shape: Sequence[int], strides: Sequence[int]
    ) -> Tensor:
        """A view of a storage, not looked at yet; `offset` (elements) and `strides` have been checked."""
        made = object.__new__(cls)
        made._held, made._dtype, made._shape = None, dtype, Size(shape)
        made._offset, made._strides = offset, tuple(strides)
        made._storage, made._root = storage, None
        made._requires_grad = False
        return made

    @property
    def _owner(self) -> Tensor:
        """The tensor whose memory this one is a view of; itself when it is none."""
        return self if self._root is None else self._root

    def _view(self, array: Array) -> Tensor:
        """`array`, made out of this tensor's memory, as a tensor."""
        return Tensor._of(array, self._owner)

    def _as(self, kind: type[Tensor]) -> Tensor:
        """The same tensor, of another class, over the same memory."""
        made = object.__new__(kind)
        made.__dict__.update(self.__dict__)
        if made._storage is None:
            made._root = self._owner
        return made

    @property
    def _array(self) -> Array:
        """The values; read now if they were not yet."""
        if self._held is None:
            assert self._storage is not None
            bytes, size = self._storage.bytes, self._dtype.itemsize
            first = self._offset * size
            usable = (bytes.size - first) // size * size
            flat = bytes[first : first + usable].view(self._dtype.numpy)
            self._held = restride(flat, self._shape, [stride * size for stride in self._strides])
        return self._held

    # what a tensor knows without being read

    @property
    def dtype(self) -> dtype:
        return self._dtype

    @property
    def shape(self) -> Size:
        return self._shape

    @property
    def ndim(self) -> int:
        return len(self._shape)

    @property
    def device(self) -> device:
        return CPU

    @property
    def layout(self) -> layout:
        return strided

    @property
    def itemsize(self) -> int:
        return self._dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.numel() * self._dtype.itemsize

    @property
    def is_cuda(self) -> bool:
        return False

    is_sparse = is_quantized = is_meta = is_mps = is_nested = is_cuda

    @property
    def requires_grad(self) -> bool:
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value and not (self._dtype.is_floating_point or self._dtype.is_complex):
            raise RuntimeError("only Tensors of floating point and complex dtype can require gradients")
        self._requires_grad = bool(value)

    @property
    def grad(self) -> None:
        return None

    @property
    def is_leaf(self) -> bool:
        return True

    @property
    def data(self) -> Tensor:
        """The same memory, without `requires_grad`."""
        detached: Tensor = self.detach()
        return detached

    @data.setter
    def data(self, value: Tensor) -> None:
        wants = self._requires_grad
        held = value.detach()._as(type(self))
        self.__dict__.clear()
        self.__dict__.update(held.__dict__, _requires_grad=wants)

    def numel(self) -> int:
        return math.prod(self._shape)

    nelement = numel

    def dim(self) -> int:
        return len(self._shape)

    ndimension = dim

    def size(self, dim: int | None = None) -> Any:
        return self._shape if dim is None else self._shape[self._axis(dim)]

    def element_size(self) -> int:
        return self._dtype.itemsize

    def stride(self, dim: int | None = None) -> Any:
        """Steps in elements, one per axis; of one axis if it is named."""
        size = self._dtype.itemsize
        if not self.numel():
            steps = tuple(contiguous_strides(self._shape))
            return steps if dim is None else steps[self._axis(dim)]
        steps = self._strides if self._held is None else tuple(step // size for step in self._held.strides)
        return steps if dim is None else steps[self._axis(dim)]

    def _axis(self, dim: int) -> int:
        if not self._shape:
            raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions")
        return axis(dim, self.ndim)

    def is_floating_point(self) -> bool:
        return self._dtype.is_floating_point

    def is_complex(self) -> bool:
        return self._dtype.is_complex

    def is_signed(self) -> bool:
        return self._dtype.is_signed

    # memory

    def untyped_storage(self) -> UntypedStorage:
        """The bytes that this tensor is a view of; the same object for all views of one memory."""
        root = self._owner
        if root._storage is None:
            root._storage = _storage_of(root._array)
        return root._storage

    def data_ptr(self) -> int:
        """The address of the first element; 0 for an empty tensor."""
        return address(self._array) if self.numel() else 0

    def storage_offset(self) -> int:
        """How many elements into the storage the tensor begins."""
        if self._held is None:
            return self._offset
        storage = self.untyped_storage()
        if not storage.nbytes():
            return 0
        return (address(self._held) - storage.data_ptr()) // self._dtype.itemsize

    # as Python numbers

    def item(self) -> Any:
        """The only element as a Python number.

        Raises:
            RuntimeError: there is not exactly one.
        """
        if self.numel() != 1:
            raise RuntimeError(f"a Tensor with {self.numel()} elements cannot be converted to Scalar")
        require_values(self._dtype)
        value = self._array.reshape(()).item()
        return value if isinstance(value, (bool, int, float, complex)) else float(value)

    def tolist(self) -> Any:
        """The values as nested lists of Python numbers; one number for a 0-d tensor."""
        array = self._array
        require_values(self._dtype)
        if self._dtype.row.module != "numpy":
            array = array.astype(np.float32)
        return array.tolist()

    def __bool__(self) -> bool:
        if self.numel() > 1:
            raise RuntimeError(
                f"a tensor of {self.numel()} elements is neither true nor false: use .any() or .all()"
            )
        if not self.numel():
            raise RuntimeError("a tensor without elements is neither true nor false")
        return bool(self.item())

    def _number(self) -> Any:
        if self.numel() != 1:
            raise ValueError(f"a tensor of {self.numel()} elements is no single number")
        return self.item()

    def __int__(self) -> int:
        return int(self._number())

    def __float__(self) -> float:
        return float(self._number())

    def __complex__(self) -> complex:
        return complex(self._number())

    def __index__(self) -> int:
        if self.numel() != 1 or self._dtype.row.kind not in ("int", "bool"):
            raise TypeError("an index must be a single integer")
        return int(self.item())

    def __len__(self) -> int:
        if not self._shape:
            raise TypeError("len() of a 0-d tensor")
        return int(self._shape[0])

    def __iter__(self) -> Iterator[Tensor]:
        if not self._shape:
            raise TypeError("iteration over a 0-d tensor")
        return iter(self.unbind(0))

    __hash__ = object.__hash__

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if not self._shape else object.__format__(self, spec)

    def __reduce__(self) -> Any:
        return _rebuild, (self._array.copy(), self._requires_grad)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # Python's own questions: __cuda_array_interface__, _repr_html_
            raise AttributeError(f"'Tensor' object has no attribute {name!r}", name=name, obj=self)
        raise missing.attribute(f"Tensor.{name}", self)


def _rebuild(array: Array, requires_grad: bool) -> Tensor:
    made = Tensor._of(array)
    made._requires_grad = requires_grad
    return made


def _storage_of(array: Array) -> UntypedStorage:
    """The bytes from an array's first element to its last."""
    if not array.size:
        return UntypedStorage(0)
    extent = sum((length - 1) * step for length, step in zip(array.shape, array.strides, strict=True))
    first = restride(array, (1,), (array.itemsize,)).view(np.uint8)
    return UntypedStorage.of(restride(first, (extent + array.itemsize,), (1,)))
