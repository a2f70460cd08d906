"""Output layers that a config calls tied: left out where they are the embedding, and only there."""

from __future__ import annotations

import numpy as np

from wconv.errors import LayoutError
from wconv.layouts.conditions import Context
from wconv.layouts.rules import DropRule, State, TracedTensor
from wconv.tensors.lazy import FileTensor, LazyTensor

FIRST, CHUNK = 1 << 12, 4 << 20
"""Elements that are compared at first, for those that differ mostly do so there; and at a time at most."""


def kept(rule: DropRule, state: State, context: Context) -> frozenset[str]:
    """Which of the tensors that `rule` would leave out differ from the one that takes their place.

    Raises:
        LayoutError: the consumer would use the other one all the same, whatever the config says.
    """
    other = next((name for name in rule.same_as if name in state), None)
    if other is None:
        return frozenset()
    drops = rule.dropping(context)
    odd = [name for name in state if drops(name) and not same_values(state[name].tensor, state[other].tensor)]
    if odd and rule.when is None:
        head_source, embedding_source = _source(state[odd[0]]), _source(state[other])
        raise LayoutError(
            f"{head_source} differs from {embedding_source}, which the consumer would use in its place"
            f" ({rule.reason}): the result would compute something else; leave it out with --exclude"
            f" '{_escaped(head_source)}', or keep all names with --layout hf"
        )
    return frozenset(odd)


def same_values(first: LazyTensor, second: LazyTensor) -> bool:
    """Whether two tensors hold the same values, compared piece by piece; bits where the dtypes agree."""
    if first is second:
        return True
    if first.shape != second.shape:
        return False
    if _is_one_place(first, second):
        return True
    start, count = 0, FIRST
    while start < first.size:
        stop = min(start + count, first.size)
        left, right = first.read_range(start, stop), second.read_range(start, stop)
        if first.dtype is second.dtype:
            equal = np.array_equal(left.view(np.uint8), right.view(np.uint8))
        else:
            equal = np.array_equal(left.astype(np.float64), right.astype(np.float64), equal_nan=True)
        if not equal:
            return False
        start, count = stop, min(4 * count, CHUNK)
    return True


def _is_one_place(one: LazyTensor, other: LazyTensor) -> bool:
    return (
        isinstance(one, FileTensor)
        and isinstance(other, FileTensor)
        and (one.path, one.offset, one.dtype, one.swap) == (other.path, other.offset, other.dtype, other.swap)
    )


def _source(entry: TracedTensor) -> str:
    return entry.sources[0]


def _escaped(name: str) -> str:
    return "^" + name.replace(".", "\\.") + "$"
