"""The arithmetic of strides: which shapes can show the same memory, and the numpy view that does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from wconv.tensor import Array


def restride(array: Array, shape: Sequence[int], steps: Sequence[int]) -> Array:
    """A view from the array's first element on; `steps` in bytes, known to stay inside."""
    # numpy's as_strided knows none of ml_dtypes' types
    plain = array if array.dtype.isbuiltin == 1 else array.view(f"u{array.itemsize}")
    made = np.lib.stride_tricks.as_strided(plain, tuple(shape), tuple(steps))
    return made if plain is array else made.view(array.dtype)


def contiguous_strides(shape: Sequence[int]) -> list[int]:
    """Strides in elements of a C-contiguous tensor."""
    strides, step = [], 1
    for length in reversed(shape):
        strides.append(step)
        step *= max(length, 1)
    return strides[::-1]


def view_strides(shape: Sequence[int], strides: Sequence[int], new: Sequence[int]) -> list[int] | None:
    """Strides that show the same memory in the shape `new`; None where only a copy could.

    Walks both shapes from the last axis; axes that follow one another in memory form a run, and a run can be
    cut anew at will.
    """
    if not shape:
        return [1] * len(new)
    if not math.prod(shape):
        return list(strides) if list(shape) == list(new) else contiguous_strides(new)
    found = [0] * len(new)
    at, step, run, filled = len(new) - 1, strides[-1], 1, 1
    for d in reversed(range(len(shape))):
        run *= shape[d]
        if d and (shape[d - 1] == 1 or strides[d - 1] == run * step):
            continue
        while at >= 0 and (filled < run or new[at] == 1):
            found[at] = filled * step
            filled *= new[at]
            at -= 1
        if filled != run:
            return None
        if d:
            step, run, filled = strides[d - 1], 1, 1
    return found if at < 0 else None


def address(array: Array) -> int:
    """Where in memory the first element lies, also of an array that has none."""
    return int(array.__array_interface__["data"][0])


def memory_order(*arrays: Array) -> list[int]:
    """The axes from the outermost in memory to the innermost, as torch settles it for arrays of one shape.

    The first array decides, the next where it does not. An expanded axis (step 0) is nowhere in particular.
    """
    order = list(reversed(range(arrays[0].ndim)))
    for at in range(1, arrays[0].ndim):
        moving = at
        for before in reversed(range(at)):
            verdict = _further_out(arrays, order[before], order[moving])
            if verdict > 0:
                order[before], order[moving] = order[moving], order[before]
                moving = before
            elif verdict < 0:
                break
    return order[::-1]


def _further_out(arrays: Sequence[Array], first: int, second: int) -> int:
    """Whether axis `first` lies further out than `second` (1), further in (-1), or neither is certain (0)."""
    for array in arrays:
        one, other = array.strides[first], array.strides[second]
        if one and other and one != other:
            return 1 if one > other else -1
        if one and other and array.shape[first] > array.shape[second]:
            return 1
    return 0


def empty_as(array: Array, dtype: np.dtype[Any], *, keep_order: bool = True) -> Array:
    """A dense array of the same shape, and by default with its axes in the same order in memory."""
    if array.flags.c_contiguous or not keep_order:
        return np.empty(array.shape, dtype)
    return empty_in(memory_order(array), array.shape, dtype)


def empty_in(order: Sequence[int], shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """A dense array whose axes follow one another in memory in the given order."""
    return np.empty([shape[axis] for axis in order], dtype).transpose(np.argsort(order))
