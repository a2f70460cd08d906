"""The functions of `elementwise` under all their names, the operators, and the in-place forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from wconv.tensors.base import Array
from wconv.torch import dtypes, elementwise
from wconv.torch.convert import convert
from wconv.torch.elementwise import BINARY, REAL, UNARY, Rule, apply
from wconv.torch.promotion import can_cast, result_type
from wconv.torch.size import axes
from wconv.torch.tensor import Tensor
from wconv.torch.values import scalar

TABLE = {name: elementwise.function(name, rule) for name, rule in {**UNARY, **BINARY}.items()}


def add(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """`input + alpha * other`."""
    return apply("add", Rule(np.add), input, _scaled(input, other, alpha))


def sub(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """`input - alpha * other`."""
    kinds = {each.dtype if isinstance(each, Tensor) else type(each) for each in (input, other)}
    if not kinds.isdisjoint((dtypes.bool_, bool)):
        raise RuntimeError("sub: booleans cannot be subtracted; use ^, or turn them into integers first")
    return apply("sub", Rule(np.subtract), input, _scaled(input, other, alpha))


def _scaled(input: Any, other: Any, alpha: Any) -> Any:
    """`alpha * other`: exact for narrow floats, whose sum torch rounds once, at the end."""
    if isinstance(alpha, (int, float)) and alpha == 1:
        return other
    common = result_type(input, other)
    if isinstance(alpha, float) and common.row.kind in ("int", "bool"):
        raise RuntimeError("For integral input tensors, argument alpha must not be a floating point number.")
    if common in elementwise.NARROW:
        raise NotImplementedError(
            f"alpha with {common} is not offered by wconv.torch: scale in float32 first"
        )
    return apply("mul", Rule(np.multiply), other, alpha)


def rsub(input: Tensor, other: Any) -> Tensor:
    return sub(other, input)


def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """True division, or rounded down ("floor") or towards 0 ("trunc")."""
    if rounding_mode is None:
        return TABLE["div"](input, other)
    if rounding_mode == "floor":
        return TABLE["floor_divide"](input, other)
    if rounding_mode != "trunc":
        raise RuntimeError(
            f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{rounding_mode}'"
        )
    return apply(
        "div", Rule(_divide_towards_zero, refuses=("complex", "bool"), wide_number=True), input, other
    )


def _divide_towards_zero(a: Array, b: Array) -> Any:
    if a.dtype.kind == "f":
        return np.trunc(a / b)
    elementwise._zero_divisor(a, b)
    return (a - np.fmod(a, b)) // b


POWERS: dict[float, Callable[[Array], Any]] = {
    0.5: np.sqrt,
    2: lambda x: x * x,
    3: lambda x: x * x * x,
    -0.5: lambda x: 1 / np.sqrt(x),
    -1: lambda x: 1 / x,
    -2: lambda x: 1 / (x * x),
}
"""Exponents that torch computes by other means than pow."""


def pow(input: Any, exponent: Any) -> Tensor:
    number = exponent if isinstance(exponent, (int, float)) and not isinstance(exponent, bool) else None
    if isinstance(input, Tensor) and number is not None:
        if input.dtype.row.kind == "int" and isinstance(number, int) and number < 0:
            raise RuntimeError("Integers to negative integer powers are not allowed.")
        common = result_type(input, number)
        if common.is_floating_point and number in POWERS:
            return apply("pow", Rule(lambda x, _: POWERS[number](x)), input, number)
    return apply("pow", BINARY["power"], input, exponent)


def positive(input: Tensor) -> Tensor:
    """The tensor itself, `+tensor`."""
    if input.dtype is dtypes.bool_:
        raise RuntimeError("positive: not defined for booleans")
    return input


def square(input: Tensor) -> Tensor:
    return pow(input, 2)


def clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """Values limited to [min, max]; NaN stays."""
    if min is None and max is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    made = input
    if min is not None:
        made = apply("clamp", Rule(np.maximum, refuses=REAL), made, min)
    return made if max is None else apply("clamp", Rule(np.minimum, refuses=REAL), made, max)


def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """Halves to even."""
    if decimals:
        raise NotImplementedError("round(decimals=…) is not offered by wconv.torch")
    return apply("round", Rule(np.round, refuses=("complex", "bool")), input)


def softmax(input: Tensor, dim: int, dtype: dtypes.dtype | None = None) -> Tensor:
    source = input if dtype is None else Tensor._of(convert(input._array, dtype))
    if not source.is_floating_point():
        raise NotImplementedError(f'"softmax" not implemented for {source.dtype}')

    def compute(x: Array) -> Any:
        at = axes(dim, x.ndim) if x.ndim else None
        powers = np.exp(x - x.max(axis=at, keepdims=True))
        return powers / powers.sum(axis=at, keepdims=True)

    return apply("softmax", Rule(compute), source)


def lerp(input: Tensor, end: Tensor, weight: Any) -> Tensor:
    """`input + weight * (end - input)`."""
    return add(input, TABLE["mul"](sub(end, input), weight))


def copy_(self: Tensor, src: Any, non_blocking: bool = False) -> Tensor:
    """Writes `src`'s values into this tensor's memory, converted to its dtype.

    Raises:
        RuntimeError: the sizes differ, or this tensor is expanded: each write would reach several elements.
    """
    if not isinstance(src, Tensor):
        raise TypeError(f"copy_(): argument 'other' must be Tensor, not {type(src).__name__}")
    if any(size > 1 and not step for size, step in zip(self._array.shape, self._array.strides, strict=True)):
        raise RuntimeError(
            "more than one element of the written-to tensor is in a single place in memory: clone() it first"
        )
    values = src._array if src.dtype is self.dtype else convert(src._array, self.dtype)
    try:
        np.copyto(self._array, values)
    except ValueError:
        raise RuntimeError(
            f"The size of tensor a {list(self.shape)} must match the size of tensor b {list(src.shape)}"
        ) from None
    return self


def fill_(self: Tensor, value: Any) -> Tensor:
    self._array[...] = scalar(value, self.dtype)
    return self


def zero_(self: Tensor) -> Tensor:
    return fill_(self, 0)


def in_place(name: str, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`add_` out of `add`: the result is written into the first operand.

    Raises (the function): RuntimeError: the result would need another shape or a greater dtype.
    """

    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        made = function(self, *args, **kwargs)
        if not can_cast(made.dtype, self.dtype):
            raise RuntimeError(
                f"result type {made.dtype} can't be cast to the desired output type {self.dtype}"
            )
        if made.shape != self.shape:
            raise RuntimeError(
                f"output with shape {list(self.shape)} doesn't match the broadcast shape {list(made.shape)}"
            )
        return copy_(self, made)

    method.__name__ = method.__qualname__ = f"{name}_"
    return method


