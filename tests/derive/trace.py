"""What becomes of every element: a checkpoint of different integers, followed through a program's sanitize.

Element i of the whole checkpoint holds 8 × (i + 1): what comes out says where it was, a remainder that
something was added. float32 holds such integers exactly up to 2^24; a larger checkpoint is traced twice.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Shape = tuple[int, ...]
Places = npt.NDArray[np.int64]

STEP = 8
EXACT = (1 << 24) // STEP
"""Numbers that float32 tells apart; a larger checkpoint is traced twice, by each half of its numbers."""

LARGEST = 100_000_000


class UntraceableError(Exception):
    """What a program does that cannot be followed, or written as rules: the reason, as a sentence."""


@dataclass(frozen=True)
class Origin:
    """Where a parameter's elements come from.

    Attributes:
        sources: the tensors, in order of first use.
        steps: what is done, by `(verb, *numbers)`: ("reshape", shape), ("slice", axis, start, stop, step),
            ("order", axes), ("stack",), ("join", axis), ("stack join", axis); empty for a tensor as it is.
        added: what was added to every element.
    """

    sources: tuple[str, ...]
    steps: tuple[tuple[Any, ...], ...] = ()
    added: float = 0.0


def traced(
    shapes: Mapping[str, Shape], sanitize: Callable[[dict[str, Any]], dict[str, Any]]
) -> dict[str, Origin | str]:
    """The origin of everything that sanitize makes of a checkpoint with these shapes, or why there is none.

    Raises:
        UntraceableError: the checkpoint is too large for it.
    """
    names = list(shapes)
    sizes = [math.prod(shapes[name]) for name in names]
    starts = np.concatenate(([0], np.cumsum(sizes)))
    if starts[-1] >= LARGEST:
        raise UntraceableError(f"the tiny model has {starts[-1]:,} elements, too many to follow")
    low = _passed(shapes, starts, lambda numbers: numbers % EXACT, sanitize)
    high = _passed(shapes, starts, lambda numbers: numbers // EXACT, sanitize) if starts[-1] >= EXACT else {}
    found: dict[str, Origin | str] = {}
    for name, values in low.items():
        try:
            places, added = _places(values)
            if name in high:
                places = places + _places(high[name])[0] * EXACT
            found[name] = _origin(places, added, names, starts, shapes)
        except UntraceableError as reason:
            found[name] = str(reason)
    return found


def _passed(
    shapes: Mapping[str, Shape],
    starts: Places,
    number: Callable[[Places], Places],
    sanitize: Callable[[dict[str, Any]], dict[str, Any]],
) -> dict[str, npt.NDArray[np.float32]]:
    """What sanitize makes of tensors in which each element holds a number of its place."""
    import mlx.core as mx

    weights = {}
    for (name, shape), start in zip(shapes.items(), starts[:-1], strict=True):
        places = np.arange(start, start + math.prod(shape), dtype=np.int64)
        tags = (number(places) + 1) * STEP
        weights[name] = mx.array(tags.reshape(shape).astype(np.float32))
    return {name: np.array(array.astype(mx.float32)) for name, array in sanitize(weights).items()}


def _places(values: npt.NDArray[np.float32]) -> tuple[Places, float]:
    """The numbers that elements hold, and what was added to all of them."""
    if not values.size:
        raise UntraceableError("an empty tensor")
    wide = values.astype(np.float64)
    if not np.isfinite(wide).all():
        raise UntraceableError("computed: its elements are not the checkpoint's")
    places = np.rint(wide / STEP).astype(np.int64)
    rest = wide - places * STEP
    if np.ptp(rest) > 0 or places.min() < 1:
        raise UntraceableError("computed: its elements are not the checkpoint's")
    return places - 1, float(rest.flat[0])


def _origin(
    places: Places, added: float, names: Sequence[str], starts: Places, shapes: Mapping[str, Shape]
) -> Origin:
    if places.max() >= starts[-1]:
        raise UntraceableError("computed: its elements are not the checkpoint's")
    which = np.searchsorted(starts, places, side="right") - 1
    local = places - starts[which]
    used = list(dict.fromkeys(which.reshape(-1).tolist()))
    sources = tuple(names[at] for at in used)
    if len(used) == 1:
        return Origin(sources, _steps(local, shapes[sources[0]]), added)
    return _of_several(local, which, used, sources, shapes)


def _steps(local: Places, shape: Shape) -> tuple[tuple[Any, ...], ...]:
    """How one tensor becomes this: reshaped, sliced, its axes in another order."""
    whole = np.arange(math.prod(shape), dtype=np.int64).reshape(shape)
    if found := _simple(local, whole):
        return found[0]
    for count in _divisors(shape[0]) if shape else ():
        apart = whole.reshape(count, shape[0] // count, *shape[1:])
        if found := _simple(local, apart):
            return (("reshape", apart.shape), *found[0])
    raise UntraceableError(f"rearranged in a way that no rule writes, from {shape} to {local.shape}")


def _divisors(number: int) -> list[int]:
    return [count for count in range(2, number) if number % count == 0]


def _simple(local: Places, whole: Places) -> tuple[tuple[tuple[Any, ...], ...]] | None:
    """In a tuple of its own, the steps without a reshape first; None when there are none."""
    if local.size == whole.size:
        part, steps = whole, ()
    else:
        found = _slice(local, whole)
        if found is None:
            return None
        part, steps = found
    if local.shape == part.shape and np.array_equal(local, part):
        return (steps,)
    if local.ndim == part.ndim and sorted(local.shape) == sorted(part.shape) and local.ndim <= 6:
        for axes in itertools.permutations(range(part.ndim)):
            if tuple(part.shape[axis] for axis in axes) == local.shape and np.array_equal(
                part.transpose(axes), local
            ):
                return ((*steps, ("order", axes)),)
    if np.array_equal(local.reshape(-1), part.reshape(-1)):
        return ((*steps, ("reshape", local.shape)),)
    return None


def _slice(local: Places, whole: Places) -> tuple[Places, tuple[tuple[Any, ...], ...]] | None:
    """The part of the whole, along one axis, that has these elements."""
    coordinates = np.unravel_index(local.reshape(-1), whole.shape)
    short = [
        (axis, np.unique(at)) for axis, at in enumerate(coordinates) if len(np.unique(at)) < whole.shape[axis]
    ]
    if len(short) != 1:
        return None
    axis, at = short[0]
    step = int(at[1] - at[0]) if len(at) > 1 else 1
    if not np.array_equal(at, np.arange(at[0], at[0] + step * len(at), step)):
        return None
    part = whole.take(at, axis)
    if part.size != local.size:
        return None
    return part, (("slice", axis, int(at[0]), int(at[-1]) + step, step),)


def _of_several(
    local: Places, which: Places, used: list[int], sources: tuple[str, ...], shapes: Mapping[str, Shape]
) -> Origin:
    rows = which.reshape(len(which), -1) if which.ndim > 1 else which.reshape(-1, 1)
    if len(used) == len(which) and all(np.ptp(row) == 0 for row in rows):
        steps = {_steps(local[at], shapes[name]) for at, name in enumerate(sources)}
        if len(steps) != 1:
            raise UntraceableError("stacked of tensors that are not treated alike")
        return Origin(sources, (*steps.pop(), ("stack",)))
    for axis in range(which.ndim):
        if cuts := _sections(which, axis):
            parts = list(np.split(local, cuts, axis))
            if len(parts) == len(used) and all(
                _steps(part, shapes[name]) == () for part, name in zip(parts, sources, strict=True)
            ):
                return Origin(sources, (("join", axis - which.ndim),))
    if len(which) > 1 and len(used) % len(which) == 0:
        inner = range(len(which))
        per = len(used) // len(inner)
        for axis in range(1, which.ndim):
            found = [_sections(which[at], axis - 1) for at in inner]
            if all(len(cuts) == per - 1 for cuts in found):
                plain = all(
                    _steps(part, shapes[sources[at * per + number]]) == ()
                    for at in inner
                    for number, part in enumerate(np.split(local[at], found[at], axis - 1))
                )
                if plain:
                    return Origin(sources, (("stack join", axis - which.ndim, per),))
    raise UntraceableError(f"made of {len(used)} tensors in a way that no rule writes")


def _sections(which: Places, axis: int) -> list[int]:
    """Where the source changes along an axis, when it is the same across all other axes."""
    moved = np.moveaxis(which, axis, 0).reshape(which.shape[axis], -1)
    if np.any(moved != moved[:, :1]):
        return []
    return (np.flatnonzero(np.diff(moved[:, 0])) + 1).tolist()
