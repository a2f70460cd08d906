"""Zip archives that lie about what is in them and where."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tests.hostile.assemble import Code, call, pickled, push, storage, tensor
from tests.hostile.case import Case, inert, refused
from tests.hostile.code import SYSTEM
from tests.hostile.containers import VALUES, WEIGHTS, Entry, state_dict, torch_entries, torch_zip, zipped

PROGRAM = pickled(state_dict())
HEAD = Entry("a/data.pkl", PROGRAM)
DATA = Entry("a/data/0", WEIGHTS)


def _data(**lies: object) -> list[Entry]:
    """A checkpoint whose storage's entry lies."""
    fields = {"name": "a/data/0", "data": WEIGHTS, **lies}
    return [HEAD, Entry(**fields), Entry("a/version", b"3\n")]  # type: ignore[arg-type]


def _wide(*numbers: int) -> bytes:
    """The zip64 field of an entry."""
    return struct.pack(f"<2H{len(numbers)}Q", 1, 8 * len(numbers), *numbers)


def _zip64_end(count: int, size: int, start: int, at: int, signature: bytes = b"PK\6\6") -> bytes:
    """A zip64 end record and its locator."""
    record = struct.pack("<4sQ2H2L4Q", signature, 44, 45, 45, 0, 0, count, count, size, start)
    return record + struct.pack("<4sLQL", b"PK\6\7", 0, at, 1)


def _members() -> dict[str, list[Entry]]:
    """Members that are not what the directory says."""
    big = 0xFFFFFFFF
    return {
        "offset-beyond": _data(offset=10**6),
        "offset-in-another": _data(offset=10),
        "offset-of-the-pickle": _data(offset=0),
        "offset-4-gib": _data(offset=big - 1),
        "size-beyond": _data(size=10**6, packed_size=10**6),
        "size-4-gib": _data(size=big - 1, packed_size=big - 1),
        "sizes-differ": _data(size=10**6),
        "packed-size-differs": _data(packed_size=4),
        "size-too-small": _data(size=8, packed_size=8),
        "size-zero": _data(size=0, packed_size=0),
        "local-name-differs": _data(local_name=b"a/data/1"),
        "local-name-longer": _data(local_name=b"a/data/0" + b"x" * 60_000),
        "local-name-empty": _data(local_name=b""),
        "encrypted": _data(flags=1),
        "method-unknown": _data(method=99, raw=WEIGHTS),
        "method-bzip2": _data(method=12, raw=WEIGHTS),
        "method-zstd": _data(method=93, raw=WEIGHTS),
        "wide-size-without-field": _data(size=big, packed_size=big),
        "wide-size-huge": _data(size=big, packed_size=big, extra=_wide(2**63, 2**63)),
        "wide-size-all-ones": _data(size=big, packed_size=big, extra=_wide(2**64 - 1, 2**64 - 1)),
        "wide-offset-huge": _data(offset=big, extra=_wide(2**64 - 1)),
        "wide-offset-wraps": _data(offset=big, extra=_wide(2**64 - 30)),
        "wide-field-cut": _data(size=big, packed_size=big, extra=struct.pack("<2H", 1, 16)),
        "wide-field-short": _data(size=big, packed_size=big, extra=_wide(16)),
        "extra-field-cut": _data(size=big, packed_size=big, extra=b"\1"),
        "pickle-encrypted": [Entry("a/data.pkl", PROGRAM, flags=1), DATA],
        "pickle-missing": [DATA],
        "pickle-empty": [Entry("a/data.pkl"), DATA],
        "pickle-is-a-directory": [Entry("a/data.pkl/"), DATA],
        "storage-missing": [HEAD],
        "no-members": [],
        "only-a-directory": [Entry("a/")],
        "two-data-pkl": [Entry("a/data.pkl", pickled(SYSTEM)), HEAD, DATA],
        "two-storages": [HEAD, DATA, Entry("a/data/0", WEIGHTS[::-1])],
        "two-roots": [HEAD, DATA, Entry("b/data.pkl", pickled(state_dict(x=tensor())))],
        "byteorder-unknown": [HEAD, Entry("a/byteorder", b"middle"), DATA],
        "byteorder-long": [HEAD, Entry("a/byteorder", b"little" * 10_000), DATA],
        "names-not-utf8": [Entry(b"\xff/data.pkl", PROGRAM)],
        "storage-key-not-a-number": [
            Entry("a/data.pkl", pickled({"w": tensor(storage(key="\x1b[2J\n"))})),
            DATA,
        ],
        "a-jar": [Entry("META-INF/MANIFEST.MF", b"Manifest-Version: 1.0\n"), Entry("A.class", b"\xca\xfe")],
        "a-document": [Entry("[Content_Types].xml", b"<x/>"), Entry("word/document.xml", b"<x/>")],
        "nested-zip-as-pickle": [Entry("a/data.pkl", torch_zip(state_dict()))],
    }


