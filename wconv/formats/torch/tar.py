"""torch.save's tar archives from before 0.1.10, and the tar archives of NeMo."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any

from wconv.errors import FormatError
from wconv.formats import yaml_text
from wconv.formats.deflated import DeflatedSource
from wconv.formats.sources import Source
from wconv.formats.torch.objects import Storage, TorchTensor, shown
from wconv.formats.torch.pickle.machine import Machine
from wconv.formats.torch.pickle.names import NAMES
from wconv.formats.torch.pickle.reading import plain
from wconv.formats.torch.tensors import AXES_LIMIT, storage_dtype, view

BLOCK = 512

MEMBERS_LIMIT = 100_000
"""Members of an archive."""

GZIP_LIMIT = 1 << 31
"""Bytes of a gzip file: it says its size in 32 bits, which weights of more than 4 GiB do not fit."""

ITEMS_LIMIT = 10_000_000
"""Storages or tensors in one archive."""


def recognise(start: bytes) -> bool:
    """Whether the first block is a tar header: its checksum is right."""
    if len(start) < BLOCK:
        return False
    try:
        checksum = int(start[148:156].rstrip(b"\0 ") or b"0", 8)
    except ValueError:
        return False
    return checksum > 256 and checksum == sum(start[:148]) + 8 * 32 + sum(start[156:BLOCK])


def members(source: Source) -> dict[str, tuple[int, int]]:
    """Where each regular member's bytes start, and how many they are.

    Raises:
        FormatError: a header is damaged, or the archive ends early.
    """
    found: dict[str, tuple[int, int]] = {}
    at = 0
    while at + BLOCK <= source.size:
        header = source.read(at, BLOCK)
        if not header.strip(b"\0"):
            break
        if not recognise(header) or len(found) >= MEMBERS_LIMIT:
            raise FormatError(f"{source.where} is a damaged tar archive")
        digits = header[124:136].rstrip(b"\0 ")
        # a size beyond eight octal digits is written in binary, its first bit set
        binary = digits[:1] >= b"\x80"
        try:
            size = int.from_bytes(header[125:136], "big") if binary else int(digits or b"0", 8)
        except ValueError:
            raise FormatError(f"{source.where} is a damaged tar archive") from None
        at += BLOCK
        if size < 0 or at + size > source.size:
            raise FormatError(f"{source.where} is a truncated tar archive; download it again")
        if header[156:157] in (b"0", b"\0"):
            name = header[:100].rstrip(b"\0").decode("utf-8", "replace").removeprefix("./")
            if name in found:
                raise FormatError(f"{source.where} is a damaged tar archive: {name!r:.100} occurs twice")
            found[name] = at, size
        at += -(-size // BLOCK) * BLOCK
    return found


def load(source: Source, read_nested: Callable[[Source], Any]) -> Any:
    """The object that torch.save was given, or the checkpoint within a NeMo archive.

    Raises:
        FormatError: the archive is damaged or holds neither.
    """
    found = members(source)
    weights = next((name for name in found if name.rpartition("/")[2] == "model_weights.ckpt"), None)
    if weights is not None:
        held = read_nested(source.part(*found[weights]))
        settings = next((name for name in found if name.rpartition("/")[2] == "model_config.yaml"), None)
        return (
            held
            if settings is None
            else {"state_dict": held, "model_config": _settings(source, *found[settings])}
        )
    inside = next((name for name in found if "model_weights/" in name), None)
    if inside is not None:
        raise FormatError(
            f"{source.where} holds a distributed checkpoint ({inside:.80}): unpack it with tar -xf and"
            " convert the directory model_weights"
        )
    missing = [name for name in ("pickle", "storages", "tensors") if name not in found]
    if missing:
        raise FormatError(f"{source.where} is a tar archive without a PyTorch checkpoint (no {missing[0]})")
    # sys_info is not read: nothing in it is needed, as torch wrote little-endian on every machine
    storages = _storages(source.part(*found["storages"]))
    tensors = _tensors(source.part(*found["tensors"]), storages)

    def persistent(pid: Any) -> Any:
        if type(pid) is tuple and pid[:1] == ("module",) and len(pid) > 1:
            return pid[1]
        tensor = tensors.get(str(pid)) if type(pid) in (int, str) else None
        if tensor is None:
            raise FormatError(f"{source.where} is damaged: tensor {shown(pid, 40)} is missing")
        return tensor

    pickle = source.part(*found["pickle"])
    return Machine(pickle, NAMES, persistent, read_nested=read_nested).run()


def _settings(source: Source, at: int, size: int) -> Any:
    """What a YAML file says, or its text where it says more than settings do."""
    if size > yaml_text.LIMIT:
        return f"{size:,} bytes of YAML"
    text = source.read(at, size).decode("utf-8", "replace")
    try:
        return yaml_text.parse(text)
    except yaml_text.NotPlain:
        return text


def inflated(source: Source) -> Source | None:
    """The tar archive that a gzip file is of; None where it is another.

    Raises:
        FormatError: it is too large for its size to be known.
    """
    start = source.read(0, min(1 << 16, source.size))
    if start[:3] != b"\x1f\x8b\x08" or source.size < 18:
        return None
    try:
        first = zlib.decompressobj(31).decompress(start, BLOCK)
    except zlib.error:
        return None
    if not recognise(first):
        return None
    if source.size > GZIP_LIMIT:
        raise FormatError(f"{source.where} is compressed with gzip and large: unpack it first (gunzip)")
    begin = _gzip_header(start)
    size = int.from_bytes(source.read(source.size - 4, 4), "little")
    return DeflatedSource(source.part(begin, source.size - 8 - begin), size, source.where)


def _gzip_header(start: bytes) -> int:
    """How long the header of a gzip file is (RFC 1952)."""
    flags, at = start[3], 10
    if flags & 4:
        at += 2 + int.from_bytes(start[at : at + 2], "little")
    for flag in (8, 16):
        if flags & flag:
            at = start.find(b"\0", at) + 1 or len(start)
    return at + 2 * bool(flags & 2)


class _Stream:
    """Pickles and numbers one after another."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.at = 0
        self.machine = Machine(source, NAMES)

    def pickle(self) -> Any:
        self.machine = Machine(self.source, NAMES, at=self.at)
        value = self.machine.run()
        self.at = self.machine.end
        return plain(value)

    def numbers(self, layout: str) -> tuple[int, ...]:
        form = struct.Struct(layout)
        values = form.unpack(self.source.read(self.at, form.size))
        self.at += form.size
        return values

    def count(self) -> int:
        count = self.pickle()
        if type(count) is not int or not 0 <= count <= ITEMS_LIMIT:
            raise self.machine.damaged(f"{shown(count, 40)} is no number of members")
        return count

    def triple(self) -> tuple[str, Any, Any]:
        value = self.pickle()
        if type(value) is not tuple or len(value) != 3 or type(value[0]) not in (int, str):
            raise self.machine.damaged("a storage or tensor is not described")
        return str(value[0]), value[1], value[2]


