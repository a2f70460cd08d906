"""Functions that take axes together: sum, mean, min and max, any and all, norms.

Sums of floats are accumulated in float64 and rounded once, so they are at least as exact as torch's, whose
last bits depend on the order it adds in. Integers are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from wconv.tensors.base import Array
from wconv.torch import dtypes
from wconv.torch.convert import convert
from wconv.torch.dtypes import FLOAT8, dtype
from wconv.torch.size import axes, axis
from wconv.torch.strides import in_c_order
from wconv.torch.tensor import Tensor


class Extreme(NamedTuple):
    """What `min`, `max`, `sort` and `topk` return along an axis."""

    values: Tensor
    indices: Tensor


def _finished(array: Any, to: dtype) -> Tensor:
    made = in_c_order(np.asarray(array))
    return Tensor._of(made if made.dtype == to.numpy else convert(made, to))


def _require_arithmetic(input: Tensor, name: str) -> None:
    dtypes.require_values(input.dtype)
    if input.dtype.name in FLOAT8:
        raise NotImplementedError(f'"{name}" not implemented for {input.dtype}')


def _require_floating(input: Tensor, name: str) -> None:
    _require_arithmetic(input, name)
    if not (input.is_floating_point() or input.is_complex()):
        raise RuntimeError(f"{name}(): the input must be floating point or complex, got {input.dtype}")


def exact(array: Array) -> Array:
    """Floats as float64, complex as complex128, booleans as integers: what sums are made in."""
    if array.dtype.kind in "iu":
        return array
    if array.dtype.kind == "b":
        return array.astype(np.int64)
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def _total(
    name: str, compute: Callable[..., Any], input: Tensor, dim: Any, keepdim: bool, to: dtype | None
) -> Tensor:
    _require_arithmetic(input, name)
    result = to or (input.dtype if input.is_floating_point() or input.is_complex() else dtypes.int64)
    source = input._array if to is None else convert(input._array, to)
    with np.errstate(all="ignore"):
        made = compute(exact(source), axis=axes(dim, input.ndim) if input.ndim else None, keepdims=keepdim)
    return _finished(made, result)


def sum(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: dtype | None = None) -> Tensor:
    return _total("sum", np.sum, input, dim, keepdim, dtype)


def prod(
    input: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: dtype | None = None
) -> Tensor:
    return _total("prod", np.prod, input, dim, keepdim, dtype)


def mean(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: dtype | None = None) -> Tensor:
    if dtype is None:
        _require_floating(input, "mean")
    return _total("mean", np.mean, input, dim, keepdim, dtype)


def _spread(compute: Callable[..., Any], name: str) -> Callable[..., Tensor]:
    def function(
        input: Tensor,
        dim: Any = None,
        unbiased: bool | None = None,
        keepdim: bool = False,
        *,
        correction: int = 1,
    ) -> Tensor:
        _require_floating(input, name)
        if isinstance(dim, bool):
            dim, unbiased = None, dim
        missing = correction if unbiased is None else int(unbiased)
        with np.errstate(all="ignore"):
            made = compute(exact(input._array), axis=axes(dim, input.ndim), keepdims=keepdim, ddof=missing)
        return _finished(made, input.dtype)

    function.__name__ = function.__qualname__ = name
    return function


std, var = _spread(np.std, "std"), _spread(np.var, "var")


def cumsum(input: Tensor, dim: int, *, dtype: dtype | None = None) -> Tensor:
    _require_arithmetic(input, "cumsum")
    at = axis(dim, input.ndim)
    result = dtype or (input.dtype if input.is_floating_point() or input.is_complex() else dtypes.int64)
    source = input._array if dtype is None else convert(input._array, dtype)
    if not input.ndim:
        return _finished(source.copy(), result)
    return _finished(np.cumsum(exact(source), axis=at), result)


def all(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether every element is not 0 (uint8 tensors get a uint8 answer, as torch has it)."""
    return _truth(np.all, input, dim, keepdim)


