"""`to` and its short forms: another dtype, the same device, a detached tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from wconv.torch import dtypes
from wconv.torch.convert import convert
from wconv.torch.device import keeps_order, memory_format, require_cpu
from wconv.torch.dtypes import dtype
from wconv.torch.shapes import squeeze, unsqueeze, view
from wconv.torch.tensor import Tensor


def to(
    self: Tensor,
    *args: Any,
    dtype: dtype | None = None,
    device: Any = None,
    non_blocking: bool = False,
    copy: bool = False,
    memory_format: memory_format | None = None,
    other: Tensor | None = None,
) -> Tensor:
    """In another dtype and on the CPU: `to(dtype)`, `to(device)`, `to(device, dtype)`, `to(other)`.

    Itself where nothing changes.

    Raises:
        RuntimeError: another device than the CPU.
    """
    rest = list(args)
    if rest and isinstance(rest[0], Tensor):
        other = rest.pop(0)
    elif rest and isinstance(rest[0], dtypes.dtype):
        dtype = rest.pop(0)
    elif rest:
        device = rest.pop(0)
        if rest and (rest[0] is None or isinstance(rest[0], dtypes.dtype)):
            dtype = rest.pop(0)
    if len(rest) > 2 or not all(isinstance(flag, bool) for flag in rest):
        raise TypeError(f"to() received an invalid combination of arguments: {args!r:.80}")
    if len(rest) == 2:
        copy = rest[1]
    require_cpu(device)
    target = other.dtype if other is not None else dtype or self.dtype
    if not isinstance(target, dtypes.dtype):
        raise TypeError(f"to(): {target!r:.60} is not a torch.dtype")
    keep = keeps_order(memory_format)
    if target is self.dtype and not copy and (keep or self.is_contiguous()):
        return self
    return Tensor._of(convert(self._array, target, keep_order=keep))


def _short(name: str, target: dtype) -> Callable[..., Tensor]:
    def method(self: Tensor, memory_format: memory_format | None = None) -> Tensor:
        return to(self, target, memory_format=memory_format)

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"The tensor as {target}."
    return method


SHORT = {
    "double": "float64",
    "float": "float32",
    "half": "float16",
    "bfloat16": "bfloat16",
    "long": "int64",
    "int": "int32",
    "short": "int16",
    "char": "int8",
    "byte": "uint8",
    "bool": "bool",
    "cfloat": "complex64",
    "cdouble": "complex128",
}

TYPED = {
    "DoubleTensor": "float64",
    "FloatTensor": "float32",
    "HalfTensor": "float16",
    "BFloat16Tensor": "bfloat16",
    "LongTensor": "int64",
    "IntTensor": "int32",
    "ShortTensor": "int16",
    "CharTensor": "int8",
    "ByteTensor": "uint8",
    "BoolTensor": "bool",
    "ComplexFloatTensor": "complex64",
    "ComplexDoubleTensor": "complex128",
}
"""torch's older names for dtypes, as `Tensor.type()` still gives them."""


def type(self: Tensor, dtype: Any = None, non_blocking: bool = False) -> Any:
    """The tensor in another dtype; without one, the name of its own ("torch.FloatTensor")."""
    if dtype is None:
        for old, name in TYPED.items():
            if name == self.dtype.name:
                return f"torch.{old}"
        return str(self.dtype).replace("torch.", "torch.").title().replace("Torch.", "torch.") + "Tensor"
    dtype = getattr(dtype, "of", dtype)  # torch.HalfTensor
    if isinstance(dtype, str):
        plain = dtype.removeprefix("torch.")
        if plain not in TYPED:
            raise ValueError(f"invalid type: {dtype!r}")
        dtype = dtypes.BY_NAME[TYPED[plain]]
    return to(self, dtype)


def type_as(self: Tensor, other: Tensor) -> Tensor:
    return to(self, other.dtype)


def cpu(self: Tensor, memory_format: memory_format | None = None) -> Tensor:
    return to(self, memory_format=memory_format)


def detach(input: Tensor) -> Tensor:
    """The same memory as a plain tensor, without `requires_grad`."""
    made = input._as(Tensor)
    made._requires_grad = False
    return made


def detach_(self: Tensor) -> Tensor:
    self._requires_grad = False
    return self


def requires_grad_(self: Tensor, requires_grad: bool = True) -> Tensor:
    self.requires_grad = requires_grad
    return self


def real(input: Tensor) -> Tensor:
    """A view of the real parts."""
    return input._view(input._array.real) if input.is_complex() else input


def imag(input: Tensor) -> Tensor:
    """A view of the imaginary parts."""
    if not input.is_complex():
        raise RuntimeError("imag is not implemented for tensors with non-complex dtypes.")
    return input._view(input._array.imag)


def conj(input: Tensor) -> Tensor:
    """The conjugates, in memory of their own; a real tensor itself."""
    return Tensor._of(np.conjugate(input._array)) if input.is_complex() else input


def view_as_real(input: Tensor) -> Tensor:
    """A complex tensor as a real one with a last axis of 2, over the same memory."""
    if not input.is_complex():
        raise RuntimeError("view_as_real is only supported for complex tensors")
    return view(unsqueeze(input, -1), input.dtype.to_real())


def view_as_complex(input: Tensor) -> Tensor:
    """A real tensor with a last axis of 2 as a complex one, over the same memory."""
    if not input.is_floating_point() or not input.ndim or input.shape[-1] != 2:
        raise RuntimeError("Tensor must be floating point and have a last dimension of size 2")
    return squeeze(view(input, input.dtype.to_complex()), -1)


def complex(real: Tensor, imag: Tensor) -> Tensor:
    """A complex tensor of real and imaginary parts.

    Raises:
        RuntimeError: they differ in dtype, or are neither float32 nor float64.
    """
    if real.dtype.name not in ("float32", "float64") or real.dtype is not imag.dtype:
        raise RuntimeError(
            f"complex(): expected both inputs to be Float or Double, got {real.dtype} and {imag.dtype}"
        )
    try:
        first, second = np.broadcast_arrays(real._array, imag._array)
    except ValueError as error:
        raise RuntimeError(f"complex(): {error}") from None
    made = np.empty(first.shape, real.dtype.to_complex().numpy)
    made.real, made.imag = first, second
    return Tensor._of(made)


def is_tensor(obj: Any) -> bool:
    return isinstance(obj, Tensor)


def is_floating_point(input: Tensor) -> bool:
    return input.is_floating_point()


def is_complex(input: Tensor) -> bool:
    return input.is_complex()


def numel(input: Tensor) -> int:
    return input.numel()


METHODS = (conj, to, type, type_as, cpu, detach, detach_, requires_grad_)
FUNCTIONS = (
    complex,
    conj,
    real,
    imag,
    view_as_real,
    view_as_complex,
    is_tensor,
    is_floating_point,
    is_complex,
    numel,
    detach,
)
METHOD_ALIASES = {name: _short(name, dtypes.BY_NAME[target]) for name, target in SHORT.items()}
PROPERTIES = {"real": real, "imag": imag}
