"""The one table of dtypes: torch's name ↔ safetensors code ↔ numpy ↔ torch storage class ↔ MLX name ↔ size.

Importing this module costs nothing: numpy and ml_dtypes are imported when a `DType` is asked for its
`numpy` equivalent.
"""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from wconv.errors import WconvError

if TYPE_CHECKING:
    import numpy as np

Kind = Literal["float", "int", "bool", "complex"]

DTypeLike = Any
"""What names a dtype: a row of the table, "float16", "fp16", `np.float16`, `mx.float16`, `torch.float16`."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class DType:
    """One element type. Instances are the rows of the table below; compare them with `is` or `==`.

    A dtype equals its name (`tensor.dtype == "float16"`), and `np.dtype(tensor.dtype)` is numpy's equivalent.

    Attributes:
        name: torch's name without the `torch.` prefix ("bfloat16").
        code: the safetensors code ("BF16").
        bits: bits per element on disk; 4 and 6 for the packed types.
        kind: "float", "int" (signed or not), "bool" or "complex".
        module: where numpy's equivalent lives, "numpy" or "ml_dtypes".
        numpy_name: its name there. Packed types have one byte per element in memory.
        storage: torch's typed storage class without the `Storage` suffix ("Half"), or None.
        mlx: mlx.core's name, or None when `mx.load` refuses the type or reads it as something else.
        itemsize: bytes per element in memory: packed types are unpacked to one byte each.
    """

    name: str
    code: str
    bits: int
    kind: Kind
    module: str
    numpy_name: str
    storage: str | None
    mlx: str | None
    itemsize: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "itemsize", max(self.bits // 8, 1))

    @property
    def numpy(self) -> np.dtype[Any]:
        """numpy's equivalent (ml_dtypes' for bfloat16 and the types of 8 bits and fewer)."""
        return _numpy(self.name)

    @property
    def dtype(self) -> np.dtype[Any]:
        """numpy's equivalent under the name by which numpy asks for it."""
        return _numpy(self.name)

    @property
    def is_floating(self) -> bool:
        return self.kind == "float"

    def nbytes(self, count: int) -> int:
        """Bytes that `count` elements take on disk."""
        return (count * self.bits + 7) // 8

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            return self.name == other
        return self is other if isinstance(other, DType) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.name)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<DType {self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return by_name, (self.name,)


TABLE = (
    DType("float64", "F64", 64, "float", "numpy", "float64", "Double", None),
    DType("float32", "F32", 32, "float", "numpy", "float32", "Float", "float32"),
    DType("float16", "F16", 16, "float", "numpy", "float16", "Half", "float16"),
    DType("bfloat16", "BF16", 16, "float", "ml_dtypes", "bfloat16", "BFloat16", "bfloat16"),
    DType("float8_e4m3fn", "F8_E4M3", 8, "float", "ml_dtypes", "float8_e4m3fn", "Float8_e4m3fn", None),
    DType("float8_e5m2", "F8_E5M2", 8, "float", "ml_dtypes", "float8_e5m2", "Float8_e5m2", None),
    DType("float8_e8m0fnu", "F8_E8M0", 8, "float", "ml_dtypes", "float8_e8m0fnu", "Float8_e8m0fnu", None),
    DType("float8_e4m3fnuz", "F8_E4M3FNUZ", 8, "float", "ml_dtypes", "float8_e4m3fnuz", None, None),
    DType("float8_e5m2fnuz", "F8_E5M2FNUZ", 8, "float", "ml_dtypes", "float8_e5m2fnuz", None, None),
    DType("float6_e2m3fn", "F6_E2M3", 6, "float", "ml_dtypes", "float6_e2m3fn", None, None),
    DType("float6_e3m2fn", "F6_E3M2", 6, "float", "ml_dtypes", "float6_e3m2fn", None, None),
    DType("float4_e2m1fn_x2", "F4", 4, "float", "ml_dtypes", "float4_e2m1fn", None, None),
    DType("int64", "I64", 64, "int", "numpy", "int64", "Long", "int64"),
    DType("int32", "I32", 32, "int", "numpy", "int32", "Int", "int32"),
    DType("int16", "I16", 16, "int", "numpy", "int16", "Short", "int16"),
    DType("int8", "I8", 8, "int", "numpy", "int8", "Char", "int8"),
    DType("uint64", "U64", 64, "int", "numpy", "uint64", None, "uint64"),
    DType("uint32", "U32", 32, "int", "numpy", "uint32", None, "uint32"),
    DType("uint16", "U16", 16, "int", "numpy", "uint16", None, "uint16"),
    DType("uint8", "U8", 8, "int", "numpy", "uint8", "Byte", "uint8"),
    DType("bool", "BOOL", 8, "bool", "numpy", "bool", "Bool", "bool_"),
    DType("complex64", "C64", 64, "complex", "numpy", "complex64", "ComplexFloat", "complex64"),
    DType("complex128", "C128", 128, "complex", "numpy", "complex128", "ComplexDouble", None),
)

BY_NAME = {dtype.name: dtype for dtype in TABLE}
BY_CODE = {dtype.code: dtype for dtype in TABLE}
ALIASES = {
    "half": "float16",
    "fp16": "float16",
    "f16": "float16",
    "bf16": "bfloat16",
    "float": "float32",
    "fp32": "float32",
    "f32": "float32",
    "double": "float64",
    "fp64": "float64",
    "f64": "float64",
    "bool_": "bool",
    "float4_e2m1fn": "float4_e2m1fn_x2",
}
_PREFIXES = ("torch.", "mlx.core.", "numpy.", "np.", "mx.", "ml_dtypes.")


@functools.cache
def _numpy(name: str) -> np.dtype[Any]:
    import numpy as np

    dtype = BY_NAME[name]
    equivalent: np.dtype[Any] = np.dtype(getattr(importlib.import_module(dtype.module), dtype.numpy_name))
    return equivalent


@functools.cache
def _by_numpy() -> dict[np.dtype[Any], DType]:
    return {dtype.numpy: dtype for dtype in TABLE}


def by_name(name: str) -> DType:
    """The dtype that torch, MLX or a config calls `name` ("float16", "torch.float16", "bf16").

    Raises:
        WconvError: no dtype has that name.
    """
    if name in BY_NAME:
        return BY_NAME[name]
    plain = next((name[len(prefix) :] for prefix in _PREFIXES if name.startswith(prefix)), name)
    try:
        return BY_NAME[ALIASES.get(plain, plain)]
    except KeyError:
        raise WconvError(f"{name[:60]!r} is not a dtype such as float16, bfloat16, float32 or int8") from None


def of(value: DTypeLike) -> DType:
    """The dtype that a value of any library stands for, told without importing that library.

    Names, numpy's dtypes and scalar types, ml_dtypes' and jax's types, and the dtypes of MLX and torch, which
    print as their names.

    Raises:
        WconvError: it stands for none, or for another one in each library, as Python's `float` does.
    """
    if isinstance(value, DType):
        return value
    if value is float or value is int or value is complex:
        raise WconvError(f"{value.__name__} is of another size in each library: name it, as in 'float32'")
    name = value.__name__ if isinstance(value, type) else getattr(value, "name", None)
    return by_name(name if isinstance(name, str) else value if isinstance(value, str) else f"{value!s:.60}")


def from_numpy(dtype: np.dtype[Any]) -> DType:
    """The row for a numpy dtype, of either byte order.

    Raises:
        WconvError: weights cannot have that dtype (strings, objects, dates).
    """
    try:
        return _by_numpy()[dtype.newbyteorder("=")]
    except KeyError:
        raise WconvError(f"numpy dtype {dtype} cannot be stored as a tensor") from None
