"""Walks and rebuilds graphs of lazy tensors by what every node says of itself: its parents."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from wconv.tensors.base import LazyTensor


def leaves(*tensors: LazyTensor) -> Iterator[LazyTensor]:
    """The tensors that the given ones are computed of and that are not computed themselves."""
    left = list(reversed(tensors))
    while left:
        tensor = left.pop()
        parents = tensor.parents
        left += reversed(parents)
        if not parents:
            yield tensor


def rebuilt(tensor: LazyTensor, change: Callable[[LazyTensor], LazyTensor | None]) -> LazyTensor:
    """The graph with some of its nodes replaced; nodes above none of those stay the same objects.

    Args:
        change: is called with a node before its parents: what takes its place, which is rebuilt in turn,
            or None where it stays.
    """
    other = change(tensor)
    if other is not None:
        return rebuilt(other, change)
    parents = tensor.parents
    made = [rebuilt(parent, change) for parent in parents]
    if all(new is old for new, old in zip(made, parents, strict=True)):
        return tensor
    return tensor.with_parents(*made)
