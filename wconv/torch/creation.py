"""New tensors: out of Python numbers, numpy arrays, buffers, or nothing but a shape."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from wconv.tensors.base import Array
from wconv.torch import dtypes
from wconv.torch.casting import detach
from wconv.torch.convert import convert
from wconv.torch.device import device, keeps_order, layout, memory_format, require_cpu, require_strided
from wconv.torch.dtypes import dtype
from wconv.torch.promotion import of_number
from wconv.torch.size import lengths, whole
from wconv.torch.storage import UntypedStorage
from wconv.torch.strides import empty_as
from wconv.torch.tensor import Tensor
from wconv.torch.values import gathered, scalar

Device = str | device | None


def tensor(
    data: Any,
    *,
    dtype: dtype | None = None,
    device: Device = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """A new tensor with a copy of `data`: numbers, nested lists, arrays, tensors."""
    _require_plain(device, pin_memory)
    made = Tensor._of(gathered(data, dtype))
    made.requires_grad = requires_grad
    return made


def _require_plain(where: Device, pin_memory: bool = False) -> None:
    require_cpu(where)
    if pin_memory:
        raise RuntimeError("pin_memory=True is not offered by wconv.torch: it serves copies to a GPU")


def legacy(kind: type[Tensor], *data: Any) -> Tensor:
    """`Tensor([[1, 2]])`: values in the default dtype; `Tensor(2, 3)`: so many of them, unset."""
    to = dtypes.get_default_dtype()
    if len(data) == 1 and isinstance(data[0], (list, tuple, np.ndarray, Tensor)):
        given = data[0]
        if isinstance(given, Tensor) and given.dtype is to:
            return detach(given)._as(kind)
        return kind._of(gathered(given, to))
    return kind._of(np.zeros(lengths(data) if data else (0,), to.numpy))


def as_tensor(data: Any, dtype: dtype | None = None, device: Device = None) -> Tensor:
    """`data` as a tensor, over the same memory where its dtype is the one asked for."""
    require_cpu(device)
    if isinstance(data, np.ndarray):
        data = from_numpy(data)
    if isinstance(data, Tensor):
        return data if dtype in (None, data.dtype) else Tensor._of(convert(data._array, dtype or data.dtype))
    return tensor(data, dtype=dtype)


def asarray(
    obj: Any,
    *,
    dtype: dtype | None = None,
    device: Device = None,
    copy: bool | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor, array, storage, buffer or numbers as a tensor; shares memory unless `copy` says otherwise."""
    require_cpu(device)
    if isinstance(obj, UntypedStorage):
        flat = obj.bytes.view((dtype or dtypes.uint8).numpy)
        shared = Tensor._of(flat)
    elif isinstance(obj, (bytes, bytearray, memoryview)):
        shared = frombuffer(obj, dtype=dtype or dtypes.get_default_dtype())
    else:
        shared = as_tensor(obj, dtype=dtype)
    fresh = not isinstance(obj, (Tensor, np.ndarray, UntypedStorage, bytes, bytearray, memoryview))
    if copy is False and (fresh or (isinstance(obj, Tensor) and shared is not obj)):
        raise ValueError("can't alias arbitrary sequence or convert without a copy (copy=False)")
    made = shared.clone() if copy and not fresh else shared
    if requires_grad:
        made = made.detach()
        made.requires_grad = True
    return made


def from_numpy(ndarray: Array) -> Tensor:
    """A tensor over an array's memory."""
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(ndarray).__name__})")
    if any(step < 0 for step in ndarray.strides):
        raise ValueError(
            f"the array runs backwards in memory (strides {ndarray.strides}), unlike tensors: copy() it"
        )
    return Tensor._of(np.asarray(ndarray))


def from_dlpack(ext_tensor: Any, *, device: Device = None, copy: bool | None = None) -> Tensor:
    """A tensor over the memory of another library's array, or over a copy."""
    require_cpu(device)
    made = detach(ext_tensor) if isinstance(ext_tensor, Tensor) else Tensor._of(np.from_dlpack(ext_tensor))
    return Tensor._of(made._array.copy()) if copy else made


def frombuffer(
    buffer: Any, *, dtype: dtype, count: int = -1, offset: int = 0, requires_grad: bool = False
) -> Tensor:
    """A 1-D tensor over a buffer's bytes from `offset` on."""
    size = memoryview(buffer).nbytes
    if not 0 <= offset < size:
        raise ValueError(f"offset {offset} does not lie within the buffer of {size} bytes")
    if count < 0 and (size - offset) % dtype.itemsize:
        raise ValueError(
            f"{size - offset} bytes from {offset} on are no whole number of {dtype} ({dtype.itemsize} bytes)"
        )
    if count == 0 or offset + count * dtype.itemsize > size:
        raise ValueError(f"{count} elements of {dtype.itemsize} bytes do not fit the buffer's {size}")
    made = Tensor._of(np.frombuffer(buffer, dtype.numpy, count, offset))
    made.requires_grad = requires_grad
    return made


Maker = Callable[..., Tensor]


