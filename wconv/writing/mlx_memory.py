"""MLX arrays of no particular content, and their memory to read into: one copy of the data less.

MLX has no function for it: `empty` and `zeros` write to all of it. But it reads safetensors from any object
that reads like a file, straight into its arrays. One that leaves the memory that it is given as it is makes
arrays that cost nothing, whose bytes come afterwards.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from wconv.extras import require
from wconv.formats.safetensors import make_header
from wconv.tensors.base import Array
from wconv.tensors.dtypes import DType

if TYPE_CHECKING:
    import mlx.core as mx

    from wconv.writing.plan import Entry

LARGE = 1 << 20
"""Bytes from which on a tensor is read into MLX's own memory."""


class MlxRoom(NamedTuple):
    """An array, and its memory as a 1-D array of the dtype of what is to be read."""

    array: mx.array
    memory: Array


def rooms_for(entries: Sequence[Entry]) -> dict[int, MlxRoom]:
    """Arrays of MLX's for the large ones among entries, by `id` of the entry.

    Those are left out that MLX has another dtype for, and all where it does not make arrays in this way.
    """
    large = [
        entry for entry in entries if entry.nbytes >= LARGE and entry.dtype.mlx and _has_view(entry.dtype)
    ]
    if not large:
        return {}
    core = require("mlx.core", "load_mlx")
    file = _Blank([(str(at), entry.dtype, entry.shape) for at, entry in enumerate(large)])
    try:
        made: dict[str, mx.array] = core.load(file, format="safetensors")
        core.eval(made)
    except (RuntimeError, ValueError, TypeError):  # a version that wants more of a file
        return {}
    rooms: dict[int, MlxRoom] = {}
    for at, entry in enumerate(large):
        array = made[str(at)]
        memory = _memory(array, entry.dtype)
        if memory is not None and memory.ctypes.data in file.addresses and array.shape == entry.shape:
            rooms[id(entry)] = MlxRoom(array, memory)
    return rooms


def _has_view(dtype: DType) -> bool:
    """Whether MLX has this dtype, and numpy sees it as integers of its size."""
    return dtype.mlx is not None and dtype.kind in ("float", "int") and dtype.bits in (8, 16, 32, 64)


def _memory(array: mx.array, dtype: DType) -> Array | None:
    """An array's own memory; None where what MLX shows of it is a copy, or another dtype."""
    core = require("mlx.core", "load_mlx")
    if array.dtype != getattr(core, dtype.mlx or ""):
        return None
    raw = np.array(array.view(getattr(core, f"uint{dtype.bits}")), copy=False)
    return raw.reshape(-1).view(dtype.numpy) if raw.flags.writeable and raw.flags.c_contiguous else None


class _Blank:
    """Reads like a safetensors file, but for what the tensors hold: that is left as it is.

    Attributes:
        addresses: of the memory that was to be filled with tensors.
    """

    closed = False

    def __init__(self, tensors: Sequence[tuple[str, DType, tuple[int, ...]]]) -> None:
        self.addresses: set[int] = set()
        self._header = make_header(tensors, None)
        self._size = len(self._header) + sum(dtype.nbytes(math.prod(shape)) for _, dtype, shape in tensors)
        # MLX reads with threads of its own, each of which seeks first
        self._place = threading.local()

    def seek(self, offset: int, whence: int = 0) -> int:
        """Goes to a place from the beginning, from where the thread is, or from the end."""
        self._place.at = offset + (0, self.tell(), self._size)[whence]
        return self.tell()

    def tell(self) -> int:
        """Where the calling thread is."""
        at: int = getattr(self._place, "at", 0)
        return at

    def readinto(self, buffer: memoryview) -> int:
        """Fills a buffer with the header's bytes, and leaves it where they end."""
        at = self.tell()
        header = self._header[at : at + buffer.nbytes]
        if header:
            buffer.cast("B")[: len(header)] = header
        else:
            self.addresses.add(np.frombuffer(buffer, np.uint8).ctypes.data)
        self._place.at = at + buffer.nbytes
        return buffer.nbytes
