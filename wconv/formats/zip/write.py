"""The bytes of a zip of stored entries, planned before any of them is written.

Large entries are holes at known, aligned offsets: they can be filled in any order, by several threads, and
their checksums put into place at the end.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

ALIGNMENT = 64
"""Bytes to whose multiples entries are moved, so that any dtype can be mapped there; torch's choice too."""

LIMIT = 0xFFFFFFFF
"""Sizes and offsets from here on are fields in fields of 64 bits."""

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
    """A zip without the content of its large entries; of hundreds of thousands, in little memory.

    Attributes:
        offsets: where each large entry's content begins.
        nbytes: of the whole file.
        known: all but those contents, one after another.
        begins, ends: of each piece of it, where it begins in the file and ends in `known`.
        local, central: for each large entry the two offsets at which its CRC-32 stands, zero until then.
    """

    offsets: Sequence[int]
    nbytes: int
    known: bytes | bytearray
    begins: Sequence[int]
    ends: Sequence[int]
    local: Sequence[int]
    central: Sequence[int]

    @property
    def pieces(self) -> Iterator[tuple[int, memoryview]]:
        """Offset and bytes of all that is known; they and the contents cover the file without a gap."""
        view, start = memoryview(self.known), 0
        for begin, end in zip(self.begins, self.ends, strict=True):
            yield begin, view[start:end]
            start = end

    @property
    def checksums(self) -> Iterator[tuple[int, int]]:
        """`local` and `central`, by entries."""
        return zip(self.local, self.central, strict=True)


@dataclass(slots=True)
class _Directory:
    """The central directory, as far as entries are known."""

    data: bytearray = field(default_factory=bytearray)
    count: int = 0


def arrange(small: Iterable[tuple[str, bytes]], large: Iterable[tuple[str, int]], last: bytes) -> Arranged:
    """Plans a zip.

    Args:
        small: names and contents of the entries that come first.
        large: names and sizes of those whose content is written later.
        last: the content of an entry `version` beside the first one, which ends the file.
    """
    folder, directory = "", _Directory()
    offsets, begins, ends, local, central = (array("Q") for _ in range(5))
    known, skipped = bytearray(), 0
    begins.append(0)
    for name, data in small:
        folder = name.rpartition("/")[0]
        known += _add(directory, name, len(data), zlib.crc32(data), len(known))
        known += data
    for name, size in large:
        here = len(known) + skipped
        local.append(here + CHECKSUM_IN_LOCAL)
        central.append(len(directory.data) + CHECKSUM_IN_CENTRAL)
        known += _add(directory, name, size, 0, here)
        ends.append(len(known))
        offsets.append(len(known) + skipped)
        skipped += size
        begins.append(len(known) + skipped)
    known += _add(directory, f"{folder}/version", len(last), zlib.crc32(last), len(known) + skipped) + last
    start = len(known) + skipped
    known += directory.data
    known += _end(directory.count, start, len(directory.data))
    directory.data.clear()
    ends.append(len(known))
    for at, place in enumerate(central):
        central[at] = start + place
    return Arranged(offsets, len(known) + skipped, known, begins, ends, local, central)


def _add(directory: _Directory, name: str, size: int, checksum: int, offset: int) -> bytes:
    """The header of an entry that begins at `offset`, padded so that its content is aligned."""
    raw = name.encode(errors="replace")
    directory.data += _central(raw, size, checksum, offset)
    directory.count += 1
    large = size >= LIMIT
    sizes = struct.pack("<2H2Q", 1, 16, size, size) if large else b""
    padding = -(offset + LOCAL.size + len(raw) + len(sizes) + 4) % ALIGNMENT
    extra = sizes + b"FB" + struct.pack("<H", padding) + b"Z" * padding
    fields = _size_fields(size)
    return (
        LOCAL.pack(
            b"PK\x03\x04",
            VERSION_64 if large else VERSION,
            _flags(raw),
            0,
            0,
            NEW_YEAR_1980,
            checksum,
            fields,
            fields,
            len(raw),
            len(extra),
        )
        + raw
        + extra
    )


def _central(name: bytes, size: int, checksum: int, offset: int) -> bytes:
    wide = [value for value in (size, size, offset) if value >= LIMIT]
    extra = struct.pack(f"<2H{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
    version = VERSION_64 if wide else VERSION
    return (
        CENTRAL.pack(
            b"PK\x01\x02",
            version,
            version,
            _flags(name),
            0,
            0,
            NEW_YEAR_1980,
            checksum,
            _size_fields(size),
            _size_fields(size),
            len(name),
            len(extra),
            0,
            0,
            0,
            OWNER_MAY,
            _size_fields(offset),
        )
        + name
        + extra
    )


def _end(count: int, start: int, nbytes: int) -> bytes:
    """The end of the central directory, which begins at `start`."""
    fields = _count_fields(count)
    end = END.pack(b"PK\x05\x06", 0, 0, fields, fields, _size_fields(nbytes), _size_fields(start), 0)
    if count < ENTRIES_LIMIT and start < LIMIT and nbytes < LIMIT:
        return end
    wide = END_64.pack(
        b"PK\x06\x06", END_64.size - 12, VERSION_64, VERSION_64, 0, 0, count, count, nbytes, start
    )
    return wide + LOCATOR_64.pack(b"PK\x06\x07", 0, start + nbytes, 1) + end


def _size_fields(value: int) -> int:
    """A size or offset in 32 bits, of which all are set where it stands elsewhere in 64."""
    return min(value, LIMIT)


def _count_fields(count: int) -> int:
    return min(count, ENTRIES_LIMIT)


def _flags(name: bytes) -> int:
    return 0 if name.isascii() else UTF8
