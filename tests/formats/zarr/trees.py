"""Writers of OCDBT's trees. They believe every lie that they are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wconv.formats.zarr.crc32c import crc32c

MANIFEST, NODE = bytes.fromhex("0cdb3a2a"), bytes.fromhex("0cdb20de")


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes([value])


def varints(values: Sequence[int]) -> bytes:
    return b"".join(map(varint, values))


def framed(magic: bytes, body: bytes, *, version: int = 0, method: int = 0) -> bytes:
    rest = varint(version) + varint(method) + body
    whole = magic + (len(magic) + 8 + len(rest) + 4).to_bytes(8, "little") + rest
    return whole + crc32c(whole).to_bytes(4, "little")


def table(names: Sequence[str]) -> bytes:
    data = [name.encode() for name in names]
    shared = varints([0] * (len(data) - 1))
    return (
        varint(len(data)) + shared + varints(list(map(len, data))) + varints([0] * len(data)) + b"".join(data)
    )


@dataclass(frozen=True)
class Value:
    """A value in a node: itself, or a range of the file with that number."""

    data: bytes = b""
    file: int | None = None
    offset: int = 0
    length: int = 0


def leaf(entries: Sequence[tuple[bytes, Value]], names: Sequence[str] = ("d/x",), height: int = 0) -> bytes:
    keys, values = [key for key, _ in entries], [value for _, value in entries]
    apart = [value for value in values if value.file is not None]
    body = bytes([height]) + table(names) + varint(len(keys))
    body += varints([0] * (len(keys) - 1)) + varints(list(map(len, keys))) + b"".join(keys)
    body += varints([len(value.data) if value.file is None else value.length for value in values])
    body += bytes(value.file is not None for value in values)
    body += varints([value.file or 0 for value in apart]) + varints([value.offset for value in apart])
    return framed(NODE, body + b"".join(value.data for value in values if value.file is None))


def inner(
    entries: Sequence[tuple[bytes, int, int, int]], names: Sequence[str] = ("d/x",), height: int = 1
) -> bytes:
    """A node above others: keys, lengths of the prefix that all below have, and their ranges of the file."""
    keys = [entry[0] for entry in entries]
    body = bytes([height]) + table(names) + varint(len(keys))
    body += varints([0] * (len(keys) - 1)) + varints(list(map(len, keys)))
    body += varints([entry[1] for entry in entries]) + b"".join(keys)
    body += varints([0] * len(keys)) + varints([entry[2] for entry in entries])
    body += varints([entry[3] for entry in entries]) + varints([1] * 3 * len(keys))
    return framed(NODE, body)


def manifest(offset: int, length: int, *, height: int = 0, name: str = "d/x", kind: int = 0) -> bytes:
    body = bytes(16) + varints([kind, 100, 8 << 20]) + b"\4" + varint(0) + table([name])
    body += varint(1) + varint(1) + bytes([height]) + varints([0, offset, length, 1, 1, 1]) + bytes(8)
    return framed(MANIFEST, body + varint(0))


def write(directory: Path, node: bytes, *, height: int = 0, before: bytes = b"", name: str = "d/x") -> None:
    """A checkpoint whose root node lies in `d/x` after other bytes."""
    (directory / "d").mkdir(parents=True, exist_ok=True)
    (directory / "d" / "x").write_bytes(before + node)
    (directory / "manifest.ocdbt").write_bytes(manifest(len(before), len(node), height=height, name=name))
