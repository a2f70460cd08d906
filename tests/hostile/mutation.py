"""Hypothesis strategies for damaged files: bytes, opcodes, arguments and headers that no good file has."""

from __future__ import annotations

import contextlib
import io
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.hostile import good
from tests.hostile.assemble import call, pickled, push, tensor
from tests.hostile.containers import (
    WEIGHTS,
    Entry,
    legacy,
    npy,
    npy_header,
    safetensors,
    state_dict,
    tar_parts,
    torch_tar,
    torch_zip,
    torchscript_entries,
    zipped,
)

EDGES = (0, 1, 2, 3, 4, 5, 8, 16, 64, 127, 128, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**32)
WIDE_EDGES = (*EDGES, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30)
places = st.integers(0, 999_999).map(lambda number: number / 1_000_000)
"""Where in a file, as a part of its length: floats themselves would mostly be its start."""

numbers = st.one_of(
    st.sampled_from(WIDE_EDGES),
    st.sampled_from(WIDE_EDGES).map(lambda number: -number),
    st.integers(-20, 20),
)


def edits(donors: Sequence[bytes]) -> st.SearchStrategy[Callable[[bytes], bytes]]:
    """One change to a file's bytes."""

    def flip(place: float, mask: int) -> Callable[[bytes], bytes]:
        def edit(data: bytes) -> bytes:
            at = int(place * len(data))
            return data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :] if data else data

        return edit

    def overwrite(place: float, new: bytes) -> Callable[[bytes], bytes]:
        def edit(data: bytes) -> bytes:
            at = int(place * len(data))
            return data[:at] + new + data[at + len(new) :]

        return edit

    def insert(place: float, new: bytes) -> Callable[[bytes], bytes]:
        return lambda data: data[: int(place * len(data))] + new + data[int(place * len(data)) :]

    def remove(place: float, count: int) -> Callable[[bytes], bytes]:
        return lambda data: data[: int(place * len(data))] + data[int(place * len(data)) + count :]

    def repeat(place: float, count: int, times: int) -> Callable[[bytes], bytes]:
        def edit(data: bytes) -> bytes:
            at = int(place * len(data))
            return data[:at] + data[at : at + count] * times + data[at + count :]

        return edit

    def graft(place: float, donor: bytes, start: float, count: int) -> Callable[[bytes], bytes]:
        at = int(start * len(donor))
        return insert(place, donor[at : at + count])

    spans = st.one_of(st.integers(1, 16), st.integers(1, 2000))
    integers = st.builds(
        lambda number, width: (number % 256**width).to_bytes(width, "little"),
        st.sampled_from(WIDE_EDGES),
        st.sampled_from((1, 2, 4, 8)),
    )
    in_place = st.one_of(
        st.builds(flip, places, st.integers(1, 255)),
        st.builds(overwrite, places, st.one_of(integers, st.binary(min_size=1, max_size=8))),
    )
    moving = st.one_of(
        st.builds(insert, places, st.one_of(integers, st.binary(min_size=1, max_size=8))),
        st.builds(remove, places, spans),
        st.builds(repeat, places, spans, st.integers(2, 200)),
        st.builds(graft, places, st.sampled_from(donors), places, spans),
    )
    return st.one_of(in_place, in_place, in_place, moving)  # what moves bytes breaks a zip at once