def _storages(source: Source) -> dict[str, Storage]:
    stream = _Stream(source)
    storages: dict[str, Storage] = {}
    for _ in range(stream.count()):
        key, location, storage_class = stream.triple()
        name, dtype = storage_dtype(stream.machine, storage_class)
        (numel,) = stream.numbers("<q")
        if numel < 0 or stream.at + numel * dtype.itemsize > source.size:
            raise FormatError(f"{source.where} is truncated: it ends within a storage; download it again")
        device = location if type(location) is str else ""
        storages[key] = Storage(key, name, dtype, numel, device, source, stream.at)
        stream.at += storages[key].nbytes
    views = stream.pickle()
    for entry in views if type(views) is list else []:
        if type(entry) is not tuple or len(entry) != 4 or {*map(type, entry[:2])} - {int, str}:
            raise stream.machine.damaged("a view of a storage is not described")
        target, root, offset, numel = str(entry[0]), storages.get(str(entry[1])), entry[2], entry[3]
        if root is None or type(offset) is not int or type(numel) is not int:
            raise stream.machine.damaged("a view of a storage is not described")
        if not 0 <= offset <= offset + numel <= root.numel:
            raise stream.machine.damaged("a view reaches past its storage")
        start = root.start + offset * root.dtype.itemsize
        storages[target] = Storage(target, root.name, root.dtype, numel, root.location, source, start)
    return storages


def _tensors(source: Source, storages: dict[str, Storage]) -> dict[str, TorchTensor]:
    stream = _Stream(source)
    tensors: dict[str, TorchTensor] = {}
    for _ in range(stream.count()):
        key, storage_key, _ = stream.triple()
        storage = storages.get(str(storage_key)) if type(storage_key) in (int, str) else None
        ndim, _ = stream.numbers("<2i")
        if storage is None or not 0 <= ndim <= AXES_LIMIT:
            raise stream.machine.damaged("a tensor has no storage or an impossible shape")
        lengths = stream.numbers(f"<{2 * ndim}q")
        (offset,) = stream.numbers("<q")
        tensors[key] = view(
            stream.machine, storage, offset, lengths[:ndim], lengths[ndim:], storage.dtype, False
        )
    return tensors
