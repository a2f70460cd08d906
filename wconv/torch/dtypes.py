"""torch's dtype objects, `finfo` and `iinfo`: rows of `wconv.tensors.dtypes` under torch's own names."""

from __future__ import annotations

from typing import Any

import numpy as np

from wconv.tensors import dtypes as rows

FLOAT8 = ("float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "float8_e4m3fnuz", "float8_e5m2fnuz")

ALIASES = {
    "double": "float64",
    "float": "float32",
    "half": "float16",
    "long": "int64",
    "int": "int32",
    "short": "int16",
    "cfloat": "complex64",
    "cdouble": "complex128",
}
"""torch's second names: `torch.half` is `torch.float16`."""

UNKNOWN_TO_TORCH = ("float6_e2m3fn", "float6_e3m2fn")


class dtype:  # noqa: N801 - torch's name
    """An element type, one object per type: compare with `is` or `==`. Prints as torch's does."""

    __module__ = "torch"
    __slots__ = ("name", "numpy", "row")

    def __init__(self, row: rows.DType) -> None:
        self.row = row
        self.name = row.name
        self.numpy: np.dtype[Any] = row.numpy

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return self.row.itemsize

    @property
    def is_floating_point(self) -> bool:
        return self.row.kind == "float"

    @property
    def is_complex(self) -> bool:
        return self.row.kind == "complex"

    @property
    def is_signed(self) -> bool:
        return self.name not in ("bool", "uint8", "uint16", "uint32", "uint64", "float8_e8m0fnu")

    def to_real(self) -> dtype:
        return {complex64: float32, complex128: float64}.get(self, self)

    def to_complex(self) -> dtype:
        """Raises: RuntimeError: the type has no complex companion (float16's is not offered)."""
        if self.is_complex:
            return self
        if self not in (float32, float64):
            raise RuntimeError(f"{self} has no complex type in wconv.torch")
        return complex64 if self is float32 else complex128

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return by_name, (self.name,)


BY_NAME = {row.name: dtype(row) for row in rows.TABLE if row.name not in UNKNOWN_TO_TORCH}
BY_NUMPY = {each.numpy: each for each in BY_NAME.values()}

float64, float32, float16, bfloat16 = (BY_NAME[f] for f in ("float64", "float32", "float16", "bfloat16"))
int64, int32, int16, int8, uint8 = (BY_NAME[i] for i in ("int64", "int32", "int16", "int8", "uint8"))
bool_, complex64, complex128 = (BY_NAME[c] for c in ("bool", "complex64", "complex128"))
float4_x2 = BY_NAME["float4_e2m1fn_x2"]
"""Two values to an element: such tensors are kept, moved and saved, and never computed on, as in torch."""


def require_values(*given: dtype) -> None:
    """Raises: NotImplementedError: one of the dtypes has elements that are no single values."""
    if float4_x2 in given:
        raise NotImplementedError(
            f"nothing is computed with {float4_x2}, two values to a byte: .view(torch.uint8) gives the bytes"
        )


def by_name(name: str) -> dtype:
    """The dtype object that torch calls `name`."""
    return BY_NAME[name]


def of_numpy(numpy_dtype: np.dtype[Any]) -> dtype:
    """torch's dtype for numpy's, of native byte order.

    Raises:
        TypeError: torch has none (strings, objects, foreign byte order), as `torch.from_numpy` says it.
    """
    try:
        return BY_NUMPY[numpy_dtype]
    except KeyError:
        raise TypeError(
            f"can't convert np.ndarray of type {numpy_dtype}. The only supported types are:"
            f" {', '.join(BY_NAME)}."
        ) from None


_default = float32


def get_default_dtype() -> dtype:
    """The dtype that Python floats get: float32 unless `set_default_dtype` was called."""
    return _default


def set_default_dtype(d: dtype, /) -> None:
    """Sets the dtype of Python floats.

    Raises:
        TypeError: `d` is no floating dtype.
    """
    global _default
    if not isinstance(d, dtype) or not d.is_floating_point:
        raise TypeError("only floating-point types are supported as the default type")
    _default = d


class finfo:  # noqa: N801 - torch's name
    """Numerical limits of a floating dtype: bits, eps, max, min, tiny, smallest_normal, resolution."""

    __module__ = "torch"

    def __init__(self, type: dtype | None = None) -> None:
        import ml_dtypes

        of = _default if type is None else type
        if not isinstance(of, dtype) or not (of.is_floating_point or of.is_complex):
            raise TypeError(
                f"torch.finfo() requires a floating point input type. Use torch.iinfo to handle '{of}'"
            )
        limits = ml_dtypes.finfo(of.to_real().numpy)  # type: ignore[no-untyped-call]
        self.dtype = of.to_real().name
        self.bits = of.to_real().itemsize * 8
        for name in ("eps", "max", "min", "tiny", "smallest_normal", "resolution"):
            setattr(self, name, float(getattr(limits, name)))

    def __repr__(self) -> str:
        names = ("resolution", "min", "max", "eps", "smallest_normal", "tiny")
        return f"finfo({', '.join(f'{n}={getattr(self, n):g}' for n in names)}, dtype={self.dtype})"


class iinfo:  # noqa: N801 - torch's name
    """Numerical limits of an integer dtype: bits, max, min."""

    __module__ = "torch"

    def __init__(self, type: dtype) -> None:
        if not isinstance(type, dtype) or type.row.kind != "int":
            raise TypeError(
                f"torch.iinfo() requires an integer input type. Use torch.finfo to handle '{type}'"
            )
        limits = np.iinfo(type.numpy)
        self.dtype, self.bits, self.min, self.max = type.name, limits.bits, int(limits.min), int(limits.max)

    def __repr__(self) -> str:
        return f"iinfo(min={self.min:g}, max={self.max:g}, dtype={self.dtype})"
