"""Views of a storage of three gigabytes in a file that is nearly all hole: only what they show is read."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from pathlib import Path

from tests.hostile.assemble import pickled, storage, tensor
from tests.hostile.case import Case
from tests.hostile.containers import Entry, torch_entries, zipped

NUMEL = 750_000_000
PLACES = {0: 1.0, 1: 2.0, 700_000_000: 3.0, 700_000_001: 4.0, NUMEL - 1: 5.0}
"""The elements that are not zero."""

VIEWS: dict[str, tuple[int, tuple[int, ...], tuple[int, ...], list[float]]] = {
    "two-far-apart": (0, (2,), (700_000_000,), [1.0, 3.0]),
    "columns-far-apart": (0, (2, 2), (1, 700_000_000), [1.0, 3.0, 2.0, 4.0]),
    "rows-far-apart": (0, (2, 2), (700_000_000, 1), [1.0, 2.0, 3.0, 4.0]),
    "last": (NUMEL - 1, (1,), (1,), [5.0]),
    "a-thousand-steps": (1, (1000,), (749_000,), [2.0, *[0.0] * 999]),
    "three-axes": (0, (1, 2, 2), (5, 700_000_000, 1), [1.0, 2.0, 3.0, 4.0]),
}


def _write(view: tuple[int, tuple[int, ...], tuple[int, ...], list[float]], directory: Path) -> Path:
    """An archive without the storage's bytes, cut before its directory; a hole goes in between."""
    offset, size, stride, _ = view
    count = 4 * NUMEL
    program = pickled({"w": tensor(storage(numel=NUMEL), offset, size, stride)})
    data = Entry("archive/data/0", size=count, packed_size=count, raw=b"")
    entries = [*torch_entries(program, {}), data]
    start = zipped(entries).index(b"PK\1\2")
    whole = zipped(entries, directory_at=start + count)
    path = directory / "model.bin"
    with path.open("wb") as file:
        file.write(whole[:start])
        for place, value in PLACES.items():
            file.seek(start + 4 * place)
            file.write(struct.pack("<f", value))
        file.seek(start + count)
        file.write(whole[start:])
    return path


def cases() -> Iterator[Case]:
    for name, view in VIEWS.items():
        write = functools.partial(_write, view)
        yield Case(f"hole-{name}", "inert", write, {"w": view[-1]}, seconds=1.0)