def _from_shape(name: str, make: Callable[..., Array]) -> tuple[Maker, Maker, Maker]:
    """`zeros`, `zeros_like` and `Tensor.new_zeros`, for zeros and its like."""

    def function(
        *size: Any,
        dtype: dtype | None = None,
        device: Device = None,
        layout: layout | None = None,
        requires_grad: bool = False,
        pin_memory: bool = False,
        **named: Any,
    ) -> Tensor:
        _require_plain(device, pin_memory)
        require_strided(layout)
        if "size" in named and not size:
            size = (named.pop("size"),)
        if named:
            raise TypeError(f"{name}() got an unexpected argument {next(iter(named))!r}")
        shape = lengths(size)
        if min(shape, default=0) < 0:
            raise RuntimeError(f"Trying to create tensor with negative dimension {min(shape)}: {list(shape)}")
        made = Tensor._of(make(shape, (dtype or dtypes.get_default_dtype()).numpy))
        made.requires_grad = requires_grad
        return made

    def like(
        input: Tensor,
        *,
        dtype: dtype | None = None,
        device: Device = None,
        layout: layout | None = None,
        requires_grad: bool = False,
        memory_format: memory_format | None = None,
    ) -> Tensor:
        require_cpu(device)
        require_strided(layout)
        made = empty_as(input._array, (dtype or input.dtype).numpy, keep_order=keeps_order(memory_format))
        made[...] = make((), made.dtype)
        found = Tensor._of(made)
        found.requires_grad = requires_grad
        return found

    def new(self: Tensor, *size: Any, dtype: dtype | None = None, **named: Any) -> Tensor:
        return function(*size, dtype=dtype or self.dtype, **named)

    for made, called in ((function, name), (like, f"{name}_like"), (new, f"new_{name}")):
        made.__name__ = made.__qualname__ = called
        made.__doc__ = f"torch.{called}."
    return function, like, new


zeros, zeros_like, new_zeros = _from_shape("zeros", np.zeros)
ones, ones_like, new_ones = _from_shape("ones", np.ones)
empty, empty_like, new_empty = _from_shape("empty", np.empty)


def full(
    size: Any,
    fill_value: Any,
    *,
    dtype: dtype | None = None,
    device: Device = None,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor of one value; its dtype follows the value unless given."""
    require_cpu(device)
    number = fill_value.item() if isinstance(fill_value, Tensor) else fill_value
    to = dtype or of_number(number)
    made = Tensor._of(np.full(lengths((size,)), scalar(number, to), to.numpy))
    made.requires_grad = requires_grad
    return made


def full_like(input: Tensor, fill_value: Any, *, dtype: dtype | None = None, device: Device = None) -> Tensor:
    require_cpu(device)
    to = dtype or input.dtype
    made = empty_as(input._array, to.numpy)
    made[...] = scalar(fill_value, to)
    return Tensor._of(made)


def new_full(self: Tensor, size: Any, fill_value: Any, *, dtype: dtype | None = None) -> Tensor:
    return full(size, fill_value, dtype=dtype or self.dtype)


def new_tensor(self: Tensor, data: Any, *, dtype: dtype | None = None) -> Tensor:
    return tensor(data, dtype=dtype or self.dtype)


def arange(*bounds: Any, dtype: dtype | None = None, device: Device = None, **named: Any) -> Tensor:
    """`arange(end)`, `arange(start, end)`, `arange(start, end, step)`: integers unless a bound is a float."""
    require_cpu(device)
    names = ("end",) if len(bounds) + len(named) == 1 else ("start", "end", "step")
    given = {**dict(zip(names, bounds, strict=False)), **named}
    if "end" not in given or not given.keys() <= {"start", "end", "step"}:
        raise TypeError(f"arange() got unexpected arguments {sorted(given)}")
    start, end, step = given.get("start", 0), given["end"], given.get("step", 1)
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if (end - start) * step < 0:
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    whole_numbers = all(isinstance(each, int) for each in (start, end, step))
    to = dtype or (dtypes.int64 if whole_numbers else dtypes.get_default_dtype())
    count = math.ceil((end - start) / step)
    if to.row.kind == "int":
        start, step = int(start), int(step)
        return Tensor._of(convert(start + step * np.arange(count), to))
    return Tensor._of(convert(start + step * np.arange(count, dtype=np.float64), to))


def linspace(
    start: float, end: float, steps: int, *, dtype: dtype | None = None, device: Device = None
) -> Tensor:
    """`steps` values at equal distance, both ends included (to within a rounding of torch's)."""
    require_cpu(device)
    return Tensor._of(convert(np.linspace(start, end, whole(steps)), dtype or dtypes.get_default_dtype()))


def eye(n: int, m: int | None = None, *, dtype: dtype | None = None, device: Device = None) -> Tensor:
    require_cpu(device)
    return Tensor._of(np.eye(n, m, dtype=(dtype or dtypes.get_default_dtype()).numpy))


METHODS = (new_zeros, new_ones, new_empty, new_full, new_tensor)
OPERATORS: dict[str, Any] = {"__new__": staticmethod(legacy)}
FUNCTIONS = (
    tensor,
    as_tensor,
    asarray,
    from_numpy,
    from_dlpack,
    frombuffer,
    zeros,
    zeros_like,
    ones,
    ones_like,
    empty,
    empty_like,
    full,
    full_like,
    arange,
    linspace,
    eye,
)
