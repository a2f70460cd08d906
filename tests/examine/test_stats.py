"""Statistics of tensors' values."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from wconv.examine.stats import Stats, stats
from wconv.tensors import parallel
from wconv.tensors.lazy import from_array


def of(array: object) -> Stats:
    return stats({"": from_array(np.asarray(array))}, jobs=2)[""]


def test_the_values_are_those_of_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "RANGE", 1000)
    values = np.random.default_rng(0).standard_normal((100, 31), dtype=np.float32)
    found = of(values)
    assert (found.count, found.finite) == (3100, 3100)
    assert (found.least, found.largest) == (values.min(), values.max())
    assert found.mean == pytest.approx(values.mean(dtype=np.float64))
    assert found.deviation == pytest.approx(values.std(dtype=np.float64))


def test_what_is_not_finite_is_counted_apart() -> None:
    found = of(np.float32([0, -0.0, 1, math.nan, math.inf, -math.inf, 65519, -65520]))
    assert (found.zeros, found.nan, found.infinite, found.beyond_float16) == (2, 1, 2, 1)
    assert (found.least, found.largest, found.finite) == (-65520, 65519, 5)
    assert "1 NaN, 2 infinite, 1 beyond float16" in found.text()


@pytest.mark.parametrize("dtype", [np.int8, np.uint64, np.bool_, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
def test_every_dtype_has_statistics(dtype: type) -> None:
    found = of(np.array([0, 1, 1], dtype))
    assert (found.least, found.largest, found.zeros) == (0, 1, 1)


def test_complex_values_count_twice() -> None:
    assert of(np.complex64([1 + 2j])).count == 2


@pytest.mark.parametrize("values", [np.zeros(0, np.float32), np.float32([math.nan])])
def test_without_finite_values_nothing_is_claimed(values: object) -> None:
    found = of(values)
    assert math.isnan(found.mean)
    assert found.to_dict()["least"] is None
