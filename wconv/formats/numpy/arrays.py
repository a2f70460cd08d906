"""numpy's arrays: their element types, and their values as lazy tensors."""

from __future__ import annotations

import math
import re

from wconv.errors import FormatError
from wconv.formats.sources import Source
from wconv.formats.torch.objects import NotNumbersError, NumpyArray, UnavailableError
from wconv.tensors import dtypes
from wconv.tensors.dtypes import DType
from wconv.tensors.lazy import LazyTensor, checked_shape

CODES: dict[str, str] = {
    "?": "bool",
    "b1": "bool",
    "b": "int8",
    "B": "uint8",
    "h": "int16",
    "H": "uint16",
    "i": "int32",
    "I": "uint32",
    "l": "int64",
    "L": "uint64",
    "q": "int64",
    "Q": "uint64",
    "e": "float16",
    "f": "float32",
    "d": "float64",
    "F": "complex64",
    "D": "complex128",
    **{f"i{size}": f"int{8 * size}" for size in (1, 2, 4, 8)},
    **{f"u{size}": f"uint{8 * size}" for size in (1, 2, 4, 8)},
    **{f"f{size}": f"float{8 * size}" for size in (2, 4, 8)},
    "c8": "complex64",
    "c16": "complex128",
    **{dtype.name: dtype.name for dtype in dtypes.TABLE if dtype.module == "ml_dtypes"},
}
"""numpy's element codes, without the byte order, as names of wconv's table."""


def element_type(code: str) -> DType | None:
    """The dtype of a numpy code with or without byte order ("<f4"); None for strings, dates and objects."""
    name = CODES.get(code.lstrip("<>|="))
    return dtypes.BY_NAME[name] if name else None


WIDE = re.compile(r"[<>|=]?(?:f(?:1[026]|12)|c(?:2[04]|32)|[gG])")
"""Numbers of more than 64 bits, whose meaning depends on the machine."""


def unavailable(code: str) -> UnavailableError:
    """Why an array of a type has no values that could be written."""
    if WIDE.fullmatch(code):
        return UnavailableError(f"it is an array of type {code}, numbers wider than wconv has a dtype for")
    what = f"of type {code:.40}" if code else "of texts, dates or records"
    return NotNumbersError(f"it is an array {what}, not of numbers")


def check(array: NumpyArray, where: str) -> None:
    """Refuses an array whose bytes are not as many as its shape says."""
    dtype = element_type(array.dtype)
    checked_shape(array.shape, f"a numpy array in {where}")
    if dtype is None:
        return
    if not isinstance(array.data, Source):
        raise FormatError(f"{where} is damaged: a numpy array of numbers has a list of them")
    if array.data.size != math.prod(array.shape) * dtype.itemsize:
        raise FormatError(
            f"{where} is damaged: a numpy array of shape {array.shape!r:.80} and type {dtype.name}"
            f" has {array.data.size:,} bytes"
        )


def lazy(array: NumpyArray) -> LazyTensor:
    """The array's values in C order.

    Raises:
        NotNumbersError: its elements are strings, dates or objects.
    """
    dtype = element_type(array.dtype)
    if dtype is None or not isinstance(array.data, Source):
        raise unavailable(array.dtype)
    flat = array.data.tensor(0, dtype, math.prod(array.shape), array.dtype.startswith(">"))
    if array.fortran and len(array.shape) > 1:
        return flat.reshape(array.shape[::-1]).transpose(range(len(array.shape))[::-1])
    return flat.reshape(array.shape)
