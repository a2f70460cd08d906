"""numkong's casts equal wconv's own on every value that it is given: all patterns of 8, 16 and 32 bits."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from tests.oracles import oracle
from wconv.tensors import casts, compiled, dtypes

pytestmark = pytest.mark.oracle

Array = np.ndarray[Any, Any]
STEP = 1 << 20
ALL_ZERO = 0x33000000
"""2^-25 in float32: nothing up to it is more than zero in float16, for which `astype` takes minutes."""

REFUSED = {
    ("float16", "bfloat16"): 0x7DFC,  # NaN, became -0
    ("float8_e5m2", "bfloat16"): 0x7C,  # infinite, became 65536
    ("float32", "bfloat16"): 0x7F800001,  # NaN, became infinite
}
"""Of version 7.8.6: the least pattern that it gets wrong. A newer one may do better."""


def all_below(source: str, limit: int) -> Iterator[tuple[int, int, int]]:
    """Sign and range of every pattern whose magnitude is below a limit."""
    sign = 1 << (dtypes.by_name(source).bits - 1)
    for base in (0, sign):
        for start in range(0, limit, STEP):
            yield base, start, min(start + STEP, limit)


def patterns(source: str, base: int, start: int, stop: int) -> Array:
    dtype = dtypes.by_name(source)
    return (np.arange(start, stop, dtype=np.int64) + base).astype(f"u{dtype.itemsize}").view(dtype.numpy)


@pytest.mark.parametrize(("source", "target"), list(compiled.LIMITS))
def test_every_value_it_is_given_is_cast_as_by_us(source: str, target: str) -> None:
    oracle("numkong")
    cast = compiled.library_cast(source, target)
    assert cast is not None
    dtype = dtypes.by_name(target).numpy

    def differ(part: tuple[int, int, int]) -> int:
        values = patterns(source, *part)
        ours, theirs = np.empty(values.size, dtype), np.zeros(values.size, dtype)
        cast(values, theirs)
        if target == "float16" and source == "float32" and part[2] <= ALL_ZERO:
            ours[:] = -0.0 if part[0] else 0.0
        else:
            with np.errstate(all="ignore"):
                assert not casts.own_step(values.dtype, dtype)(values, ours, casts.scratch()).count
        return int(np.count_nonzero(ours.view(f"u{dtype.itemsize}") != theirs.view(f"u{dtype.itemsize}")))

    with ThreadPoolExecutor(2) as threads:
        assert sum(threads.map(differ, all_below(source, compiled.LIMITS[source, target]))) == 0


@pytest.mark.parametrize(("source", "target"), list(compiled.LIMITS))
def test_it_is_used_here(source: str, target: str) -> None:
    oracle("numkong")
    old, new = dtypes.by_name(source).numpy, dtypes.by_name(target).numpy
    assert casts._trusted((source, target), casts.own_step(old, new)) is not None


@pytest.mark.parametrize(("source", "target"), list(REFUSED))
def test_what_it_gets_wrong_is_right_through_us(source: str, target: str) -> None:
    oracle("numkong")
    dtype = dtypes.by_name(source)
    values = np.ones(compiled.FEWEST, np.float32).astype(dtype.numpy)
    values.view(f"u{dtype.itemsize}")[7] = REFUSED[source, target]
    out = np.empty(values.size, dtypes.by_name(target).numpy)
    casts.cast(values, out)
    with np.errstate(invalid="ignore"):
        bad, good = values[7].astype(np.float64), out[7].astype(np.float64)
    assert np.isnan(good) if np.isnan(bad) else good == bad
