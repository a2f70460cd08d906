"""Writes the zip that torch.save writes: a pickle, and every storage stored and 64-byte aligned.

Storages are streamed out of lazy tensors a few megabytes at a time, so a state dict of any size is written in
little memory. The file is built beside its final place and renamed into it, so a checkpoint that is being
read (or mapped) can be replaced by what is made of it.
"""

from __future__ import annotations

import io
import math
import os
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from wconv import files
from wconv.dtypes import DType
from wconv.errors import OutputError
from wconv.formats.pickle_write import Call, Global, Persistent, PickleWriter
from wconv.tensor import LazyTensor, Shape

ALIGNMENT = 64
"""Bytes to whose multiples storages are moved, so that any dtype can be mapped there; torch's choice too."""

BLOCK = 4 << 20
"""Bytes of a storage that are in memory at once."""

ZIP64_FROM = (1 << 31) - 1

STORAGE_CLASSES = frozenset(
    ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool", "ComplexFloat",
     "ComplexDouble")
)  # fmt: skip
"""Typed storages that torch has; tensors of other dtypes name an untyped one and their dtype."""

LATEST = (1980, 1, 1, 0, 0, 0)
"""The time of every entry: equal content gives equal files."""


@dataclass(frozen=True, eq=False, slots=True)
class SavedStorage:
    """Memory that tensors share; `elements` are its values, 1-D."""

    elements: LazyTensor


@dataclass(frozen=True, eq=False, slots=True)
class SavedTensor:
    """A tensor to be saved: a view of a storage, in elements.

    Attributes:
        requires_grad, parameter: as the loaded tensor shall have it, and whether it is an `nn.Parameter`.
    """

    storage: SavedStorage
    offset: int
    shape: Shape
    stride: Shape
    requires_grad: bool = False
    parameter: bool = False

    @property
    def dtype(self) -> DType:
        return self.storage.elements.dtype


@dataclass(slots=True)
class _Archive:
    """The storages of one file, in the order in which the pickle first names them."""

    keys: dict[int, str] = field(default_factory=dict)
    storages: list[SavedStorage] = field(default_factory=list)
    lone: dict[int, SavedTensor] = field(default_factory=dict)

    def describe(self, value: Any) -> Any:
        """Tensors and dtypes as the calls and names that torch's reader turns into them."""
        if isinstance(value, LazyTensor):
            value = self.lone.setdefault(id(value), whole(value))
        if isinstance(value, SavedTensor):
            return self._parameter(value) if value.parameter else self._tensor(value)
        if isinstance(value, DType):
            return Global("torch", value.name)
        return value

    def _parameter(self, value: SavedTensor) -> Call:
        hooks = Call(Global("collections", "OrderedDict"))
        function = Global("torch._utils", "_rebuild_parameter")
        return Call(function, self._tensor(value), value.requires_grad, hooks)

    def _tensor(self, value: SavedTensor) -> Call:
        grad = value.requires_grad and not value.parameter
        view = (value.offset, value.shape, value.stride, grad, Call(Global("collections", "OrderedDict")))
        elements = value.storage.elements
        key = self._key(value.storage)
        if elements.dtype.storage in STORAGE_CLASSES:
            kind = Global("torch", f"{elements.dtype.storage}Storage")
            pid = Persistent("storage", kind, key, "cpu", elements.size)
            return Call(Global("torch._utils", "_rebuild_tensor_v2"), pid, *view)
        kind = Global("torch.storage", "UntypedStorage")
        pid = Persistent("storage", kind, key, "cpu", elements.nbytes)
        return Call(
            Global("torch._utils", "_rebuild_tensor_v3"), pid, *view, Global("torch", elements.dtype.name)
        )

    def _key(self, storage: SavedStorage) -> str:
        if storage.elements.dtype.bits < 8:
            raise OutputError(
                f"{storage.elements.dtype.name} tensors cannot be saved for torch: cast them first"
            )
        key = self.keys.get(id(storage))
        if key is None:
            key = self.keys[id(storage)] = str(len(self.storages))
            self.storages.append(storage)
        return key


def whole(lazy: LazyTensor, *, requires_grad: bool = False, parameter: bool = False) -> SavedTensor:
    """A lazy tensor with a storage of its own."""
    stride = tuple(math.prod(max(length, 1) for length in lazy.shape[at + 1 :]) for at in range(lazy.ndim))
    return SavedTensor(
        SavedStorage(lazy.reshape((lazy.size,))), 0, lazy.shape, stride, requires_grad, parameter
    )


def save(root: Any, target: str | os.PathLike[str] | IO[bytes]) -> None:
    """Writes `root` for `torch.load`, with `weights_only=True` too.

    Args:
        root: a state dict, or any nesting of dicts, lists, tuples, numbers and strings, with tensors in it:
            `LazyTensor`, or `SavedTensor` where storages are shared.
        target: a path, replaced only when all is written; or a seekable binary file.

    Raises:
        OutputError: the object holds something that cannot be saved, or the file cannot be written.
        FormatError: a tensor's source does not hold what its header promised.
    """
    archive = _Archive()
    pickled = PickleWriter(archive.describe).dump(root)
    if not isinstance(target, (str, os.PathLike)):
        _write(target, "archive", pickled, archive.storages)
        return
    with files.replacing(target) as file:
        _write(file, Path(target).stem or "archive", pickled, archive.storages)


def _write(file: IO[bytes], folder: str, pickled: bytes, storages: Sequence[SavedStorage]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        small = {
            "data.pkl": pickled,
            ".format_version": b"1",
            ".storage_alignment": str(ALIGNMENT).encode(),
            "byteorder": b"little",
        }
        for name, data in small.items():
            with _entry(archive, f"{folder}/{name}", len(data)) as entry:
                entry.write(data)
        for key, storage in enumerate(storages):
            with _entry(archive, f"{folder}/data/{key}", storage.elements.nbytes) as entry:
                _stream(storage.elements, entry)
        with _entry(archive, f"{folder}/version", 2) as entry:
            entry.write(b"3\n")


def _entry(archive: zipfile.ZipFile, name: str, size: int) -> IO[bytes]:
    """A stored entry whose data begins at a multiple of `ALIGNMENT`."""
    info = zipfile.ZipInfo(name, LATEST)
    info.file_size = size
    assert archive.fp is not None
    # a large entry's header gets 20 bytes of zip64 sizes; zipfile exaggerates by 5 % to decide
    header = 30 + len(name.encode()) + 4 + (20 if size * 1.05 > ZIP64_FROM else 0)
    padding = -(archive.fp.tell() + header) % ALIGNMENT
    info.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
    return archive.open(info, "w")


def _stream(elements: LazyTensor, entry: IO[bytes]) -> None:
    step = max(BLOCK // elements.dtype.itemsize // elements.grain, 1) * elements.grain
    for start in range(0, elements.size, step):
        block = elements.elements(start, min(start + step, elements.size))
        entry.write(block.view("u1").data)


def dumps(root: Any) -> bytes:
    """What `save` writes, as bytes."""
    buffer = io.BytesIO()
    save(root, buffer)
    return buffer.getvalue()
