"""The directory of a zip archive, read so that 100,000 entries cost a fraction of a second.

Written for archives that torch writes, which other readers stumble over: without checksums, with sizes only
in the central directory, padded for alignment, past 4 GiB and past 65,535 entries. An entry's data is found
by its own local header, which is compared with the directory first.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from wconv.errors import FormatError, UnsafeError
from wconv.formats.deflated import DeflatedSource
from wconv.formats.sources import Source

_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s4B4H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")

RATIO = 64
"""How many times its packed size a deflated member may have that is not a tensor's bytes, …"""

RATIO_FREE = 1 << 20
"""… above this many bytes. Pickles of thousands of tensors reach 20."""

STORED = 0
DEFLATED = 8


class ZipEntry(NamedTuple):
    """One member: where its local header is, its sizes, how it is packed."""

    name: bytes
    header: int
    packed: int
    size: int
    method: int
    encrypted: bool


class ZipDirectory:
    """The members of an archive by name.

    Attributes:
        source: the archive's bytes.
        entries: by name; bytes that are no UTF-8 are kept as surrogates.
    """

    __slots__ = ("_ahead", "_ahead_at", "_folders", "entries", "source")

    def __init__(self, source: Source) -> None:
        """Reads the directory.

        Raises:
            FormatError: there is none (a truncated file), it is damaged, or a name occurs twice.
        """
        self.source = source
        self.entries: dict[str, ZipEntry] = {}
        self._ahead = b""
        self._ahead_at = 0
        self._folders: dict[str, str | None] = {}
        start, size, count = _find(source)
        data = source.read(start, size)
        for entry in _entries(source, data, start):
            name = entry.name.decode("utf-8", "surrogateescape")
            if name in self.entries:
                raise FormatError(f"{source.where} is a damaged archive: {name!r:.100} occurs twice")
            self.entries[name] = entry
        if len(self.entries) != count:
            raise FormatError(
                f"{source.where} is a damaged archive: it announces {count:,} members and lists"
                f" {len(self.entries):,}"
            )

    def folder(self, member: str) -> str | None:
        """What the members' names start with ("archive/"), told by a member that has to be there.

        None where there is none of that name.

        Raises:
            FormatError: it is in several folders, none of which holds the others.
        """
        if member in self._folders:
            return self._folders[member]
        if member in self.entries:
            return ""
        ending = "/" + member
        found = [entry for entry in self.entries if entry.endswith(ending)]
        least = min((entry.count("/") for entry in found), default=0)
        outer = [entry for entry in found if entry.count("/") == least]
        if len(outer) > 1:
            raise FormatError(
                f"{self.source.where} holds several checkpoints, at {outer[0]!r:.80} and {outer[1]!r:.80}:"
                " unpack it and convert one"
            )
        found_at = self._folders[member] = outer[0].removesuffix(member) if outer else None
        return found_at

    def locate(self, entry: ZipEntry) -> int:
        """The first byte of a member's data, as it is in the archive.

        Raises:
            FormatError: the local header is missing or is another member's.
        """
        where = self.source.where
        length = _LOCAL.size + len(entry.name)
        # neighbours' headers mostly lie within one read
        at = entry.header - self._ahead_at
        if at < 0 or at + length > len(self._ahead):
            self._ahead_at = entry.header
            self._ahead = self.source.read(
                entry.header, min(max(length, 1 << 14), self.source.size - entry.header)
            )
            at = 0
        if at + length > len(self._ahead):
            raise FormatError(f"{where} is a damaged archive: {entry.name!r:.100} lies outside of it")
        header = _LOCAL.unpack_from(self._ahead, at)
        name = self._ahead[at + _LOCAL.size : at + length]
        if header[0] != b"PK\x03\x04" or name != entry.name or header[-2] != len(entry.name):
            raise FormatError(
                f"{where} is a damaged archive: {entry.name!r:.100} is not where the directory says"
            )
        start = entry.header + length + int(header[-1])
        if start + entry.packed > self.source.size:
            raise FormatError(f"{where} is truncated: it ends within {entry.name!r:.100}; download it again")
        return start

    def open(self, name: str) -> tuple[Source, int, int]:
        """A member's bytes: a source, where in it they start, and how many they are.

        Raises:
            FormatError: there is no such member, or it is packed in a way that torch does not use.
            UnsafeError: it claims to inflate to more than is possible.
        """
        entry = self.entries.get(name)
        where = self.source.where
        if entry is None:
            raise FormatError(f"{where} is incomplete: it has no member {printable(name)}")
        _, _, packed_size, size, method, encrypted = entry
        if encrypted:
            raise FormatError(f"{where} is encrypted")
        start = self.locate(entry)
        if method == STORED:
            if packed_size != size:
                raise FormatError(f"{where} is a damaged archive: {printable(name)} has two sizes")
            return self.source, start, size
        if method == DEFLATED:
            packed = self.source.part(start, packed_size)
            return DeflatedSource(packed, size, f"{printable(name)} in {where}"), 0, size
        raise FormatError(
            f"{where} packs {printable(name)} by method {method}: re-pack it without compression"
        )

    def part(self, name: str) -> Source:
        """A member's bytes as a source of its own. Raises as `open` does."""
        source, start, _ = self.open(name)
        entry = self.entries[name]
        if not name.endswith(".npy") and entry.size > max(RATIO * entry.packed, RATIO_FREE):
            raise UnsafeError(
                f"{self.source.where} packs {entry.size:,} bytes of {printable(name)} into"
                f" {entry.packed:,}: refused"
            )
        return source if source is not self.source else source.part(start, self.entries[name].size)

    def read(self, name: str, limit: int) -> bytes:
        """A member's bytes. Raises as `open` does, and `UnsafeError` above `limit` bytes."""
        source = self.part(name)
        if source.size > limit:
            raise UnsafeError(f"{self.source.where} has {source.size:,} bytes of {printable(name)}: refused")
        return source.read(0, source.size)