def _endings() -> dict[str, bytes]:
    """Directories that are cut, misplaced or miscounted."""
    entries = [HEAD, DATA]
    whole = zipped(entries)
    start = whole.index(b"PK\1\2")
    size = len(whole) - 22 - start
    return {
        "no-end": whole[:-22],
        "end-cut": whole[:-1],
        "directory-cut": whole[: start + 10],
        "count-too-large": zipped(entries, count=3),
        "count-too-small": zipped(entries, count=1),
        "count-65535": zipped(entries, count=65535),
        "directory-at-0": zipped(entries, directory_at=0),
        "directory-beyond": zipped(entries, directory_at=10**9),
        "directory-at-4-gib": zipped(entries, directory_at=0xFFFFFFFF),
        "directory-too-long": zipped(entries, directory_size=10**9),
        "directory-too-short": zipped(entries, directory_size=10),
        "directory-shifted": zipped(entries, directory_at=start + 1, directory_size=size - 1),
        "several-disks": zipped(entries, disk=1),
        "comment-longer-than-file": zipped(entries, comment_size=1000)[:-22] + b"PK\5\6",
        "zip64-count-huge": zipped(entries, zip64=_zip64_end(2**63, size, start, start + size)),
        "zip64-size-huge": zipped(entries, zip64=_zip64_end(2, 2**63, start, start + size)),
        "zip64-start-huge": zipped(entries, zip64=_zip64_end(2, size, 2**64 - 1, start + size)),
        "zip64-record-wrong": zipped(entries, zip64=_zip64_end(2, size, start, start + size, b"PK\6\5")),
        "end-within-comment": zipped(
            entries, comment=struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 9, 9, 9, 9, 0)
        ),
        "only-magic": b"PK\3\4",
        "magic-and-zeros": b"PK\3\4" + bytes(100),
        "empty-archive": zipped([]),
        "all-ends": b"PK\3\4" + b"PK\5\6" * 20_000,
        "truncated-half": whole[: len(whole) // 2],
    }


def _inert() -> Iterator[Case]:
    """Oddities that change nothing of what is read."""
    traversing = [Entry("../../evil", b"x"), Entry("/etc/evil", b"x"), Entry("a/../../evil", b"x")]
    yield inert("archive-names-traverse", zipped([HEAD, DATA, *traversing]))
    yield inert("archive-root-traverses", torch_zip(state_dict(), root="../.."))
    yield inert("archive-root-absolute", torch_zip(state_dict(), root="/etc"))
    yield inert("archive-root-odd", torch_zip(state_dict(), root="\x1b[2J\n"))
    yield inert("archive-code-member", zipped([HEAD, DATA, Entry("a/code/__init__.py", b"import os")]))
    yield inert(
        "archive-wrong-checksums", zipped(Entry(e.name, e.data, crc=1) for e in torch_entries(PROGRAM))
    )
    yield inert("archive-comment", zipped([HEAD, DATA], comment=b"hello"))
    yield inert("archive-order", zipped([DATA, Entry("a/version", b"3\n"), HEAD]))
    other = [Entry("b/data/0", WEIGHTS[::-1]), Entry("b/version", b"3\n")]
    yield inert("archive-other-folder", zipped([HEAD, DATA, *other]))
    same = call("collections", "OrderedDict", [("w", tensor())])
    yield inert(
        "archive-other-first-entry", zipped([Entry("z", b""), Entry("a/data.pkl", pickled(same)), DATA])
    )
    key = Code(push({"w": tensor(storage(key="0/../0"))}))
    yield refused("archive-key-normalises", torch_zip(key))
    yield inert(
        "archive-key-is-a-path",
        torch_zip({"w": tensor(storage(key="x/y"))}, {"x/y": WEIGHTS}),
        tensors={"w": VALUES},
    )


def cases() -> Iterator[Case]:
    for name, entries in _members().items():
        yield refused(f"archive-{name}", zipped(entries))
    for name, data in _endings().items():
        yield refused(f"archive-{name}", data)
    yield from _inert()
    overlapping = zipped([HEAD, Entry("a/data/0", WEIGHTS, offset=0, local_name=b"a/data/0")])
    yield refused("archive-entries-overlap", overlapping)
