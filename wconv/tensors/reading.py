"""Whole tensors into memory: threads read parts of them into the final arrays."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

import numpy as np

from wconv.tensors.base import Array, LazyTensor
from wconv.tensors.borrowed import keeping
from wconv.tensors.lazy import FileTensor
from wconv.tensors.parallel import share

PART = 8 << 20
"""Bytes that a thread reads before it takes the next part; below it there is nothing to share."""

_Piece = tuple[LazyTensor, int, int, Array]


def read_all(tensors: Mapping[str, LazyTensor], jobs: int | None = None) -> dict[str, Array]:
    """Each tensor as an array, as `numpy` of each would give it.

    A tensor that lies in a file as it is is read in parts; one that is computed, or inflated, as a whole.

    Args:
        jobs: threads; as many as there are cores when absent.

    Raises:
        FormatError: a file does not hold what its header promised.
    """
    flat = {name: np.empty(tensor.size, tensor.dtype.numpy) for name, tensor in tensors.items()}
    threads = min(jobs or os.cpu_count() or 1, sum(array.nbytes for array in flat.values()) // PART + 1)
    if threads == 1:
        _read(_pieces(tensors, flat))
    else:
        share(_parts(tensors, flat), lambda: _read, threads)
    return {name: array.reshape(tensors[name].shape) for name, array in flat.items()}


def _read(pieces: Iterator[_Piece] | list[_Piece]) -> None:
    with keeping():
        for tensor, start, stop, out in pieces:
            tensor.read_into(start, stop, out)


def _parts(tensors: Mapping[str, LazyTensor], flat: Mapping[str, Array]) -> Iterator[list[_Piece]]:
    """Pieces of as many bytes as one thread takes."""
    part: list[_Piece] = []
    size = 0
    for piece in _pieces(tensors, flat):
        part.append(piece)
        size += piece[3].nbytes
        if size >= PART:
            yield part
            part, size = [], 0
    if part:
        yield part


def _pieces(tensors: Mapping[str, LazyTensor], flat: Mapping[str, Array]) -> Iterator[_Piece]:
    for name, tensor in tensors.items():
        out = flat[name]
        step = PART // out.itemsize if isinstance(tensor, FileTensor) else max(out.size, 1)
        for start in range(0, out.size, step):
            stop = min(start + step, out.size)
            yield tensor, start, stop, out[start:stop]
