"""Inputs of the conformance table: the same tensors out of either torch module."""

from __future__ import annotations

from typing import Any

FLOATS = ["float64", "float32", "float16", "bfloat16"]
INTS = ["int64", "int32", "int16", "int8", "uint8"]
WIDE_UNSIGNED = ["uint16", "uint32", "uint64"]
FLOAT8 = ["float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "float8_e4m3fnuz", "float8_e5m2fnuz"]
COMPLEX = ["complex64", "complex128"]
COMMON = [*FLOATS, *INTS, "bool", *COMPLEX]
STORED = [*COMMON, *WIDE_UNSIGNED, *FLOAT8]

SPECIAL = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.1,
    -2.5,
    3.5,
    1e-8,
    65519.0,
    65520.0,
    1e30,
    -1e39,
    float("inf"),
    float("-inf"),
    float("nan"),
]
HALVES = [
    0.5,
    1.5,
    2.5,
    -0.5,
    -1.5,
    2.4999,
    1 + 2**-11,
    1 + 2**-12 + 2**-30,
    449.0,
    464.0,
    465.0,
    2**-10,
    3 * 2**-12,
]


def grid(t: Any, dtype: str = "float32") -> Any:
    """3 × 4, the numbers 0 to 11."""
    return t.arange(12).reshape(3, 4).to(getattr(t, dtype))


def cube(t: Any, dtype: str = "float32") -> Any:
    """2 × 3 × 4, the numbers 0 to 23."""
    return t.arange(24).reshape(2, 3, 4).to(getattr(t, dtype))


def mixed(t: Any, dtype: str = "float32") -> Any:
    """Eight numbers with signs and fractions; integers and booleans get what is left of them."""
    return t.tensor([0.3, -1.7, 2.5, 3.14159, -0.01, 7.0, -6.25, 100.7]).to(getattr(t, dtype))


def positive(t: Any, dtype: str = "float32") -> Any:
    return t.tensor([0.3, 1.7, 2.5, 3.14159, 0.01, 7.0, 6.25, 19.7]).to(getattr(t, dtype))


def whole(t: Any, dtype: str = "int64") -> Any:
    """Integers from -4 to 5 without 0."""
    return t.tensor([-4, -3, -2, -1, 1, 2, 3, 5]).to(getattr(t, dtype))
