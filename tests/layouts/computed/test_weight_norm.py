"""Lengths and directions become the weight that torch computes, over any range; others are refused."""

from __future__ import annotations

import numpy as np
import pytest

from wconv.errors import ComputedOverflowError, LayoutError
from wconv.layouts.computed.weight_norm import weight_norm
from wconv.tensors.lazy import from_array

DIRECTION = np.random.default_rng(0).standard_normal((5, 3, 2)).astype(np.float32)
LENGTH = np.arange(1, 6, dtype=np.float32).reshape(5, 1, 1)


def test_each_row_gets_its_length() -> None:
    folded = weight_norm(from_array(DIRECTION), from_array(LENGTH))
    assert (folded.dtype, folded.shape) == ("float32", (5, 3, 2))
    whole = folded.numpy()
    np.testing.assert_allclose(np.sqrt((whole**2).sum((1, 2))), LENGTH.ravel(), rtol=1e-6)
    np.testing.assert_allclose(
        whole * np.sqrt((DIRECTION**2).sum((1, 2), keepdims=True)), DIRECTION * LENGTH, rtol=1e-5
    )
    flat = whole.ravel()
    for start in range(0, 30, 6):
        for stop in range(start, 31, 6):
            assert folded.read_range(start, stop).tobytes() == flat[start:stop].tobytes()


def test_a_row_of_zeros_has_no_direction() -> None:
    folded = weight_norm(from_array(DIRECTION * [[[0]], [[1]], [[1]], [[1]], [[1]]]), from_array(LENGTH))
    assert np.isnan(folded.numpy()[0]).all()
    assert np.isfinite(folded.numpy()[1:]).all()


def test_what_overflows_is_an_error() -> None:
    halves = from_array(DIRECTION.astype(np.float16))
    with pytest.raises(ComputedOverflowError, match="overflows float16"):
        weight_norm(halves, from_array(LENGTH * 1e6)).numpy()


@pytest.mark.parametrize("length", [LENGTH[:4], LENGTH.ravel(), LENGTH.astype(np.int32)])
def test_lengths_that_do_not_fit_are_refused(length: np.ndarray) -> None:
    with pytest.raises(LayoutError):
        weight_norm(from_array(DIRECTION), from_array(length))
