"""OCDBT, the tree of keys and values in which Orbax keeps many arrays in few files.

`manifest.ocdbt` names the root of a B+tree, whose nodes and values are ranges of data files (TensorStore's
description of the format, `kvstore/ocdbt`, version 0). Only the newest version is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from wconv.errors import FormatError, UnsafeError
from wconv.formats.sources import MemorySource, Source
from wconv.formats.zarr import crc32c, zstd

MANIFEST = "manifest.ocdbt"

MANIFEST_MAGIC = bytes.fromhex("0cdb3a2a")
NODE_MAGIC = bytes.fromhex("0cdb20de")

NODE_LIMIT = 64 << 20
"""Bytes of a node, unpacked: TensorStore makes them of 8 MiB."""

TOTAL_LIMIT = 512 << 20
"""Bytes of all nodes: a million chunks take a fifth."""

KEYS_LIMIT = 2_000_000
"""Keys of a tree."""

HEIGHT_LIMIT = 20
"""Nodes on the way to a value."""

KEY_LIMIT = 4096
"""Bytes of a key."""


class ValuePlace(NamedTuple):
    """A range of a data file, which is named below the directory of the manifest."""

    file: str
    offset: int
    length: int


class _Child(NamedTuple):
    prefix: bytes
    place: ValuePlace


Reader = Callable[[ValuePlace], Source]
"""The bytes of a range; it checks that the file is there and within the directory."""


class _Bytes:
    """The fields of a record, one after another."""

    def __init__(self, data: bytes, where: str) -> None:
        self.data, self.at, self.where = data, 0, where

    def damaged(self, why: str = "it ends early") -> FormatError:
        return FormatError(f"{self.where} is damaged: {why}")

    def take(self, count: int) -> bytes:
        found = self.data[self.at : self.at + count]
        if len(found) != count:
            raise self.damaged()
        self.at += count
        return found

    def varint(self) -> int:
        value = shift = 0
        data, at = self.data, self.at
        while True:
            if at >= len(data) or shift > 63:
                raise self.damaged()
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                self.at = at
                return value
            shift += 7

    def varints(self, count: int) -> list[int]:
        if count > len(self.data) - self.at:
            raise self.damaged()
        return [self.varint() for _ in range(count)]

    def end(self) -> None:
        if self.at != len(self.data):
            raise self.damaged("it goes on after its end")


def read(manifest: Source, reader: Reader) -> dict[bytes, Source]:
    """Every key of the newest version, and the bytes of its value.

    Raises:
        FormatError: the tree is damaged, or a file of it is missing.
        UnsafeError: it is larger than that of any checkpoint.
    """
    body, packed = _unframed(manifest, MANIFEST_MAGIC)
    del packed
    body.take(16)
    if body.varint() != 0:
        raise FormatError(f"{manifest.where} has its versions in other files, which wconv does not read")
    body.varints(2)
    body.take(1)
    if body.varint() == 1:
        body.take(4)
    files = _files(body)
    count = body.varint()
    body.varints(count)
    heights = body.take(count)
    names, offsets, lengths = (body.varints(count) for _ in range(3))
    if not count:
        return {}
    found: dict[bytes, Source] = {}
    if not heights or names[-1] >= len(files) or heights[-1] > HEIGHT_LIMIT:
        raise body.damaged("its newest version is nowhere")
    if offsets[-1] == lengths[-1] == 2**64 - 1:
        return {}
    root = ValuePlace(files[names[-1]], offsets[-1], lengths[-1])
    pending = [(heights[-1], _Child(b"", root))]
    total = 0
    while pending:
        height, child = pending.pop()
        node, size = _unframed(reader(child.place), NODE_MAGIC)
        total += size
        if total > TOTAL_LIMIT:
            raise UnsafeError(
                f"{manifest.where} leads to more than {TOTAL_LIMIT >> 20} MiB of nodes: refused"
            )
        for key, value in _entries(node, height, child.prefix, reader):
            if isinstance(value, Source):
                if key in found:
                    raise node.damaged(f"{key!r:.80} stands in the tree twice")
                found[key] = value
            else:
                pending.append((height - 1, value))
        if len(found) + len(pending) > KEYS_LIMIT:
            raise UnsafeError(f"{manifest.where} has more than {KEYS_LIMIT:,} keys: refused")
    return found


def _unframed(source: Source, magic: bytes) -> tuple[_Bytes, int]:
    """The fields of a manifest or a node, and how many bytes they are."""
    if source.size > NODE_LIMIT:
        raise UnsafeError(f"{source.where} has a node of {source.size:,} bytes: refused")
    data = source.read(0, source.size)
    frame = _Bytes(data, source.where)
    if frame.take(4) != magic:
        raise frame.damaged("it does not begin as OCDBT does")
    if int.from_bytes(frame.take(8), "little") != len(data):
        raise frame.damaged("it is of another length than it says")
    if len(data) < 18 or crc32c.crc32c(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise frame.damaged("its checksum is wrong; download it again")
    version, method = frame.varint(), frame.varint()
    if version != 0 or method > 1:
        raise FormatError(f"{source.where} is of OCDBT's version {version}.{method}: 0 is read")
    body = data[frame.at : -4]
    if method:
        body = zstd.unpack(body, NODE_LIMIT, source.where)
    return _Bytes(body, source.where), len(body)


def _files(fields: _Bytes) -> list[str]:
    """A table of data files: each shares the beginning of its path with the one before."""
    count = fields.varint()
    shared = [0, *fields.varints(count - 1)] if count else []
    own = fields.varints(count)
    bases = fields.varints(count)
    found: list[str] = []
    path = b""
    for begin, length, base in zip(shared, own, bases, strict=True):
        if begin > len(path) or begin + length > KEY_LIMIT or base > begin + length:
            raise fields.damaged("a path is none")
        path = path[:begin] + fields.take(length)
        try:
            found.append(path.decode())
        except UnicodeDecodeError:
            raise fields.damaged("a path is no text") from None
    return found


def _entries(
    fields: _Bytes, height: int, prefix: bytes, reader: Reader
) -> Iterator[tuple[bytes, Source | _Child]]:
    """A node's keys: with their values in a leaf, with the nodes below elsewhere."""
    if fields.take(1)[0] != height:
        raise fields.damaged("a node is of another height than was told")
    files = _files(fields)
    count = fields.varint()
    shared = [0, *fields.varints(count - 1)] if count else []
    own = fields.varints(count)
    common = fields.varints(count) if height else []
    keys: list[bytes] = []
    key = b""
    for begin, length in zip(shared, own, strict=True):
        if begin > len(key) or len(prefix) + begin + length > KEY_LIMIT:
            raise fields.damaged("a key is none")
        key = key[:begin] + fields.take(length)
        keys.append(key)
    if height:
        names, offsets, lengths = (fields.varints(count) for _ in range(3))
        for _ in range(3):
            fields.varints(count)
        fields.end()
        for at, key in enumerate(keys):
            if names[at] >= len(files) or common[at] > len(key):
                raise fields.damaged("a node is nowhere")
            place = ValuePlace(files[names[at]], offsets[at], lengths[at])
            yield prefix + key, _Child(prefix + key[: common[at]], place)
        return
    lengths = fields.varints(count)
    kinds = fields.take(count)
    if any(kind > 1 for kind in kinds):
        raise fields.damaged("a value is of no kind")
    apart = kinds.count(1)
    names, offsets = fields.varints(apart), fields.varints(apart)
    if any(name >= len(files) for name in names):
        raise fields.damaged("a value is nowhere")
    at = 0
    for key, length, kind in zip(keys, lengths, kinds, strict=True):
        if kind:
            yield prefix + key, reader(ValuePlace(files[names[at]], offsets[at], length))
            at += 1
        else:
            yield prefix + key, MemorySource(fields.take(length), fields.where)
    fields.end()
