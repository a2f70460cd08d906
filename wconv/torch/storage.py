"""`UntypedStorage`: the bytes under tensors, of which several may share one; read when first used."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wconv.stores import files
from wconv.torch.device import CPU, device

Bytes = NDArray[np.uint8]


class UntypedStorage:
    """A run of bytes. `wconv.torch` makes them; `from_file` maps one from disk."""

    __module__ = "torch"

    def __init__(self, size: int = 0) -> None:
        self._held: Bytes | None = np.zeros(size, np.uint8)
        self._size = size
        self._read: Callable[[], Bytes] | None = None

    @classmethod
    def of(cls, held: Bytes) -> UntypedStorage:
        """The storage that is `held`, not a copy of it."""
        made = cls.__new__(cls)
        made._held, made._size, made._read = held, held.size, None
        return made

    @classmethod
    def pending(cls, size: int, read: Callable[[], Bytes]) -> UntypedStorage:
        """A storage of `size` bytes that `read` fetches when one is first looked at."""
        made = cls.__new__(cls)
        made._held, made._size, made._read = None, size, read
        return made

    @classmethod
    def from_file(
        cls, filename: str | os.PathLike[str], shared: bool = False, nbytes: int = 0
    ) -> UntypedStorage:
        """The first `nbytes` of a file, mapped: nothing is read until it is used.

        Writing into the storage never changes the file.

        Raises:
            RuntimeError: `shared` is set (it would write into the file), or the file is shorter.
        """
        if shared:
            raise RuntimeError(
                "UntypedStorage.from_file(shared=True) is not offered: wconv never writes into a source"
            )
        held = map_file(os.fspath(filename))
        if nbytes > held.size:
            raise RuntimeError(f"{os.fspath(filename)} holds {held.size} bytes, {nbytes} were asked for")
        return cls.of(held[:nbytes])

    @property
    def bytes(self) -> Bytes:
        """The bytes as a writable array, fetched now if they were not yet."""
        if self._held is None:
            assert self._read is not None
            self._held, self._read = self._read(), None
        return self._held

    @property
    def device(self) -> device:
        return CPU

    def nbytes(self) -> int:
        return self._size

    size = nbytes
    __len__ = nbytes

    def untyped(self) -> UntypedStorage:
        return self

    def data_ptr(self) -> int:
        """The address of the first byte; 0 for an empty storage."""
        return int(self.bytes.ctypes.data) if self._size else 0

    def __getitem__(self, index: Any) -> Any:
        found = self.bytes[index]
        return UntypedStorage.of(found) if isinstance(index, slice) else int(found)

    def tolist(self) -> list[int]:
        return [int(value) for value in self.bytes]

    def clone(self) -> UntypedStorage:
        return UntypedStorage.of(self.bytes.copy())

    cpu = untyped

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UntypedStorage) and (
            self is other or np.array_equal(self.bytes, other.bytes)
        )

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"[torch.storage.UntypedStorage(device=cpu) of size {self._size}]"


def map_file(path: str) -> Bytes:
    """The bytes of a file, mapped privately: reading is left to the pages that are touched.

    Raises:
        FormatError: the file cannot be opened, or is another by now than when its tensors were found.
    """
    return np.frombuffer(files.source(path).mapped(), np.uint8)
