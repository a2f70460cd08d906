"""The lazy tensor of each kind of leaf of a checkpoint's object tree: one function for each type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from wconv.formats.numpy import arrays
from wconv.formats.torch import dense, sparse
from wconv.formats.torch.objects import (
    JoinedTensor,
    LostTensor,
    MetaTensor,
    NumpyArray,
    NumpyComplex,
    NumpyFloat,
    NumpyInteger,
    SparseTensor,
    Storage,
    TorchTensor,
    UnavailableError,
)
from wconv.tensors.lazy import LazyTensor, from_array


def materialise(leaf: Any) -> LazyTensor:
    """The values of a leaf of an object tree, as a lazy tensor.

    Args:
        leaf: of one of the classes of `MATERIALISERS`, or of a class that is derived from one.

    Raises:
        UnavailableError: it has no values that could be written; the text says why.
        FormatError: its parts contradict each other.
    """
    for kind in type(leaf).__mro__:
        function = MATERIALISERS.get(kind)
        if function is not None:
            return function(leaf)
    raise UnavailableError(f"a {type(leaf).__name__} is not a tensor")


def _without_values(tensor: MetaTensor) -> LazyTensor:
    raise UnavailableError("it was saved on the meta device, without values")


def _lost(tensor: LostTensor) -> LazyTensor:
    raise UnavailableError(tensor.reason)


def _joined(tensor: JoinedTensor) -> LazyTensor:
    return tensor.tensor


def _number(number: Any) -> LazyTensor:
    """A numpy scalar as a 0-d tensor of its own dtype."""
    return from_array(np.array(number, number.dtype.numpy))


MATERIALISERS: dict[type, Callable[[Any], LazyTensor]] = {
    TorchTensor: dense.lazy,
    Storage: Storage.as_tensor,
    SparseTensor: sparse.lazy,
    MetaTensor: _without_values,
    LostTensor: _lost,
    JoinedTensor: _joined,
    NumpyArray: arrays.lazy,
    NumpyInteger: _number,
    NumpyFloat: _number,
    NumpyComplex: _number,
}
"""What a leaf's values are, by its class."""