def operator(function: Callable[..., Tensor], swapped: bool = False) -> Callable[..., Any]:
    """A binary operator that leaves operands it does not know to the other side."""

    def method(self: Tensor, other: Any) -> Any:
        if isinstance(other, np.ndarray) and not swapped:
            other = Tensor._of(other)
        if not isinstance(other, (Tensor, int, float, complex, np.generic)):
            return NotImplemented
        return function(other, self) if swapped else function(self, other)

    return method


def _reciprocal_times(number: Any, tensor: Tensor) -> Tensor:
    """`number / tensor` as torch computes it: in two roundings."""
    return TABLE["mul"](TABLE["reciprocal"](tensor), number)


def _swapped(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda number, tensor: function(tensor, number)


NAMED: dict[str, Callable[..., Tensor]] = {
    **{name: made for name, made in TABLE.items() if name not in ("div", "power")},
    "add": add,
    "sub": sub,
    "div": div,
    "pow": pow,
    "positive": positive,
    "square": square,
    "clamp": clamp,
    "round": round,
}
SECOND_NAMES = {
    "absolute": "abs",
    "negative": "neg",
    "subtract": "sub",
    "multiply": "mul",
    "divide": "div",
    "true_divide": "div",
    "not_equal": "ne",
    "less": "lt",
    "less_equal": "le",
    "greater": "gt",
    "greater_equal": "ge",
    "clip": "clamp",
    "fix": "trunc",
    "arctan2": "atan2",
    "arccos": "acos",
    "arccosh": "acosh",
    "arcsin": "asin",
    "arcsinh": "asinh",
    "arctan": "atan",
    "arctanh": "atanh",
}
FUNCTION_ALIASES = {**NAMED, **{second: NAMED[first] for second, first in SECOND_NAMES.items()}}
WITHOUT_IN_PLACE = ("signbit", "logaddexp", "isnan", "isinf", "isfinite", "maximum", "minimum", "positive")

METHODS = (softmax, lerp, copy_, fill_, zero_)
FUNCTIONS = (softmax, lerp, rsub)
METHOD_ALIASES = {
    **FUNCTION_ALIASES,
    **{f"{name}_": in_place(name, f) for name, f in FUNCTION_ALIASES.items() if name not in WITHOUT_IN_PLACE},
}
OPERATORS: dict[str, Callable[..., Any]] = {
    **{
        f"__{name}__": operator(FUNCTION_ALIASES[name])
        for name in ("add", "sub", "mul", "eq", "ne", "lt", "le", "gt", "ge", "pow")
    },
    **{f"__i{name}__": METHOD_ALIASES[f"{name}_"] for name in ("add", "sub", "mul", "pow")},
    "__truediv__": operator(div),
    "__itruediv__": METHOD_ALIASES["div_"],
    "__floordiv__": operator(FUNCTION_ALIASES["floor_divide"]),
    "__ifloordiv__": METHOD_ALIASES["floor_divide_"],
    "__mod__": operator(FUNCTION_ALIASES["remainder"]),
    "__imod__": METHOD_ALIASES["remainder_"],
    "__and__": operator(FUNCTION_ALIASES["bitwise_and"]),
    "__or__": operator(FUNCTION_ALIASES["bitwise_or"]),
    "__xor__": operator(FUNCTION_ALIASES["bitwise_xor"]),
    "__iand__": METHOD_ALIASES["bitwise_and_"],
    "__ior__": METHOD_ALIASES["bitwise_or_"],
    "__ixor__": METHOD_ALIASES["bitwise_xor_"],
    "__lshift__": operator(FUNCTION_ALIASES["bitwise_left_shift"]),
    "__rshift__": operator(FUNCTION_ALIASES["bitwise_right_shift"]),
    "__radd__": operator(_swapped(add), swapped=True),
    "__rmul__": operator(_swapped(FUNCTION_ALIASES["mul"]), swapped=True),
    "__rand__": operator(_swapped(FUNCTION_ALIASES["bitwise_and"]), swapped=True),
    "__ror__": operator(_swapped(FUNCTION_ALIASES["bitwise_or"]), swapped=True),
    "__rsub__": operator(sub, swapped=True),
    "__rtruediv__": operator(_reciprocal_times, swapped=True),
    "__rfloordiv__": operator(FUNCTION_ALIASES["floor_divide"], swapped=True),
    "__rmod__": operator(FUNCTION_ALIASES["remainder"], swapped=True),
    "__rpow__": operator(pow, swapped=True),
    "__neg__": FUNCTION_ALIASES["neg"],
    "__pos__": FUNCTION_ALIASES["positive"],
    "__abs__": FUNCTION_ALIASES["abs"],
    "__invert__": FUNCTION_ALIASES["bitwise_not"],
}
