"""Where pickles lie in a file: alone, one after another, in archives, behind arrays' headers, compressed."""

from __future__ import annotations

import bz2
import contextlib
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

from wconv.errors import WconvError
from wconv.formats.sources import MemorySource, Source

INFLATED = 256 << 20
"""Bytes that a compressed part may become."""

MEMBERS = 200_000
"""Members of an archive that are looked at."""

PROTOCOLS = tuple(b"\x80" + bytes([number]) for number in range(2, 6))

NUMPY = b"\x93NUMPY"


@dataclass(frozen=True, slots=True)
class Place:
    """Bytes in which a pickle may begin, and their name within the file ("" for the file itself)."""

    name: str
    source: Source


@dataclass(frozen=True, slots=True)
class Oddity:
    """Something about a container that no honest writer does, or that cannot be looked into."""

    name: str
    text: str


def places(source: Source) -> Iterator[Place | Oddity]:
    """All places of a file where a pickle may begin."""
    start = source.read(0, min(600, source.size))
    if start.startswith(b"PK\x03\x04") or _ends_as_zip(source):
        yield from _members(source)
        if not start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            yield Place("", source)
    elif start.startswith(NUMPY):
        yield from _array("", source)
    elif start[257:262] == b"ustar" or _is_old_tar(start):
        yield from _tar(source)
    elif start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00")) or start[:2] in (
        b"x\x01",
        b"x\x9c",
        b"x\xda",
    ):
        yield from _compressed(source, start)
    elif start.startswith((b"7z\xbc\xaf\x27\x1c", b"Rar!", b"\x28\xb5\x2f\xfd")):
        yield Oddity("", "is compressed in a form that is not looked into: unpack it and scan again")
    else:
        yield Place("", source)


def may_be_pickle(start: bytes) -> bool:
    """Whether bytes may be a pickle's first; those of protocol 0 and 1 have no signature."""
    return start.startswith(PROTOCOLS) or start[:1] in (
        b"(",
        b"]",
        b"}",
        b"c",
        b"\x8c",
        b"X",
        b"S",
        b"V",
        b"I",
        b"i",
    )


def _ends_as_zip(source: Source) -> bool:
    tail = min(source.size, 66_000)
    return b"PK\x05\x06" in source.read(source.size - tail, tail)


class _File(io.RawIOBase):
    """A source as a file that `zipfile` and `tarfile` read."""

    def __init__(self, source: Source) -> None:
        self._source, self._at = source, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(offset + (0, self._at, self._source.size)[whence], 0)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        count = max(min(len(view), self._source.size - self._at), 0)
        view[:count] = self._source.read(self._at, count)
        self._at += count
        return count


def _members(source: Source) -> Iterator[Place | Oddity]:
    """The members of an archive, and of those that stand before it in the file."""
    for _ in range(MEMBERS):
        infos = yield from _infos(source)
        if infos is None:
            return
        yield from _looked_into(source, infos)
        # the directory at the end is that of the last archive
        before = min((info.header_offset for info in infos), default=0)
        if not before or source.read(0, 4) != b"PK\x03\x04":
            return
        source = source.part(0, before)
    yield Oddity("", f"has more than {MEMBERS:,} archives: the first ones were not looked at")


def _infos(source: Source) -> Generator[Oddity, None, list[zipfile.ZipInfo] | None]:
    try:
        with zipfile.ZipFile(io.BufferedReader(_File(source))) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, struct.error) as error:
        yield Oddity("", f"is a damaged zip archive ({error}): what it would do cannot be told")
        return None


def _looked_into(source: Source, infos: Sequence[zipfile.ZipInfo]) -> Iterator[Place | Oddity]:
    names: set[str] = set()
    for info in infos[:MEMBERS]:
        if info.filename in names:
            yield Oddity(info.filename, "stands twice in the archive: programs differ in which they read")
        names.add(info.filename)
        if info.filename.startswith("/") or ".." in info.filename.replace("\\", "/").split("/"):
            yield Oddity(info.filename, "has a name that leads out of the directory it would be unpacked in")
        if info.flag_bits & 1:
            yield Oddity(info.filename, "is marked as encrypted: if it is, what is in it cannot be told")
        yield from _member(source, info)
    if len(infos) > MEMBERS:
        yield Oddity("", f"has more than {MEMBERS:,} members: the rest was not looked at")