def any(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether some element is not 0 (uint8 tensors get a uint8 answer, as torch has it)."""
    return _truth(np.any, input, dim, keepdim)


def _truth(compute: Callable[..., Any], input: Tensor, dim: Any, keepdim: bool) -> Tensor:
    made = compute(input._array != 0, axis=axes(dim, input.ndim) if input.ndim else None, keepdims=keepdim)
    return _finished(made, dtypes.uint8 if input.dtype is dtypes.uint8 else dtypes.bool_)


def _extreme(name: str, compute: Any, where: Any) -> Callable[..., Any]:
    def function(
        input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Tensor | None = None
    ) -> Any:
        require_real(input, name)
        dim = dim if other is None else other
        if isinstance(dim, Tensor):
            from wconv.torch.arithmetic import TABLE

            return TABLE[f"{name}imum"](input, dim)
        if dim is None:
            if not input.numel():
                raise RuntimeError(
                    f"{name}(): Expected reduction dim to be specified for input.numel() == 0."
                )
            return _finished(compute(ordered(input)), input.dtype)
        at = axis(dim, input.ndim)
        if not input.ndim:
            return Extreme(Tensor._of(input._array.copy()), Tensor._of(np.zeros((), np.int64)))
        if not input.shape[at]:
            raise IndexError(f"{name}(): Expected reduction dim {at} to have non-zero size.")
        indices = np.expand_dims(where(ordered(input), axis=at), at)
        values = np.take_along_axis(input._array, indices, at)
        if not keepdim:
            indices, values = indices.squeeze(at), values.squeeze(at)
        return Extreme(Tensor._of(np.asarray(values)), Tensor._of(np.asarray(indices)))

    function.__name__ = function.__qualname__ = name
    return function


def require_real(input: Tensor, name: str) -> None:
    _require_arithmetic(input, name)
    if input.is_complex():
        raise NotImplementedError(f"{name}: complex numbers have no order")


def ordered(input: Tensor) -> Array:
    """Values that numpy compares quickly and rightly: bfloat16 as float32."""
    array = input._array
    return array.astype(np.float32) if input.dtype is dtypes.bfloat16 else array


min, max = _extreme("min", np.min, np.argmin), _extreme("max", np.max, np.argmax)


def _position(name: str, where: Any) -> Callable[..., Tensor]:
    def function(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
        require_real(input, name)
        if input.dtype is dtypes.bool_:
            raise NotImplementedError(f'"{name}_cpu" not implemented for {input.dtype}')
        at = None if dim is None or not input.ndim else axis(dim, input.ndim)
        if not (input.numel() if at is None else input.shape[at]):
            raise IndexError(f"{name}(): there is no element to choose from in {list(input.shape)}")
        return Tensor._of(np.asarray(where(ordered(input), axis=at, keepdims=keepdim), np.int64))

    function.__name__ = function.__qualname__ = name
    return function


argmin, argmax = _position("argmin", np.argmin), _position("argmax", np.argmax)


def _require_elements(input: Tensor, dim: Any, name: str) -> tuple[int, ...]:
    at = axes(dim, input.ndim)
    if not math.prod(input.shape[each] for each in at):
        error = IndexError if dim not in ((), None) else RuntimeError
        raise error(f"{name}(): there is no element along axes {at} of {list(input.shape)}")
    return at


def amin(input: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    require_real(input, "amin")
    return _finished(
        np.min(ordered(input), axis=_require_elements(input, dim, "amin"), keepdims=keepdim), input.dtype
    )


def amax(input: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    require_real(input, "amax")
    return _finished(
        np.max(ordered(input), axis=_require_elements(input, dim, "amax"), keepdims=keepdim), input.dtype
    )


def norm(
    input: Tensor, p: Any = "fro", dim: Any = None, keepdim: bool = False, *, dtype: dtype | None = None
) -> Tensor:
    """The p-norm over axes: 2 ("fro"), 1, 0, any other number, or infinity."""
    _require_floating(input, "norm")
    result = dtype or input.dtype
    if input.is_complex():
        result = result.to_real()
    values = np.abs(exact(input._array))
    at = axes(dim, input.ndim) if input.ndim else None
    order = 2.0 if p in ("fro", None) else p
    if not isinstance(order, (int, float)):
        raise RuntimeError(f"norm with p={p!r} is not offered by wconv.torch")
    with np.errstate(all="ignore"):
        if math.isinf(order):
            made = (np.max if order > 0 else np.min)(values, axis=at, keepdims=keepdim)
        elif order == 0:
            made = np.sum(values != 0, axis=at, keepdims=keepdim).astype(np.float64)
        else:
            made = np.sum(values**order, axis=at, keepdims=keepdim) ** (1 / order)
    return _finished(made, result)


def count_nonzero(input: Tensor, dim: Any = None) -> Tensor:
    return _finished(
        np.sum(input._array != 0, axis=axes(dim, input.ndim) if input.ndim else None), dtypes.int64
    )


METHODS = (
    sum,
    prod,
    mean,
    std,
    var,
    cumsum,
    all,
    any,
    min,
    max,
    argmin,
    argmax,
    amin,
    amax,
    norm,
    count_nonzero,
)
FUNCTIONS = METHODS
