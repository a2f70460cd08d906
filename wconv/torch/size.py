"""`torch.Size`: a shape, a tuple that prints as torch's does."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any


class Size(tuple[int, ...]):
    """The shape of a tensor."""

    __module__ = "torch"
    __slots__ = ()

    def numel(self) -> int:
        """How many elements a tensor of this shape has."""
        return math.prod(self)

    def __repr__(self) -> str:
        return f"torch.Size([{', '.join(map(str, self))}])"

    def __getitem__(self, index: Any) -> Any:
        part = super().__getitem__(index)
        return Size(part) if isinstance(index, slice) else part

    def __add__(self, other: Iterable[int]) -> Size:  # type: ignore[override]
        return Size((*self, *other))

    def __reduce__(self) -> tuple[Any, ...]:
        return _size, (tuple(self),)


def _size(shape: tuple[int, ...]) -> Size:
    """Size itself cannot be pickled by name: it goes by torch's."""
    return Size(shape)


def lengths(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    """The lengths that torch takes either one by one or as one sequence: `f(2, 3)` and `f((2, 3))`.

    Raises:
        TypeError: something in it is no whole number.
    """
    flat = sizes[0] if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes
    return tuple(whole(length) for length in flat)


def whole(value: Any) -> int:
    """`value` as an int.

    Raises:
        TypeError: it is none (a float, a string).
    """
    try:
        return int(value.__index__())
    except AttributeError:
        raise TypeError(f"expected a whole number, got {value!r:.60} ({type(value).__name__})") from None


def axis(dim: Any, ndim: int) -> int:
    """`dim` counted from 0; a 0-d tensor is treated as if it had one axis, as torch does.

    Raises:
        IndexError: the tensor has no such axis.
    """
    count = max(ndim, 1)
    at = whole(dim)
    if not -count <= at < count:
        raise IndexError(
            f"Dimension out of range (expected to be in range of [{-count}, {count - 1}], but got {at})"
        )
    return at % count


def axes(dims: Any, ndim: int) -> tuple[int, ...]:
    """One axis, several, or all when `dims` is None or empty.

    Raises:
        IndexError: the tensor has no such axis.
        RuntimeError: one is named twice.
    """
    if dims is None:
        return tuple(range(ndim))
    if not isinstance(dims, (tuple, list)):
        return (axis(dims, ndim),)
    found = tuple(axis(dim, ndim) for dim in dims)
    if len(set(found)) != len(found):
        raise RuntimeError(f"dim {max(found, key=found.count)} appears multiple times in the list of dims")
    return found or tuple(range(ndim))
