"""Products of codes and scales are rounded as any cast rounds them, zeros of both signs included."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from wconv.tensors import casts
from wconv.tensors.rounded import rounded


def values(scale: float) -> Any:
    rng = np.random.default_rng(3)
    codes = rng.integers(-8, 8, 40_000).astype(np.float32)
    codes[::7] = -0.0
    made = codes * np.float32(scale) * rng.random(40_000, np.float32)
    made[5:9] = np.inf, -np.inf, 1e-45, -1e-7
    return made


@pytest.mark.parametrize("dtype", [np.float16, np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 1e-6, 3e4])
def test_it_is_the_cast(dtype: Any, scale: float) -> None:
    numbers = values(scale)
    expected = np.empty(numbers.size, dtype)
    casts.take_losses()
    casts.cast(numbers, expected)
    lost = casts.take_losses()
    out = np.empty_like(expected)
    rounded(numbers, out)
    assert out.tobytes() == expected.tobytes()
    assert casts.take_losses() == lost
    rounded(numbers, out, counted=False)
    assert out.tobytes() == expected.tobytes()
    assert casts.take_losses() == casts.NONE


def test_what_is_known_to_be_finite_is_not_looked_at() -> None:
    numbers = values(1.0)
    out = np.empty(numbers.size, ml_dtypes.bfloat16)
    rounded(numbers, out, finite=True)
    assert out.tobytes() == numbers.astype(ml_dtypes.bfloat16).tobytes()
