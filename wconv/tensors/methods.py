"""Attaches to `LazyTensor` its methods that are functions of other modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wconv.tensors import indexing, operations
from wconv.tensors.base import LazyTensor

METHODS: dict[str, Callable[..., Any]] = {
    "__getitem__": indexing.read,
    "cast": operations.cast,
    "astype": operations.cast,
    "to": operations.cast,
    "reshape": operations.reshape,
    "transpose": operations.transpose,
    "slice": operations.slice_axis,
    "split": operations.split,
    "view": operations.view,
    "add": operations.add,
}
"""By name: numpy's and torch's, and functions that take the tensor first."""

for name, function in METHODS.items():
    setattr(LazyTensor, name, function)
