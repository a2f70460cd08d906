"""Which dtype an operation on mixed operands has: torch's rules, which differ from numpy's.

Categories come first (bool < int < float < complex), and within one category a tensor with dimensions
outweighs a 0-d tensor, which outweighs a Python number: `half_tensor * 2.5` stays half.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from wconv.torch import dtypes
from wconv.torch.dtypes import FLOAT8, dtype
from wconv.torch.tensor import Tensor

KINDS = ("bool", "int", "float", "complex")

APART = (*FLOAT8, "float4_e2m1fn_x2", "uint16", "uint32", "uint64")
"""Types that torch promotes with nothing but themselves (the unsigned ones also with floats)."""


def promote_types(type1: dtype, type2: dtype) -> dtype:
    """The smallest dtype that torch lets stand for both.

    Raises:
        RuntimeError: torch does not promote between them (float8, uint16 and wider unsigned).
    """
    if type1 is type2:
        return type1
    low, high = sorted((type1, type2), key=lambda t: KINDS.index(t.row.kind))
    kinds = (low.row.kind, high.row.kind)
    if low.name in APART or high.name in APART:
        if kinds == ("int", "float") and high.name not in APART:
            return high
        raise RuntimeError(f"Promotion between {type1} and {type2} is not supported")
    if kinds == ("float", "complex"):
        return dtypes.complex128 if dtypes.float64 in (low, high) else high
    if kinds[0] != kinds[1]:
        return high
    if kinds[0] == "int" and low.is_signed != high.is_signed:
        signed = low if low.is_signed else high
        return dtypes.int16 if signed is dtypes.int8 else signed
    if low.itemsize == high.itemsize:  # float16 and bfloat16
        return dtypes.float32
    return max(low, high, key=lambda t: t.itemsize)


def of_number(value: Any) -> dtype:
    """The dtype that a Python (or numpy) number stands for."""
    if isinstance(value, (bool, np.bool_)):
        return dtypes.bool_
    if isinstance(value, (int, np.integer)):
        return dtypes.int64
    if isinstance(value, (float, np.floating)):
        return dtypes.get_default_dtype()
    return dtypes.complex128 if dtypes.get_default_dtype() is dtypes.float64 else dtypes.complex64


def result_type(*operands: Tensor | complex) -> dtype:
    """The dtype of an operation on `operands`, tensors and Python numbers."""
    groups: list[dtype | None] = [None, None, None]
    for operand in operands:
        if isinstance(operand, Tensor):
            group, each = (0 if operand.shape else 1), operand.dtype
        else:
            group, each = 2, of_number(operand)
        known = groups[group]
        groups[group] = each if known is None else promote_types(known, each)
    with_shape, zero_dim, number = groups
    found = _outweigh(with_shape, _outweigh(zero_dim, number))
    if found is None:
        raise ValueError("result_type needs at least one operand")
    return found


def _outweigh(higher: dtype | None, lower: dtype | None) -> dtype | None:
    """`higher`, unless `lower` is of a greater category."""
    if higher is None or lower is None:
        return higher or lower
    if KINDS.index(lower.row.kind) <= KINDS.index(higher.row.kind):
        return higher
    if lower.is_complex and higher is dtypes.float16:
        raise NotImplementedError(
            "torch.float16 and a complex number make torch.complex32, which wconv.torch has not"
        )
    if lower.is_complex and higher.row.kind == "int":
        return lower
    if lower.is_complex and higher.is_floating_point and higher.name not in APART:
        return dtypes.complex128 if higher is dtypes.float64 else dtypes.complex64
    return promote_types(higher, lower)


def can_cast(from_: dtype, to: dtype) -> bool:
    """Whether torch lets a result of dtype `from_` be written into a tensor of dtype `to`."""
    return KINDS.index(from_.row.kind) <= KINDS.index(to.row.kind)
