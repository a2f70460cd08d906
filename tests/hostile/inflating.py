"""Archives whose deflated members are, or claim to be, far larger than the file."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterator

from tests.hostile.assemble import pickled, storage, tensor
from tests.hostile.case import Case, refused
from tests.hostile.containers import WEIGHTS, Entry, deflate, state_dict, zipped

LONG = 300 << 20
GIB = 1 << 30

REPEATED: dict[str, bytes] = {
    "nones": b"N",
    "lists": b"]",
    "dicts": b"}",
    "sets": b"\x8f",
    "marks": b"(",
    "memos": b"N\x94",
    "numbers": b"J\0\0\0\1",
    "doubles": b"G" + bytes(7) + b"\1",
    "tuples": b"NN\x86",
    "texts": b"\x8c\1a",
    "byte-arrays": b"\x96" + bytes(8),
    "names": b"ca\nb\n",
    "records": b"ca\nb\n)R",
}
"""Opcodes of which hundreds of megabytes deflate to nearly nothing."""


@functools.cache
def _stream(unit: bytes, size: int, first: bytes = b"") -> bytes:
    """A deflate stream of `first` and then `unit` again and again, written without packing all of it."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = packer.compress(first) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(
        (unit * (1 << 20))[: 1 << 20 if len(unit) == 1 else (1 << 20) // len(unit) * len(unit)]
    )
    return head + (block + packer.flush(zlib.Z_FULL_FLUSH)) * (size >> 20) + deflate(b"")


def _member(name: str, raw: bytes, size: int) -> Entry:
    return Entry(name, method=8, size=size, raw=raw)


def _archives() -> dict[str, list[Entry]]:
    program = pickled(state_dict())
    whole = Entry("a/data.pkl", program)
    weights = Entry("a/data/0", WEIGHTS)
    zeros, some = _stream(b"\0", 2 * GIB), _stream(b"\0", 1 << 20)
    wide = Entry("a/data.pkl", pickled({"w": tensor(storage(numel=GIB // 2), size=(GIB // 2,))}))
    appends = _stream(b"Na", LONG, b"]")
    return {
        "pickle-of-zeros": [_member("a/data.pkl", zeros, 2 * GIB)],
        "pickle-claims-4-gib": [_member("a/data.pkl", deflate(program), 0xFFFFFFFE)],
        "pickle-longer-than-claimed": [_member("a/data.pkl", zeros, len(program)), weights],
        "pickle-shorter-than-claimed": [_member("a/data.pkl", deflate(program), len(program) + 9), weights],
        "pickle-of-appends": [_member("a/data.pkl", appends, LONG + 1)],
        "storage-of-zeros": [wide, _member("a/data/0", zeros, 2 * GIB)],
        "storage-longer-than-claimed": [whole, _member("a/data/0", some, 16)],
        "storage-shorter-than-claimed": [whole, _member("a/data/0", deflate(b"12"), 16)],
        "storage-claims-4-gib": [wide, _member("a/data/0", deflate(WEIGHTS), 0xFFFFFFFE)],
        "storage-not-deflate": [whole, _member("a/data/0", b"\xff" * 40, 16)],
        "storage-cut-off": [whole, _member("a/data/0", deflate(WEIGHTS)[:5], 16)],
        "byteorder-of-zeros": [whole, _member("a/byteorder", zeros, 2 * GIB), weights],
        "constants-of-zeros": [whole, _member("a/constants.pkl", zeros, 2 * GIB), weights],
        "npz-of-zeros": [_member("w.npy", zeros, 2 * GIB)],
        "npz-header-of-spaces": [_member("w.npy", _stream(b" ", LONG, b"\x93NUMPY\2\0\0\0\0\x10"), LONG)],
        "pt2-table-of-spaces": [
            Entry("m/archive_format", b"pt2"),
            _member("m/data/weights/model_weights_config.json", _stream(b" ", LONG), LONG),
        ],
    }


def cases() -> Iterator[Case]:
    for name, entries in _archives().items():
        yield refused(f"inflating-{name}", functools.partial(zipped, entries), seconds=3.0)
    for name, unit in REPEATED.items():
        member = _member("a/data.pkl", _stream(unit, LONG), LONG // len(unit) * len(unit))
        yield refused(f"inflating-pickle-of-{name}", functools.partial(zipped, [member]), seconds=8.0)
