"""Whole tensors into memory: threads read parts of them into the final arrays.

The arrays are memory of the caller's own, not the file mapped: whoever has them may write to them, and a file
that is changed, cut short or replaced afterwards does not reach them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from wconv.tensors.base import Array, LazyTensor
from wconv.tensors.borrowed import keeping
from wconv.tensors.lazy import FileTensor
from wconv.tensors.memory import LARGE, STEP, Memory
from wconv.tensors.parallel import share

PART = 8 << 20
"""Bytes that a thread reads before it takes the next part; below it there is nothing to share."""

_Piece = tuple[LazyTensor, int, int, Array]
"""Elements `start` to `stop` of a tensor, and the whole array that they go to."""


def read_all(tensors: Mapping[str, LazyTensor], jobs: int | None = None) -> dict[str, Array]:
    """Each tensor as an array, as `numpy` of each would give it.

    A tensor that lies in a file as it is is read in parts; one that is computed, as a whole. What is inflated
    of one stream is read by one thread, the largest streams first.

    Args:
        jobs: threads; as many as there are cores when absent.

    Raises:
        FormatError: a file does not hold what its header promised.
    """
    flat: dict[str, Array] = {}
    nbytes = sum(tensor.size * tensor.dtype.itemsize for tensor in tensors.values())
    threads = min(jobs or os.cpu_count() or 1, nbytes // PART + 1)
    memory = Memory(worthwhile=threads > 1)
    parts = _parts(tensors, flat, memory)
    if threads == 1:
        for part in parts:
            _read(part, memory)
    else:
        share(parts, lambda: lambda part: _read(part, memory), threads)
    return {name: flat[name].reshape(tensor.shape) for name, tensor in tensors.items()}


def _read(part: list[_Piece], memory: Memory) -> None:
    with keeping():
        for tensor, start, stop, whole in part:
            step = STEP // whole.itemsize
            if not isinstance(tensor, FileTensor):
                for first in range(start, stop, step):
                    memory.bring_in(whole[first : min(first + step, stop)], asked=whole.nbytes >= LARGE)
                tensor.read_into(start, stop, whole[start:stop])
                continue
            for first in range(start, stop, step):
                last = min(first + step, stop)
                out = whole[first:last]
                memory.bring_in(out, asked=whole.nbytes >= LARGE)
                tensor.read_into(first, last, out)


def _parts(
    tensors: Mapping[str, LazyTensor], flat: dict[str, Array], memory: Memory
) -> Iterator[list[_Piece]]:
    """What one thread reads at a time; makes the arrays as it comes to them."""
    streams: dict[object, list[tuple[str, LazyTensor]]] = {}
    others: list[tuple[str, LazyTensor]] = []
    for name, tensor in tensors.items():
        stream = None if isinstance(tensor, FileTensor) else tensor.stream
        (others if stream is None else streams.setdefault(stream, [])).append((name, tensor))
    part: list[_Piece] = []
    size = 0
    for together in sorted(streams.values(), key=lambda one: -sum(tensor.nbytes for _, tensor in one)):
        for name, tensor in together:
            flat[name] = whole = memory.empty(tensor.size, tensor.dtype)
            part.append((tensor, 0, whole.size, whole))
            size += whole.nbytes
        if size >= PART:
            yield part
            part, size = [], 0
    for name, tensor in others:
        flat[name] = whole = memory.empty(tensor.size, tensor.dtype)
        step = PART // whole.itemsize if isinstance(tensor, FileTensor) else max(whole.size, 1)
        for start in range(0, whole.size, step):
            stop = min(start + step, whole.size)
            part.append((tensor, start, stop, whole))
            size += (stop - start) * whole.itemsize
            if size >= PART:
                yield part
                part, size = [], 0
    if part:
        yield part
