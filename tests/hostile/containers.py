"""Writers for the files around pickles and tensors. They believe every lie that they are told."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.hostile.assemble import Code, by_global, persistent, pickled, push, storage, tensor

VALUES = [1.0, 2.0, 3.0, 4.0]
WEIGHTS = struct.pack("<4f", *VALUES)
MAGIC = 0x1950A86A20F9469CFC6C
SYS_INFO = {
    "protocol_version": 1001,
    "little_endian": True,
    "type_sizes": {"short": 2, "int": 4, "long": 4},
}


def state_dict(**more: Any) -> Code:
    """A state dict of one good tensor `w` and whatever the case adds."""
    return push({"w": tensor(), **more})


@dataclass(frozen=True)
class Entry:
    """One member of a zip; what is None is told truthfully."""

    name: str | bytes
    data: bytes = b""
    method: int = 0
    size: int | None = None
    packed_size: int | None = None
    crc: int | None = None
    flags: int = 0
    offset: int | None = None
    local_name: bytes | None = None
    local_extra: bytes = b""
    local_size: int | None = None
    extra: bytes = b""
    raw: bytes | None = None
    """The bytes to store, where they are not what `method` makes of `data`."""


def deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def zipped(
    entries: Iterable[Entry],
    *,
    count: int | None = None,
    directory_at: int | None = None,
    directory_size: int | None = None,
    zip64: bytes = b"",
    comment: bytes = b"",
    comment_size: int | None = None,
    disk: int = 0,
    prefix: bytes = b"",
) -> bytes:
    """A zip archive. `zip64` goes between the central directory and its end record."""
    out = io.BytesIO()
    out.write(prefix)
    central = []
    for entry in entries:
        name = entry.name if isinstance(entry.name, bytes) else entry.name.encode()
        stored = entry.raw if entry.raw is not None else entry.data
        if entry.raw is None and entry.method == 8:
            stored = deflate(entry.data)
        size = len(entry.data) if entry.size is None else entry.size
        packed = len(stored) if entry.packed_size is None else entry.packed_size
        crc = zlib.crc32(entry.data) if entry.crc is None else entry.crc
        at = out.tell() if entry.offset is None else entry.offset
        local_name = name if entry.local_name is None else entry.local_name
        local_size = size if entry.local_size is None else entry.local_size
        fields = (entry.flags, entry.method, 0, 33, crc & 0xFFFFFFFF, packed & 0xFFFFFFFF)
        lengths = (len(local_name), len(entry.local_extra))
        out.write(struct.pack("<4s5H3I2H", b"PK\3\4", 20, *fields, local_size & 0xFFFFFFFF, *lengths))
        out.write(local_name + entry.local_extra + stored)
        tail = (size & 0xFFFFFFFF, len(name), len(entry.extra), 0, 0, 0, 0, at & 0xFFFFFFFF)
        central.append(struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, *fields, *tail) + name + entry.extra)
    start = out.tell()
    directory = b"".join(central)
    number = len(central) if count is None else count
    length = len(directory) if directory_size is None else directory_size
    where = start if directory_at is None else directory_at
    ending = (disk, disk, number & 0xFFFF, number & 0xFFFF, length & 0xFFFFFFFF, where & 0xFFFFFFFF)
    comment_length = len(comment) if comment_size is None else comment_size
    out.write(directory + zip64 + struct.pack("<4s4H2IH", b"PK\5\6", *ending, comment_length) + comment)
    return out.getvalue()


def torch_entries(
    pickle_bytes: bytes,
    storages: Mapping[str, bytes] | None = None,
    *,
    root: str = "archive",
    method: int = 0,
    byteorder: bytes | None = b"little",
) -> list[Entry]:
    """The members of a `torch.save` zip, in torch's order."""
    stored = {"0": WEIGHTS} if storages is None else storages
    order = [] if byteorder is None else [Entry(f"{root}/byteorder", byteorder, method)]
    return [
        Entry(f"{root}/data.pkl", pickle_bytes, method),
        *order,
        *(Entry(f"{root}/data/{key}", data, method) for key, data in stored.items()),
        Entry(f"{root}/version", b"3\n", method),
    ]


def torch_zip(
    value: Any, storages: Mapping[str, bytes] | None = None, *, protocol: int = 2, **how: Any
) -> bytes:
    """What `torch.save` writes; `value` is data, `Code` or, as bytes, a whole pickle."""
    whole = value if type(value) is bytes else pickled(value, protocol)
    return zipped(torch_entries(whole, storages, **how))


def legacy_state_dict(**more: Any) -> Code:
    """`state_dict`, with the sixth item that a legacy storage's persistent id has."""
    return push({"w": tensor(storage(extra=(None,))), **more})


def legacy_parts(value: Any = None) -> list[bytes]:
    """The five pickles of a legacy stream and, as the sixth part, its one storage."""
    return [
        pickled(MAGIC),
        pickled(1001),
        pickled(SYS_INFO),
        value if type(value) is bytes else pickled(legacy_state_dict() if value is None else value),
        pickled(["0"]),
        struct.pack("<q", 4) + WEIGHTS,
    ]