def damaged(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """A good file after one to four edits."""

    def apply(data: bytes, changes: list[Callable[[bytes], bytes]]) -> bytes:
        for change in changes:
            data = change(data)
        return data

    return st.builds(apply, st.sampled_from(seeds), st.lists(edits(seeds), min_size=1, max_size=4))


def opcodes(program: bytes) -> list[bytes]:
    """A pickle cut into its opcodes, each with its argument."""
    starts = [at for _, _, at in pickletools.genops(program)]
    return [program[a:b] for a, b in zip(starts, [*starts[1:], len(program)], strict=True)]


def programs(pickles: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """A good pickle with opcodes dropped, doubled, swapped, replaced and grafted in."""
    cut = [opcodes(program) for program in pickles]
    words = sorted(
        {word for program in cut for word in program}
        | {code.encode("latin1") for code in pickletools.code2op}
    )
    numbers_as_code = numbers.map(push)
    word = st.one_of(st.sampled_from(words), numbers_as_code)
    change = st.tuples(
        st.sampled_from(("drop", "double", "swap", "replace", "insert", "many")), places, places, word
    )

    def apply(program: list[bytes], changes: list[tuple[str, float, float, bytes]]) -> bytes:
        code = list(program)
        for kind, one, other, new in changes:
            if not code:
                break
            at, to = int(one * len(code)), int(other * len(code))
            if kind == "drop":
                del code[at]
            elif kind == "double":
                code.insert(to, code[at])
            elif kind == "swap":
                code[at], code[to] = code[to], code[at]
            elif kind == "replace":
                code[at] = new
            elif kind == "insert":
                code.insert(at, new)
            else:
                code[at:at] = [code[to]] * 300
        return b"".join(code)

    return st.builds(apply, st.sampled_from(cut), st.lists(change, min_size=1, max_size=4))


def pickles() -> list[bytes]:
    """Good pickles of a zip's kind, one per rebuild function that the good files use."""
    found = [
        pickled(state_dict()),
        pickled(state_dict(), 4),
        pickle.dumps({"a": [1, (2.5, None)], "b": {3}}, 5),
    ]
    for data in good.files().values():
        at = data.find(b"\x80\x02")
        while at >= 0:
            end = io.BytesIO(data[at:])
            try:
                for _ in pickletools.genops(end):
                    pass
                found.append(data[at : at + end.tell()])
            except ValueError:
                pass
            at = data.find(b"\x80\x02", at + 1)
    return sorted(set(found))


def wrapped(program: bytes, container: str) -> bytes:
    """A file of the given kind around a pickle."""
    match container:
        case "zip":
            return torch_zip(program, good.STORAGES)
        case "deflated":
            return torch_zip(program, good.STORAGES, method=8)
        case "legacy":
            return legacy(program)
        case "tar":
            return torch_tar(program)
        case "tar-storages":
            return torch_tar(storages=program + tar_parts()["storages"])
        case "torchscript":
            return zipped(torchscript_entries(data=program))
        case "constants":
            return zipped(torchscript_entries(constants=program))
        case "nested":
            return torch_zip(
                state_dict(x=call("torch.storage", "_load_from_bytes", torch_zip(program, good.STORAGES)))
            )
        case "sys-info":
            return legacy(part_2=program)
        case "keys":
            return legacy(part_4=program)
    return program


CONTAINERS = (
    "zip",
    "deflated",
    "legacy",
    "tar",
    "tar-storages",
    "torchscript",
    "constants",
    "nested",
    "sys-info",
)
CONTAINERS += ("keys", "plain")

odd_values = st.recursive(
    st.one_of(numbers, st.none(), st.booleans(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=3), inner, max_size=2),
    ),
    max_leaves=4,
)


@st.composite
def odd_tensors(draw: st.DrawFn) -> bytes:
    """A zip in which a rebuild function has one or two arguments of another's, or of any kind."""
    calls = good.calls()
    function = draw(st.sampled_from(list(calls)))
    arguments = list(calls[function])
    pieces = [piece for one in calls.values() for piece in one]
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(arguments) - 1))
        odd = draw(st.one_of(st.sampled_from(pieces), odd_values, st.lists(numbers, max_size=4).map(tuple)))
        if draw(st.booleans()) and isinstance(arguments[at], tuple) and arguments[at]:
            inner = list(arguments[at])
            inner[draw(st.integers(0, len(inner) - 1))] = odd
            arguments[at] = tuple(inner)
        else:
            arguments[at] = odd
    if draw(st.integers(0, 9)) == 0:
        del arguments[-1]
    return torch_zip({"w": tensor(), "x": call("torch._utils", function.strip(), *arguments)}, good.STORAGES)


