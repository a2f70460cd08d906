"""Casts by a compiled library, numkong, where it is installed (`pip install "wconv[fast]"`).

It is given no value that its versions disagree with us about: infinities, NaN, and what overflows are found
first, and a block with one of them goes the way it goes without the library. A pair of dtypes is used once
it gave our own bits here, with this version on this processor, for every pattern of 16 bits and for the
telling ones of 32. `tests/oracle/test_compiled_casts.py` compares all 2^32.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wconv.tensors import dtypes

Array = NDArray[Any]
Compiled = Callable[[Array, Array], object]
"""Writes all of one array into another, of one pair of dtypes."""

FEWEST = 1 << 17
"""Elements below which its import and first trial would take longer than they save."""

OFF = "WCONV_NO_NUMKONG"
"""A variable of the environment that keeps the library from being used."""

LIMITS: dict[tuple[str, str], int] = {
    ("bfloat16", "float16"): 0x4780,  # 65536
    ("float16", "bfloat16"): 0x7C00,
    ("float16", "float32"): 0x7C00,
    ("float32", "bfloat16"): 0x7F7F8000,  # half a step beyond the largest value
    ("float32", "float16"): 0x477FF000,  # 65520
    ("float32", "float8_e4m3fn"): 0x43E80001,  # just beyond 464
    ("float8_e4m3fn", "bfloat16"): 0x7F,
    ("float8_e4m3fn", "float16"): 0x7F,
    ("float8_e4m3fn", "float32"): 0x7F,
    ("float8_e5m2", "bfloat16"): 0x7C,
    ("float8_e5m2", "float16"): 0x7C,
    ("float8_e5m2", "float32"): 0x7C,
}
"""By source and target: the pattern of the least magnitude that the library is not given."""

_FIRST_OF_EXPONENT = {2: 0x4000400040004000, 4: 0x4000000040000000}
"""By bytes of a dtype: the bit that no magnitude below 2 has set, of all values in 64 bits."""

_NAMES = {"float8_e4m3fn": "float8_e4m3"}
_LOW_HALVES = (0, 1, 0xFFF, 0x1000, 0x1001, 0x2FFF, 0x3000, 0x3001, 0x7FFF, 0x8000, 0x8001, 0xFFFF)
"""Of float32: next to where a result of 16 bits rounds."""


def holds(source: Array, limit: int) -> bool:
    """Whether each magnitude is below a limit, given as the pattern of a positive value of at least 2."""
    width = source.itemsize
    # of weights none is as large as 2: the first bit of no exponent is set, which one look tells
    if width in _FIRST_OF_EXPONENT and source.nbytes % 8 == 0:
        seen = int(np.bitwise_or.reduce(source.view(np.uint64)))
        if not seen & _FIRST_OF_EXPONENT[width]:
            return True
    if source.view(f"i{width}").max(initial=0) >= limit:
        return False
    return bool(source.view(f"u{width}").max(initial=0) < limit + (1 << (8 * width - 1)))


def trusted(source: str, target: str, own: Compiled) -> Compiled | None:
    """The library's cast, or None where it has none that equals `own` for every value of `trial`.

    Args:
        source, target: names of dtypes.
    """
    cast = library_cast(source, target) if (source, target) in LIMITS else None
    if cast is None:
        return None
    dtype = dtypes.by_name(target).numpy
    for values in trial(source, LIMITS[source, target]):
        ours, theirs = np.empty(values.size, dtype), np.zeros(values.size, dtype)
        try:
            cast(values, theirs)
        except Exception:  # of whatever kind: all goes without the library
            return None
        own(values, ours)
        if ours.tobytes() != theirs.tobytes():
            return None
    return cast


def library_cast(source: str, target: str) -> Compiled | None:
    """The library's cast, whatever it does; None where the library is not to be had."""
    if os.environ.get(OFF):
        return None
    try:
        from numkong import astype, from_pointer
    except (ImportError, OSError):
        return None
    old, new = _NAMES.get(source, source), _NAMES.get(target, target)

    def cast(values: Array, out: Array) -> None:
        # by address: arrays of ml_dtypes lend no buffer
        read = from_pointer(values.ctypes.data, (values.size,), old)
        astype(read, new, out=from_pointer(out.ctypes.data, (out.size,), new))

    return cast


def trial(source: str, limit: int) -> Iterator[Array]:
    """Every pattern below a limit, with both signs; of float32 each upper half with telling lower ones."""
    dtype = dtypes.by_name(source)
    every = np.arange(1 << min(dtype.bits, 16), dtype=f"u{dtype.itemsize}")
    for patterns in (every,) if dtype.bits <= 16 else ((every << 16) | low for low in _LOW_HALVES):
        magnitudes = patterns & ((1 << (dtype.bits - 1)) - 1)
        yield patterns[magnitudes < limit].view(dtype.numpy)
