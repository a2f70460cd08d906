"""Functions of one or two tensors, element by element: two tables, and the rules that all rows share.

float16 and bfloat16 are computed in float32 and rounded once. The result's dtype follows `promotion`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from wconv.tensors.base import Array
from wconv.torch import dtypes
from wconv.torch.convert import convert
from wconv.torch.dtypes import FLOAT8, dtype
from wconv.torch.promotion import result_type
from wconv.torch.strides import broadcast_steps, empty_as, empty_in, is_dense, memory_order
from wconv.torch.tensor import Tensor

NARROW = (dtypes.float16, dtypes.bfloat16)


@dataclass(frozen=True, slots=True)
class Rule:
    """One function of the tables.

    Attributes:
        compute: on arrays of the dtype that the function computes in.
        result: "same" as the operands' common dtype; "float": integers become the default float first;
            "bool"; "real": complex ones lose their imaginary part.
        refuses: kinds of dtype it is not defined for, as torch has it.
        wide_number: a second operand without dimensions takes part in float32, not rounded to the
            result's float16 or bfloat16 first (torch's mul and div do so, its add does not).
        float8: defined for float8 too.
        in_steps: how float16 and bfloat16 are computed where torch rounds after every step; takes the
            rounding as a third argument.
        tensors_only: Python numbers are refused.
        error: what is raised for a dtype in `refuses`.
    """

    compute: Callable[..., Any]
    result: str = "same"
    refuses: tuple[str, ...] = ()
    wide_number: bool = False
    float8: bool = False
    in_steps: Callable[..., Any] | None = None
    tensors_only: bool = False
    error: type[Exception] = NotImplementedError


def _relu(x: Array) -> Array:
    made = x.copy()
    np.putmask(made, x < 0, 0)
    return made


def _signbit(x: Array) -> Any:
    return np.signbit(x) if x.dtype.kind == "f" else np.less(x, 0)


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _zero_divisor(a: Array, b: Array) -> None:
    if b.dtype.kind in "iub" and a.size and not np.all(b):
        raise RuntimeError("ZeroDivisionError")


def _floor_divide(a: Array, b: Array) -> Any:
    _zero_divisor(a, b)
    return np.floor_divide(a, b)


def _floor_divide_in_steps(a: Array, b: Array, rounded: Callable[[Array], Array]) -> Any:
    """Of float16 and bfloat16 tensors: torch rounds after every step of this one, not once at the end."""
    rest = np.fmod(a, b)
    quotient = rounded(rounded(a - rest) / b)
    quotient = np.where((rest != 0) & ((b < 0) != (rest < 0)), rounded(quotient - 1), quotient)
    down = np.floor(quotient)
    down = np.where(rounded(quotient - down) > 0.5, rounded(down + 1), down)
    down = np.where(quotient == 0, np.copysign(np.float32(0), a / b), down)
    return np.where(b == 0, a / b, down)


def _remainder(a: Array, b: Array) -> Any:
    _zero_divisor(a, b)
    if a.dtype.kind != "f":
        return np.remainder(a, b)
    rest = np.fmod(a, b)  # numpy's remainder gives a 0 the divisor's sign, torch's keeps the dividend's
    return np.where((rest != 0) & ((b < 0) != (rest < 0)), rest + b, rest)


def _fmod(a: Array, b: Array) -> Any:
    _zero_divisor(a, b)
    return np.fmod(a, b)


def _power(a: Array, b: Array) -> Any:
    if b.dtype.kind in "iu" and b.size and b.min() < 0:
        raise RuntimeError("Integers to negative integer powers are not allowed.")
    return np.power(a, b)


INT_ONLY = ("float", "complex")
REAL = ("complex",)

UNARY = {
    "abs": Rule(np.abs, "real", refuses=("bool",), float8=True),
    "neg": Rule(np.negative, refuses=("bool",)),
    "sign": Rule(lambda x: x.copy() if x.dtype.kind == "b" else np.sign(x), refuses=REAL),
    "floor": Rule(np.floor, refuses=("complex", "bool")),
    "ceil": Rule(np.ceil, refuses=("complex", "bool")),
    "trunc": Rule(np.trunc, refuses=("complex", "bool")),
    "relu": Rule(_relu, refuses=("complex", "bool")),
    "sqrt": Rule(np.sqrt, "float"),
    "rsqrt": Rule(lambda x: 1 / np.sqrt(x), "float"),
    "reciprocal": Rule(lambda x: 1 / x, "float"),
    "exp": Rule(np.exp, "float"),
    "expm1": Rule(np.expm1, "float"),
    "log": Rule(np.log, "float"),
    "log2": Rule(np.log2, "float"),
    "log10": Rule(np.log10, "float"),
    "log1p": Rule(np.log1p, "float"),
    "sin": Rule(np.sin, "float"),
    "cos": Rule(np.cos, "float"),
    "tan": Rule(np.tan, "float"),
    "tanh": Rule(np.tanh, "float"),
    "sigmoid": Rule(_sigmoid, "float"),
    "acos": Rule(np.arccos, "float"),
    "acosh": Rule(np.arccosh, "float"),
    "asin": Rule(np.arcsin, "float"),
    "asinh": Rule(np.arcsinh, "float"),
    "atan": Rule(np.arctan, "float"),
    "atanh": Rule(np.arctanh, "float"),
    "cosh": Rule(np.cosh, "float"),
    "sinh": Rule(np.sinh, "float"),
    "exp2": Rule(np.exp2, "float"),
    "signbit": Rule(_signbit, "bool", refuses=REAL),
    "isnan": Rule(np.isnan, "bool", float8=True),
    "isinf": Rule(np.isinf, "bool", float8=True),
    "isfinite": Rule(np.isfinite, "bool", float8=True),
    "logical_not": Rule(np.logical_not, "bool"),
    "bitwise_not": Rule(np.invert, refuses=INT_ONLY, error=TypeError),
}

BINARY = {
    "mul": Rule(np.multiply, wide_number=True),
    "div": Rule(np.true_divide, "float", wide_number=True),
    "floor_divide": Rule(
        _floor_divide, refuses=("complex", "bool"), wide_number=True, in_steps=_floor_divide_in_steps
    ),
    "remainder": Rule(_remainder, refuses=("complex", "bool")),
    "fmod": Rule(_fmod, refuses=("complex", "bool")),
    "power": Rule(_power, refuses=("bool",)),
    "atan2": Rule(np.arctan2, "float", refuses=REAL, tensors_only=True),
    "copysign": Rule(np.copysign, "float", refuses=REAL),
    "hypot": Rule(np.hypot, refuses=("bool", "int", "complex"), tensors_only=True),
    "logaddexp": Rule(np.logaddexp, refuses=("bool", "int", "complex"), tensors_only=True),
    "nextafter": Rule(np.nextafter, refuses=("bool", "int", "complex"), tensors_only=True),
    "maximum": Rule(np.maximum, refuses=REAL, tensors_only=True),
    "minimum": Rule(np.minimum, refuses=REAL, tensors_only=True),
    "eq": Rule(np.equal, "bool", float8=True),
    "ne": Rule(np.not_equal, "bool", float8=True),
    "lt": Rule(np.less, "bool", refuses=REAL),
    "le": Rule(np.less_equal, "bool", refuses=REAL),
    "gt": Rule(np.greater, "bool", refuses=REAL),
    "ge": Rule(np.greater_equal, "bool", refuses=REAL),
    "logical_and": Rule(np.logical_and, "bool", tensors_only=True),
    "logical_or": Rule(np.logical_or, "bool", tensors_only=True),
    "logical_xor": Rule(np.logical_xor, "bool", tensors_only=True),
    "bitwise_and": Rule(np.bitwise_and, refuses=INT_ONLY),
    "bitwise_or": Rule(np.bitwise_or, refuses=INT_ONLY),
    "bitwise_xor": Rule(np.bitwise_xor, refuses=INT_ONLY),
    "bitwise_left_shift": Rule(np.left_shift, refuses=(*INT_ONLY, "bool")),
    "bitwise_right_shift": Rule(np.right_shift, refuses=(*INT_ONLY, "bool")),
}
"""Everything of two operands but add, sub and pow, which `arithmetic` builds with their peculiarities."""


def apply(name: str, rule: Rule, *operands: Any) -> Tensor:
    """One row of the tables on tensors and Python numbers.

    Raises:
        TypeError: an operand is neither.
        NotImplementedError: torch does not define the function for the dtype.
        RuntimeError: the shapes do not fit together.
    """
    given = [_operand(name, each) for each in operands]
    if rule.tensors_only and not all(isinstance(each, Tensor) for each in given):
        raise TypeError(f"{name}(): every argument must be Tensor")
    common = result_type(*given)
    result = common
    if name not in ("eq", "ne"):
        dtypes.require_values(common)
    if rule.result == "float" and not (common.is_floating_point or common.is_complex):
        result = dtypes.get_default_dtype()
    if common.row.kind in rule.refuses or (common.name in FLOAT8 and not rule.float8):
        raise rule.error(f'"{name}" not implemented for {common}')
    computed = dtypes.float32 if result in NARROW or result.name in FLOAT8 else result
    arrays = []
    for at, each in enumerate(given):
        exact = at == 1 and rule.wide_number and not getattr(each, "shape", ())
        arrays.append(_prepared(each, result, computed, exact))
    compute, promoted = rule.compute, result
    if rule.in_steps and result in NARROW and isinstance(given[1], Tensor) and given[1].shape:
        compute = functools.partial(rule.in_steps, rounded=lambda x: convert(convert(x, result), computed))
    if rule.result == "bool":
        result = dtypes.bool_
    like = [_as_promoted(each, promoted) for each in given]
    return finish(name, compute, arrays, result.to_real() if rule.result == "real" else result, like)


def finish(
    name: str, compute: Callable[..., Any], arrays: list[Array], result: dtype, like: list[Array]
) -> Tensor:
    """Computes on prepared arrays and rounds to the result's dtype; `like`: the operands' layouts."""
    try:
        with np.errstate(all="ignore"):
            made = np.asarray(compute(*arrays))
    except ValueError as error:
        if "broadcast" not in str(error):
            raise
        shapes = " and ".join(str(list(array.shape)) for array in arrays)
        raise RuntimeError(f"{name}: the sizes of the tensors do not match: {shapes}") from None
    except TypeError:
        raise RuntimeError(f'"{name}" not implemented for {result}') from None
    return Tensor._of(_laid_out(made if made.dtype == result.numpy else convert(made, result), like))


def _as_promoted(operand: Any, promoted: dtype) -> Array:
    """Something laid out as the operand is once torch has turned it into the common dtype."""
    if not isinstance(operand, Tensor):
        return np.zeros(())
    array = operand._array
    return array if array.dtype == promoted.numpy else empty_as(array, promoted.numpy)


def _laid_out(made: Array, arrays: list[Array]) -> Array:
    """The result with its axes in memory as torch orders them; numpy differs where the operands do."""
    if not made.size or not made.ndim:
        return made
    wanted = _empty_for(made, arrays)
    if wanted.strides == made.strides:
        return made
    wanted[...] = made
    return wanted


def _empty_for(made: Array, arrays: list[Array]) -> Array:
    first = arrays[0]
    if all(array.shape == made.shape for array in arrays):
        if all(array.flags.c_contiguous for array in arrays):
            return np.empty(made.shape, made.dtype)
        steps = {tuple(step // array.itemsize for step in array.strides) for array in arrays}
        if len(steps) == 1 and is_dense(first):
            return empty_as(first, made.dtype)
    order = memory_order(made.shape, *(broadcast_steps(array, made.shape) for array in arrays))
    return empty_in(order, made.shape, made.dtype)


def _operand(name: str, given: Any) -> Any:
    if isinstance(given, Tensor) or type(given) in (int, float, bool, complex):
        return given
    if isinstance(given, np.generic):
        return given.item()
    if isinstance(given, (int, float, complex)):  # subclasses: IntEnum and the like
        return given
    raise TypeError(f"{name}(): argument must be Tensor or Number, not {type(given).__name__}")


def _prepared(operand: Any, result: dtype, computed: dtype, exact: bool) -> Array:
    """The operand as an array of the dtype to compute in; narrow results round their operands first."""
    array = operand._array if isinstance(operand, Tensor) else _number(operand, computed)
    if array.dtype == computed.numpy:
        return array if exact or result is computed else _rounded(operand, array, result, computed)
    if not exact and result is not computed and array.dtype != result.numpy:
        array = convert(array, result)
    return convert(array, computed)


def _rounded(operand: Any, array: Array, result: dtype, computed: dtype) -> Array:
    return convert(convert(array, result), computed)


def _number(value: complex, computed: dtype) -> Array:
    """A Python number as a 0-d array; integers that a dtype cannot hold wrap around, as in torch."""
    if isinstance(value, int) and not isinstance(value, bool) and computed.row.kind == "int":
        bits = computed.itemsize * 8
        wrapped = value & ((1 << bits) - 1)
        if computed.is_signed and wrapped >> (bits - 1):
            wrapped -= 1 << bits
        return np.array(wrapped, computed.numpy)
    return convert(np.asarray(value), computed)


def function(name: str, rule: Rule) -> Callable[..., Tensor]:
    """The table row as a function that can be attached to `Tensor` and offered by the module."""
    if name in UNARY:

        def one(input: Tensor) -> Tensor:
            return apply(name, rule, input)

        made: Callable[..., Tensor] = one
    else:

        def two(input: Any, other: Any) -> Tensor:
            return apply(name, rule, input, other)

        made = two
    made.__name__ = made.__qualname__ = name
    made.__doc__ = f"torch.{name}, element by element."
    return made
