"""The bytes of a zip of stored entries, planned before any of them is written.

Large entries are holes at known, aligned offsets: they can be filled in any order, by several threads, and
their checksums put into place at the end.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

ALIGNMENT = 64
"""Bytes to whose multiples entries are moved, so that any dtype can be mapped there; torch's choice too."""

LIMIT = 0xFFFFFFFF
"""Sizes and offsets from here on are told in fields of 64 bits."""

ENTRIES_LIMIT = 0xFFFF
NEW_YEAR_1980 = (1 << 5) | 1
"""The date of every entry: equal content gives equal files."""

UTF8 = 0x800
VERSION, VERSION_64 = 20, 45
OWNER_MAY = 0o600 << 16

LOCAL = struct.Struct("<4s5H3I2H")
CENTRAL = struct.Struct("<4s6H3I5H2I")
END = struct.Struct("<4s4H2IH")
END_64 = struct.Struct("<4sQ2H2I4Q")
LOCATOR_64 = struct.Struct("<4sIQI")
CHECKSUM_IN_LOCAL, CHECKSUM_IN_CENTRAL = 14, 16


@dataclass(frozen=True, slots=True)
class Arranged:
    """A zip without the content of its large entries.

    Attributes:
        offsets: where each large entry's content begins.
        pieces: offset and bytes of all else; they and the contents cover the file without a gap.
        nbytes: of the whole file.
        checksums: for each large entry the two offsets at which its CRC-32 stands, zero until then.
    """

    offsets: tuple[int, ...]
    pieces: tuple[tuple[int, bytes], ...]
    nbytes: int
    checksums: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class _Record:
    """An entry's place: what the central directory says of it."""

    name: bytes
    size: int
    checksum: int
    offset: int


def arrange(small: Iterable[tuple[str, bytes]], large: Iterable[tuple[str, int]], last: bytes) -> Arranged:
    """Plans a zip.

    Args:
        small: names and contents of the entries that come first.
        large: names and sizes of those whose content is written later.
        last: the content of an entry `version` beside the first one, which ends the file.
    """
    first, folder = list(small), ""
    records: list[_Record] = []
    pieces: list[tuple[int, bytes]] = []
    offsets: list[int] = []
    run, begin = bytearray(), 0
    for name, data in first:
        folder = name.rpartition("/")[0]
        header = _add(records, name, len(data), zlib.crc32(data), begin + len(run))
        run += header + data
    for name, size in large:
        run += _add(records, name, size, 0, begin + len(run))
        pieces.append((begin, bytes(run)))
        offsets.append(begin + len(run))
        begin, run = offsets[-1] + size, bytearray()
    run += _add(records, f"{folder}/version", len(last), zlib.crc32(last), begin + len(run)) + last
    start = begin + len(run)
    places = []
    for record in records:
        places.append(begin + len(run) + CHECKSUM_IN_CENTRAL)
        run += _central(record)
    run += _end(len(records), start, begin + len(run) - start)
    pieces.append((begin, bytes(run)))
    between = slice(len(first), len(first) + len(offsets))
    checksums = [
        (record.offset + CHECKSUM_IN_LOCAL, place)
        for record, place in zip(records[between], places[between], strict=True)
    ]
    return Arranged(tuple(offsets), tuple(pieces), begin + len(run), tuple(checksums))


def _add(records: list[_Record], name: str, size: int, checksum: int, offset: int) -> bytes:
    """The header of an entry that begins at `offset`, padded so that its content is aligned."""
    raw = name.encode(errors="replace")
    records.append(_Record(raw, size, checksum, offset))
    large = size >= LIMIT
    sizes = struct.pack("<2H2Q", 1, 16, size, size) if large else b""
    padding = -(offset + LOCAL.size + len(raw) + len(sizes) + 4) % ALIGNMENT
    extra = sizes + b"FB" + struct.pack("<H", padding) + b"Z" * padding
    told = _told(size)
    return (
        LOCAL.pack(
            b"PK\x03\x04",
            VERSION_64 if large else VERSION,
            _flags(raw),
            0,
            0,
            NEW_YEAR_1980,
            checksum,
            told,
            told,
            len(raw),
            len(extra),
        )
        + raw
        + extra
    )


def _central(record: _Record) -> bytes:
    size, offset = record.size, record.offset
    wide = [value for value in (size, size, offset) if value >= LIMIT]
    extra = struct.pack(f"<2H{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
    version = VERSION_64 if wide else VERSION
    return (
        CENTRAL.pack(
            b"PK\x01\x02",
            version,
            version,
            _flags(record.name),
            0,
            0,
            NEW_YEAR_1980,
            record.checksum,
            _told(size),
            _told(size),
            len(record.name),
            len(extra),
            0,
            0,
            0,
            OWNER_MAY,
            _told(offset),
        )
        + record.name
        + extra
    )


def _end(count: int, start: int, nbytes: int) -> bytes:
    """The end of the central directory, which begins at `start`."""
    told = _told_count(count)
    end = END.pack(b"PK\x05\x06", 0, 0, told, told, _told(nbytes), _told(start), 0)
    if count < ENTRIES_LIMIT and start < LIMIT and nbytes < LIMIT:
        return end
    wide = END_64.pack(
        b"PK\x06\x06", END_64.size - 12, VERSION_64, VERSION_64, 0, 0, count, count, nbytes, start
    )
    return wide + LOCATOR_64.pack(b"PK\x06\x07", 0, start + nbytes, 1) + end


def _told(value: int) -> int:
    """A size or offset in 32 bits, of which all are set where it stands elsewhere in 64."""
    return min(value, LIMIT)


def _told_count(count: int) -> int:
    return min(count, ENTRIES_LIMIT)


def _flags(name: bytes) -> int:
    return 0 if name.isascii() else UTF8