def printable(name: str) -> str:
    """A member's name, fit for one line."""
    return name[:100].encode("unicode_escape", "surrogateescape").decode("ascii", "replace")


def _find(source: Source) -> tuple[int, int, int]:
    """Where the central directory starts, its bytes and its entries."""
    where = source.where
    tail_size = min(source.size, 65_535 + _END.size)
    tail_at = source.size - tail_size
    tail = source.read(tail_at, tail_size)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + _END.size > tail_size:
        raise FormatError(
            f"{where} is truncated: the directory at the end of the archive is missing; download it again"
        )
    _, disk, first, _, count, size, start, _ = _END.unpack_from(tail, at)
    end = tail_at + at
    locator_at = end - _END64_LOCATOR.size
    if locator_at >= 0:
        signature, _, end64, _ = _END64_LOCATOR.unpack(source.read(locator_at, _END64_LOCATOR.size))
        if signature == b"PK\x06\x07" and end64 <= locator_at - _END64.size:
            fields = _END64.unpack(source.read(end64, _END64.size))
            if fields[0] != b"PK\x06\x06":
                raise FormatError(
                    f"{where} is a damaged archive: its zip64 directory is not where it should be"
                )
            disk, first, count, size, start = fields[4], fields[5], fields[7], fields[8], fields[9]
            end = end64
    if disk or first:
        raise FormatError(f"{where} is one part of an archive in several: join them first")
    if start + size > end or count * _CENTRAL.size > size:
        raise FormatError(f"{where} is a damaged archive: its directory does not fit")
    return start, size, count


def _entries(source: Source, data: bytes, end: int) -> Iterator[ZipEntry]:
    at, fixed, unpack = 0, _CENTRAL.size, _CENTRAL.unpack_from
    while at < len(data):
        if len(data) - at < fixed:
            raise FormatError(f"{source.where} is a damaged archive: its directory is cut off")
        fields = unpack(data, at)
        # the numbers count the fields of a central directory header as the zip specification lists them
        flags, method = fields[5], fields[6]
        packed, size = fields[10], fields[11]
        name_length, extra_length, comment_length = fields[12], fields[13], fields[14]
        header = fields[18]
        name_end = at + fixed + name_length
        stop = name_end + extra_length + comment_length
        if fields[0] != b"PK\x01\x02" or stop > len(data):
            raise FormatError(f"{source.where} is a damaged archive: its directory is cut off")
        if 0xFFFFFFFF in (packed, size, header):
            extra = data[name_end : name_end + extra_length]
            size, packed, header = _wide(source, extra, size, packed, header)
        if header + _LOCAL.size + name_length + packed > end:
            raise FormatError(f"{source.where} is a damaged archive: a member lies outside of it")
        yield ZipEntry(data[at + fixed : name_end], header, packed, size, method, bool(flags & 1))
        at = stop


def _wide(source: Source, extra: bytes, size: int, packed: int, header: int) -> tuple[int, int, int]:
    """The sizes and the offset that did not fit into 32 bits, from the zip64 field."""
    at = 0
    while at + 4 <= len(extra):
        tag, length = struct.unpack_from("<2H", extra, at)
        if tag == 1:
            field = extra[at + 4 : at + 4 + length]
            values = iter(struct.unpack(f"<{len(field) // 8}Q", field[: len(field) // 8 * 8]))
            wide = [next(values, -1) if value == 0xFFFFFFFF else value for value in (size, packed, header)]
            if min(wide) >= 0:
                return wide[0], wide[1], wide[2]
            break
        at += 4 + length
    # a member of exactly 4 GiB - 1, or one whose wide field is damaged: the checks after this tell
    return size, packed, header