def _member(source: Source, info: zipfile.ZipInfo) -> Iterator[Place | Oddity]:
    """One member, found by the directory; what its local header says otherwise is told."""
    named = info.filename.endswith(
        (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".npy", ".npz", ".joblib")
    )
    try:
        header = source.read(info.header_offset, 30)
        if header[:4] != b"PK\x03\x04":
            raise WconvError("it has no header")
        name_size, extra_size = struct.unpack("<HH", header[26:30])
        local = source.read(info.header_offset + 30, name_size)
        begin = info.header_offset + 30 + name_size + extra_size
        if local != info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437", "replace"):
            yield Oddity(info.filename, f"is called {local[:80]!r} in its own header")
        if info.compress_type == zipfile.ZIP_STORED:
            part = source.part(begin, min(info.compress_size, source.size - begin))
        elif info.compress_type == zipfile.ZIP_DEFLATED:
            if not named and info.file_size > INFLATED:
                return
            inflater = zlib.decompressobj(-15)
            packed = source.read(begin, min(info.compress_size, source.size - begin))
            part = MemorySource(inflater.decompress(packed, INFLATED), f"{source.where}:{info.filename}")
            if inflater.unconsumed_tail:
                yield Oddity(
                    info.filename, f"becomes more than {INFLATED >> 20} MiB: the rest was not looked at"
                )
        else:
            yield Oddity(info.filename, "is compressed in a form that is not looked into")
            return
    except (WconvError, zlib.error) as error:
        yield Oddity(info.filename, f"cannot be read: {error}")
        return
    start = part.read(0, min(8, part.size))
    if start.startswith(NUMPY):
        yield from _array(info.filename, part)
    elif named or start.startswith(PROTOCOLS):
        yield Place(info.filename, part)


def _array(name: str, source: Source) -> Iterator[Place]:
    """NumPy keeps arrays of objects as a pickle behind the header."""
    version = source.read(6, 1)[0] if source.size > 12 else 1
    width = 2 if version == 1 else 4
    if source.size < 8 + width:
        return
    count = int.from_bytes(source.read(8, width), "little")
    begin = 8 + width + count
    if begin < source.size and count < 1 << 20 and b"O" in source.read(8 + width, count):
        yield Place(name, source.part(begin, source.size - begin))


def _is_old_tar(start: bytes) -> bool:
    with contextlib.suppress(tarfile.TarError, ValueError):
        tarfile.TarInfo.frombuf(start[:512], "utf-8", "surrogateescape")
        return True
    return False


def _tar(source: Source) -> Iterator[Place | Oddity]:
    try:
        with tarfile.open(fileobj=io.BufferedReader(_File(source)), mode="r:") as archive:
            for count, member in enumerate(archive):
                if count == MEMBERS:
                    yield Oddity("", f"has more than {MEMBERS:,} members: the rest was not looked at")
                    return
                if member.name.startswith("/") or ".." in member.name.split("/"):
                    yield Oddity(
                        member.name, "has a name that leads out of the directory it would be unpacked in"
                    )
                if member.isfile() and member.size and not member.sparse:
                    size = min(member.size, source.size - member.offset_data)
                    part = source.part(member.offset_data, size)
                    if may_be_pickle(part.read(0, min(8, size))):
                        yield Place(member.name, part)
    except (tarfile.TarError, ValueError, OSError) as error:
        yield Oddity("", f"is a damaged tar archive ({error})")


def _compressed(source: Source, start: bytes) -> Iterator[Place | Oddity]:
    packed = source.read(0, min(source.size, INFLATED))
    try:
        if start.startswith(b"BZh"):
            data = bz2.BZ2Decompressor().decompress(packed, INFLATED)
        elif start.startswith(b"\xfd7zXZ"):
            data = lzma.LZMADecompressor(memlimit=INFLATED).decompress(packed, INFLATED)
        else:
            data = zlib.decompressobj(47).decompress(packed, INFLATED)
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        yield Place("", source)
        return
    inside = MemorySource(data, source.where)
    if not data.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"x\x9c")):
        yield from places(inside)
