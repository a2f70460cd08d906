"""How values are spread."""

from __future__ import annotations

import numpy as np
import pytest

from wconv.examine.histogram import BARS, HIGHEST, Histogram


def bars(values: list[float] | np.ndarray) -> list[int]:
    array = np.asarray(values, np.float64)
    return Histogram.of(array).bars(float(array.min()), float(array.max()))


def test_even_values_have_even_bars() -> None:
    heights = bars(np.linspace(-3, 5, 100_000))
    assert len(heights) == BARS
    assert min(heights) >= HIGHEST - 3


def test_normal_values_have_a_hill() -> None:
    heights = bars(np.random.default_rng(0).standard_normal(100_000))
    assert max(heights[10:22]) == HIGHEST
    assert heights[0] <= 2
    assert heights[-1] <= 2


def test_extremes_are_in_the_first_and_the_last_bar() -> None:
    heights = bars([0, 0, 0, -1])
    assert heights[0] > 0
    assert heights[-1] == HIGHEST
    assert sum(height > 0 for height in heights) == 2


def test_parts_add_up() -> None:
    values = np.random.default_rng(1).standard_normal(10_000)
    whole = Histogram.of(values)
    parts = Histogram.of(values[:300]).plus(Histogram.of(values[300:]))
    assert np.array_equal(whole.bins, parts.bins)
    assert np.array_equal(whole.counts, parts.counts)
    assert whole.counts.sum() == 10_000


@pytest.mark.parametrize("values", [[1.0], [2.0, 2.0]])
def test_equal_values_are_no_histogram(values: list[float]) -> None:
    assert bars(values) == []


def test_values_beyond_float32_do_not_count() -> None:
    assert Histogram.of(np.array([1e300, -1e300, 1.0])).counts.sum() == 1