def legacy(value: Any = None, **parts: bytes) -> bytes:
    """A legacy stream; `part_0` ... `part_5` replace its parts."""
    whole = legacy_parts(value)
    for name, part in parts.items():
        whole[int(name.removeprefix("part_"))] = part
    return b"".join(whole)


def tar_header(
    name: bytes, size: int | bytes, kind: bytes = b"0", link: bytes = b"", checksum: int | None = None
) -> bytes:
    """One ustar header of 512 bytes; `size` as bytes is written as it is."""
    octal = size if isinstance(size, bytes) else b"%011o\0" % size
    head = name[:100].ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + octal + b"00000000000\0"
    tail = kind + link[:100].ljust(100, b"\0") + b"ustar\00000"
    blank = (head + b" " * 8 + tail).ljust(512, b"\0")
    total = sum(blank) if checksum is None else checksum
    return (head + b"%06o\0 " % total + tail).ljust(512, b"\0")


def tarred(members: Iterable[tuple[bytes, bytes] | tuple[bytes, bytes, dict[str, Any]]]) -> bytes:
    """A tar of (name, data[, header fields])."""
    out = b""
    for name, data, *lies in members:
        fields = {"size": len(data), **(lies[0] if lies else {})}
        out += tar_header(name, **fields) + data + b"\0" * (-len(data) % 512)
    return out + b"\0" * 1024


def tar_parts(value: Any = None) -> dict[str, bytes]:
    """The members of a `torch.save` tar from before 0.1.10."""
    storages = (
        pickled(1)
        + pickled((10, "cpu", by_global("torch", "FloatStorage")))
        + struct.pack("<q", 4)
        + WEIGHTS
        + pickled([])
    )
    tensors = pickled(1) + pickled((11, 10, by_global("torch", "FloatTensor")))
    tensors += struct.pack("<i4xqqq", 1, 4, 1, 0)
    if type(value) is not bytes:
        value = pickled({"w": persistent("11")} if value is None else value)
    return {"sys_info": pickled(SYS_INFO), "pickle": value, "storages": storages, "tensors": tensors}


def torch_tar(value: Any = None, **parts: bytes) -> bytes:
    """A `torch.save` tar; keywords replace its members."""
    whole = {**tar_parts(value), **parts}
    order = ("sys_info", "pickle", "storages", "tensors")
    return tarred((name.encode(), whole[name]) for name in order)


def npy(header: str | bytes, data: bytes = b"", version: int = 1, length: int | None = None) -> bytes:
    """An .npy file with this header text."""
    text = header.encode() if isinstance(header, str) else header
    size = len(text) if length is None else length
    return (
        b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", size) + text + data
    )


def npy_header(descr: str = "<f4", shape: str = "(4,)", order: str = "False") -> str:
    return f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n"


def safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file; `header` is JSON-able or the header's bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def torchscript_entries(data: bytes | None = None, constants: bytes | None = None) -> list[Entry]:
    """The members of a TorchScript archive of one weight `w` and one constant."""
    module = Code(by_global("__torch__", "M") + push(()) + b"\x81" + push({"w": tensor()}) + b"b")
    return [
        Entry("m/data/0", WEIGHTS),
        Entry("m/data.pkl", pickled(module) if data is None else data),
        Entry("m/code/__torch__.py", b"class M(Module):\n  w : Tensor\n", 8),
        Entry("m/constants/0", WEIGHTS),
        Entry("m/constants.pkl", pickled((tensor(),)) if constants is None else constants),
        Entry("m/version", b"3\n"),
    ]


def pt2_entry(name: str = "weight_0", **lies: Any) -> dict[str, Any]:
    """One weight of a .pt2 archive's table."""
    meta = {
        "dtype": 7,
        "sizes": [{"as_int": 4}],
        "requires_grad": True,
        "device": {"type": "cpu", "index": None},
        "strides": [{"as_int": 1}],
        "storage_offset": {"as_int": 0},
        "layout": 7,
    }
    top = {key: lies.pop(key) for key in ("path_name", "use_pickle") if key in lies}
    return {"path_name": name, "is_param": True, "use_pickle": False, "tensor_meta": {**meta, **lies}, **top}


def pt2(table: Any = None, weights: Mapping[str, bytes] | None = None, more: Sequence[Entry] = ()) -> bytes:
    """A `torch.export` archive; `table` is the weights table's value, or its JSON text as bytes."""
    config = {"config": {"w": pt2_entry()}} if table is None else table
    text = config if isinstance(config, bytes) else json.dumps(config).encode()
    stored = {"weight_0": WEIGHTS} if weights is None else weights
    return zipped(
        [
            Entry("m/archive_format", b"pt2"),
            *(Entry(f"m/data/weights/{name}", data) for name, data in stored.items()),
            Entry("m/data/weights/model_weights_config.json", text),
            Entry("m/data/constants/model_constants_config.json", b'{"config": {}}'),
            Entry("m/models/model.json", b"{}"),
            Entry("m/archive_version", b"0"),
            Entry("m/byteorder", b"little"),
            *more,
        ]
    )
