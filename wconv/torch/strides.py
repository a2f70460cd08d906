"""The arithmetic of strides: which shapes can show the same memory, and the numpy view that does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from wconv.tensors.base import Array


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


def memory_order(shape: Sequence[int], *operands: Sequence[int]) -> list[int]:
    """The axes from the outermost in memory to the innermost, as torch settles it from the operands' strides.

    The first operand decides, the next where it does not. An expanded axis (step 0) is nowhere in particular.
    """
    order = list(reversed(range(len(shape))))
    for at in range(1, len(shape)):
        moving = at
        for before in reversed(range(at)):
            further = _further_out(shape, operands, order[before], order[moving])
            if further > 0:
                order[before], order[moving] = order[moving], order[before]
                moving = before
            elif further < 0:
                break
    return order[::-1]


def _further_out(shape: Sequence[int], operands: Sequence[Sequence[int]], first: int, second: int) -> int:
    """Whether axis `first` lies further out than `second` (1), further in (-1), or neither is certain (0)."""
    for strides in operands:
        one, other = strides[first], strides[second]
        if one and other and one != other:
            return 1 if one > other else -1
        if one and other and shape[first] > shape[second]:
            return 1
    return 0


def broadcast_steps(array: Array, shape: Sequence[int]) -> list[int]:
    """The array's steps where it is broadcast to `shape`: 0 along the axes that it is repeated on."""
    steps = [0] * (len(shape) - array.ndim) + list(array.strides)
    lengths = [1] * (len(shape) - array.ndim) + list(array.shape)
    return [0 if own != length else step for step, own, length in zip(steps, lengths, shape, strict=True)]


def empty_as(array: Array, dtype: np.dtype[Any], *, keep_order: bool = True) -> Array:
    """A dense array of the same shape; by default with the strides of a dense `array`, or its axes' order."""
    if not keep_order or not array.size:
        return np.empty(array.shape, dtype)
    if is_dense(array):
        ratio = array.itemsize, np.dtype(dtype).itemsize
        steps = [step // ratio[0] * ratio[1] for step in array.strides]
        return restride(np.empty(array.size, dtype), array.shape, steps)
    return empty_in(memory_order(array.shape, array.strides), array.shape, dtype)


def is_dense(array: Array) -> bool:
    """Whether the elements lie without gap or overlap, in whatever order of axes."""
    expected = array.itemsize
    for step, length in sorted(zip(array.strides, array.shape, strict=True)):
        if length > 1:
            if step != expected:
                return False
            expected *= length
    return True


def in_c_order(array: Array) -> Array:
    """The array C-contiguous, also in the strides of axes of length 1, which numpy does not care about."""
    steps = tuple(step * array.itemsize for step in contiguous_strides(array.shape))
    if array.strides == steps or not array.size:
        return array
    return restride(np.asarray(array, order="C"), array.shape, steps)


def empty_in(order: Sequence[int], shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """A dense array whose axes follow one another in memory in the given order."""
    return np.empty([shape[axis] for axis in order], dtype).transpose(np.argsort(order))
