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
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from wconv.errors import OutputError
from wconv.formats.torch.pickle.write import Call, Name, Persistent, PickleWriter, Unique
from wconv.formats.zip.write import ALIGNMENT, Arranged, arrange
from wconv.stores import files
from wconv.tensors.dtypes import DType
from wconv.tensors.lazy import LazyTensor, Shape

BLOCK = 4 << 20
"""Bytes of a storage that are in memory at once."""

STORAGE_CLASSES = frozenset(
    ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool", "ComplexFloat",
     "ComplexDouble")
)  # fmt: skip
"""Typed storages that torch has; tensors of other dtypes name an untyped one and their dtype."""


@dataclass(frozen=True, eq=False, slots=True)
class SavedStorage:
    """Memory that tensors share; `values` are its elements, in the order of its bytes."""

    values: LazyTensor


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
        return self.storage.values.dtype


@dataclass(slots=True)
class _Archive:
    """The storages of one file, in the order in which the pickle first names them."""

    keys: dict[int, int] = field(default_factory=dict)
    storages: list[SavedStorage] = field(default_factory=list)

    def describe(self, value: Any) -> Any:
        """Tensors and dtypes as the calls and names that torch's reader turns into them."""
        if isinstance(value, LazyTensor):
            value = whole(value)
        if isinstance(value, SavedTensor):
            return self._parameter(value) if value.parameter else self._tensor(value)
        if isinstance(value, DType):
            return Name("torch", value.name)
        return value

    def _parameter(self, value: SavedTensor) -> Call:
        hooks = Call(Name("collections", "OrderedDict"))
        function = Name("torch._utils", "_rebuild_parameter")
        return Call(function, self._tensor(value), value.requires_grad, hooks)

    def _tensor(self, value: SavedTensor) -> Call:
        grad = value.requires_grad and not value.parameter
        view = (value.offset, value.shape, value.stride, grad, Call(Name("collections", "OrderedDict")))
        values = value.storage.values
        key = self._key(value.storage)
        if values.dtype.storage in STORAGE_CLASSES:
            kind = Name("torch", f"{values.dtype.storage}Storage")
            pid = Persistent("storage", kind, key, "cpu", values.size)
            return Call(Name("torch._utils", "_rebuild_tensor_v2"), pid, *view)
        kind = Name("torch.storage", "UntypedStorage")
        pid = Persistent("storage", kind, key, "cpu", values.nbytes)
        return Call(Name("torch._utils", "_rebuild_tensor_v3"), pid, *view, Name("torch", values.dtype.name))

    def _key(self, storage: SavedStorage) -> Unique:
        if storage.values.dtype.bits < 8:
            raise OutputError(
                f"{storage.values.dtype.name} tensors cannot be saved for torch: cast them first"
            )
        key = self.keys.get(id(storage))
        if key is None:
            key = self.keys[id(storage)] = len(self.storages)
            self.storages.append(storage)
        return Unique(str(key))


def whole(lazy: LazyTensor, *, requires_grad: bool = False, parameter: bool = False) -> SavedTensor:
    """A lazy tensor with a storage of its own."""
    stride = tuple(math.prod(max(length, 1) for length in lazy.shape[at + 1 :]) for at in range(lazy.ndim))
    return SavedTensor(SavedStorage(lazy), 0, lazy.shape, stride, requires_grad, parameter)


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
    if not isinstance(target, (str, os.PathLike)):
        _write(target, *arranged(root, "archive"))
        return
    planned = arranged(root, Path(target).stem or "archive")
    with files.replacing(target) as file:
        _write(file, *planned)


def arranged(root: Any, folder: str) -> tuple[Arranged, list[SavedStorage]]:
    """The file that `save` writes of `root`, but for its storages, which are the second part.

    Args:
        folder: what the archive's entries lie in.

    Raises:
        OutputError: the object holds something that cannot be saved.
    """
    archive = _Archive()
    small = {
        "data.pkl": PickleWriter(archive.describe).dump(root),
        ".format_version": b"1",
        ".storage_alignment": str(ALIGNMENT).encode(),
        "byteorder": b"little",
    }
    archive.keys.clear()
    large = ((f"{folder}/data/{key}", one.values.nbytes) for key, one in enumerate(archive.storages))
    # each is let go when it is copied: a pickle of many tensors is large
    first = ((f"{folder}/{name}", small.pop(name)) for name in list(small))
    return arrange(first, large, b"3\n"), archive.storages


def _write(file: IO[bytes], plan: Arranged, storages: Sequence[SavedStorage]) -> None:
    start = file.tell()
    for at, data in plan.pieces:
        file.seek(start + at)
        file.write(data)
    for at, places, storage in zip(plan.offsets, plan.checksums, storages, strict=True):
        file.seek(start + at)
        checksum = _stream(storage.values, file)
        for place in places:
            file.seek(start + place)
            file.write(struct.pack("<I", checksum))
    file.seek(start + plan.nbytes)


def _stream(values: LazyTensor, file: IO[bytes]) -> int:
    """Writes all values; their CRC-32."""
    step = max(BLOCK // values.dtype.itemsize // values.block_size, 1) * values.block_size
    checksum = 0
    for start in range(0, values.size, step):
        raw = values.read_range(start, min(start + step, values.size)).view("u1").data
        checksum = zlib.crc32(raw, checksum)
        file.write(raw)
    return checksum


def dumps(root: Any) -> bytes:
    """What `save` writes, as bytes."""
    buffer = io.BytesIO()
    save(root, buffer)
    return buffer.getvalue()