@st.composite
def odd_headers(draw: st.DrawFn) -> bytes:
    """A safetensors file whose header is JSON of the right form with odd values."""
    entry: Any = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    for key in draw(st.lists(st.sampled_from((*entry, "extra")), max_size=2)):
        entry[key] = draw(
            st.one_of(odd_values, st.lists(numbers, max_size=4), st.sampled_from(("F4", "I64", "BOOL")))
        )
    header: dict[str, Any] = {"w": entry}
    if draw(st.booleans()):
        header["v"] = {"dtype": "U8", "shape": [4], "data_offsets": [16, 20]}
    if draw(st.integers(0, 4)) == 0:
        header["__metadata__"] = draw(odd_values)
    length = (
        draw(st.sampled_from([n for n in WIDE_EDGES if n < 2**64])) if draw(st.integers(0, 9)) == 0 else None
    )
    return safetensors(header, WEIGHTS + b"1234" * ("v" in header), length)


@st.composite
def odd_archives(draw: st.DrawFn) -> bytes:
    """A zip whose members lie in a few fields."""
    program = pickled(state_dict())
    lies = st.fixed_dictionaries(
        {},
        optional={
            "size": st.sampled_from(EDGES),
            "packed_size": st.sampled_from(EDGES),
            "local_size": st.sampled_from(EDGES),
            "offset": st.sampled_from(EDGES),
            "method": st.sampled_from((0, 8, 9, 12, 99)),
            "flags": st.sampled_from((0, 1, 8, 0x808, 0xFFFF)),
            "local_extra": st.binary(max_size=20),
            "extra": st.one_of(
                st.binary(max_size=30),
                st.lists(st.integers(0, 2**64 - 1), max_size=3).map(
                    lambda wide: struct.pack(f"<2H{len(wide)}Q", 1, 8 * len(wide), *wide)
                ),
            ),
        },
    )
    liar = draw(st.integers(0, 3))
    members = [
        Entry(name, data, **(draw(lies) if at == liar else {}))
        for at, (name, data) in enumerate(
            (("a/data.pkl", program), ("a/data/0", WEIGHTS), ("a/byteorder", b"little"))
        )
    ]
    ends = st.fixed_dictionaries(
        {},
        optional={
            "count": st.sampled_from(EDGES),
            "directory_at": st.sampled_from(EDGES),
            "directory_size": st.sampled_from(EDGES),
            "comment": st.binary(max_size=30),
        },
    )
    return zipped(draw(st.permutations(members)), **draw(ends))


@st.composite
def odd_arrays(draw: st.DrawFn) -> bytes:
    """An .npy file with an odd header."""
    code = draw(
        st.sampled_from(("<f4", ">f4", "|b1", "<f2", "<c8", "|O", "<U4", "<M8[s]", "V8", "=i8", "f", "?"))
    )
    few = st.lists(st.integers(0, 4), max_size=4).map(tuple)
    shape = draw(st.one_of(few, few, st.lists(numbers, max_size=4).map(tuple), odd_values))
    text = npy_header(code, repr(shape), draw(st.sampled_from(("True", "False", "None"))))
    return npy(
        text, WEIGHTS, draw(st.sampled_from((1, 2, 3))), draw(st.one_of(st.none(), st.integers(0, 200)))
    )


def pickles_of_torch(folder: Path) -> list[bytes]:
    """The programs within the small zips that torch itself wrote."""
    found = []
    for path in sorted(folder.glob("*.bin")):
        if path.stat().st_size <= 64 << 10 and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
                with contextlib.suppress(zipfile.BadZipFile):  # torch can leave checksums out
                    found += [archive.read(name) for name in names]
    return [program for program in found if len(program) < 8000]
