"""Arrays of both versions of Zarr, whole and lacking chunks, and metadata that lie."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from wconv.errors import FormatError, UnsafeError, WconvError
from wconv.formats.sources import MemorySource, Source
from wconv.formats.zarr import arrays
from wconv.formats.zarr.crc32c import crc32c

VALUES = np.arange(35, dtype="<i4").reshape(5, 7)


def version_2(**changed: Any) -> dict[str, Any]:
    plain = {"chunks": [2, 3], "compressor": None, "dtype": "<i4", "fill_value": None, "filters": None}
    return {**plain, "order": "C", "shape": [5, 7], "zarr_format": 2, **changed}


def version_3(codecs: list[Any], **changed: Any) -> dict[str, Any]:
    return {
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 3]}},
        "chunk_key_encoding": {"name": "default"},
        "codecs": codecs,
        "data_type": "int32",
        "fill_value": 0,
        "node_type": "array",
        "shape": [5, 7],
        "zarr_format": 3,
        **changed,
    }


LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}


def chunks(key: str, shape: tuple[int, int] = (2, 3), order: Any = "C") -> dict[str, Source]:
    """The array in chunks, of which those at the edge are filled up."""
    filled = np.full((math.ceil(5 / shape[0]) * shape[0], math.ceil(7 / shape[1]) * shape[1]), -1, "<i4")
    filled[:5, :7] = VALUES
    return {
        key.format(row, column): MemorySource(
            filled[row * shape[0] :, column * shape[1] :][: shape[0], : shape[1]].tobytes(order), "chunk"
        )
        for row in range(len(filled) // shape[0])
        for column in range(filled.shape[1] // shape[1])
    }


def read(metadata: Any, held: dict[str, Source], *, whole: bool = True) -> np.ndarray[Any, Any]:
    spec = arrays.parse(json.dumps(metadata).encode(), metadata["zarr_format"], "a/.zarray")
    return arrays.tensor(spec, held, "a", "place", whole=whole).numpy()


def test_chunks_in_every_order() -> None:
    assert np.array_equal(read(version_2(), chunks("{}.{}")), VALUES)
    assert np.array_equal(read(version_2(order="F"), chunks("{}.{}", order="F")), VALUES)
    assert np.array_equal(read(version_2(dimension_separator="/"), chunks("{}/{}")), VALUES)
    big = {
        key: MemorySource(np.frombuffer(source.read(0, 24), "<i4").astype(">i4").tobytes(), "c")
        for key, source in chunks("{}.{}").items()
    }
    assert np.array_equal(read(version_2(dtype=">i4"), big), VALUES)
    assert np.array_equal(read(version_3([LITTLE]), chunks("c/{}/{}")), VALUES)
    turned = [{"name": "transpose", "configuration": {"order": [1, 0]}}, LITTLE]
    assert np.array_equal(read(version_3(turned), chunks("c/{}/{}", order="F")), VALUES)


def sharded(**changed: Any) -> dict[str, Any]:
    settings = {
        "chunk_shape": [2, 3],
        "codecs": [LITTLE],
        "index_codecs": [LITTLE, {"name": "crc32c"}],
        **changed,
    }
    grid = {"name": "regular", "configuration": {"chunk_shape": [6, 9]}}
    return version_3([{"name": "sharding_indexed", "configuration": settings}], chunk_grid=grid)


def shard(lost: int = -1, beyond: int = 0) -> bytes:
    data, index = b"", b""
    for at, source in enumerate(chunks("{}.{}").values()):
        part = source.read(0, source.size)
        if at == lost:
            index += b"\xff" * 16
        else:
            index += (len(data) + beyond).to_bytes(8, "little") + len(part).to_bytes(8, "little")
            data += part
    return data + index + crc32c(index).to_bytes(4, "little")


def test_chunks_within_a_chunk() -> None:
    assert np.array_equal(read(sharded(), {"c/0/0": MemorySource(shard(), "c")}), VALUES)
    with pytest.raises(FormatError, match=r"\[2:4, 3:6\] of a is in no file"):
        read(sharded(), {"c/0/0": MemorySource(shard(lost=4), "c")})
    zeros = read(sharded(), {"c/0/0": MemorySource(shard(lost=4), "c")}, whole=False)
    assert not zeros[2:4, 3:6].any()
    assert np.array_equal(zeros[:2], VALUES[:2])
    with pytest.raises(FormatError, match="a chunk lies beyond its"):
        read(sharded(), {"c/0/0": MemorySource(shard(beyond=1 << 60), "c")})
    bad = bytearray(shard())
    bad[-9] ^= 1
    with pytest.raises(FormatError, match="the checksum of its chunks is wrong"):
        read(sharded(), {"c/0/0": MemorySource(bytes(bad), "c")})


def test_what_is_not_stored() -> None:
    held = chunks("{}.{}")
    del held["1.1"]
    with pytest.raises(FormatError, match=r"\[2:4, 3:6\] of a is in no file"):
        read(version_2(), held)
    found = read(version_2(), held, whole=False)
    assert not found[2:4, 3:6].any()
    assert np.array_equal(found[4:], VALUES[4:])
    assert not read(version_2(), {}, whole=False).any()
    with pytest.raises(FormatError, match="are not stored and are not zero"):
        read(version_2(fill_value=7), held, whole=False)
    huge = version_2(shape=[10**9, 10**9 // 4], chunks=[1, 1])
    with pytest.raises(UnsafeError, match="lacks most of its 250,000,000,000,000,000 chunks"):
        read(huge, {"0.0": MemorySource(bytes(4), "c")}, whole=False)


@pytest.mark.parametrize(
    ("metadata", "error"),
    [
        (version_2(chunks=[0, 3]), "in chunks of"),
        (version_2(chunks=[2]), "in chunks of"),
        (version_2(shape=[-1, 3]), "shape"),
        (version_2(shape=[2**62, 2**62]), "shape"),
        (version_2(shape=None), "has no shape"),
        (version_2(chunks=[10**12, 10**6]), "shape|has 24"),
        (version_2(chunks=[10**6, 10**6]), "a chunk of 4,000,000,000,000 bytes has 24"),
        (version_2(dtype=[["a", "<i4"]]), "no arrays of records"),
        (version_2(dtype="|O"), "has no place in the output"),
        (version_2(dtype="float4_e2m1fn_x2"), "has no place in the output"),
        (version_2(compressor={"id": "blosc"}), "is packed by 'blosc', which wconv does not read"),
        (version_2(filters=[{"id": "delta"}]), "has filters"),
        (version_2(dimension_separator="x"), "separates chunks by 'x'"),
        (version_3([]), "is packed by"),
        (version_3([LITTLE, {"name": "gzip"}]), "is packed by 'gzip'"),
        (version_3([{"name": "transpose", "configuration": {"order": [0, 0]}}, LITTLE]), "order of axes"),
        (version_3([LITTLE], chunk_grid={"name": "rectangular"}), "chunks of equal size"),
        (version_3([LITTLE], chunk_key_encoding={"name": "x"}), "names chunks in a way"),
        (sharded(chunk_shape=[4, 9]), "do not fill one of"),
        (sharded(chunk_shape=[0, 9]), "do not fill one of"),
        (sharded(index_location="middle"), "an index of chunks"),
    ],
)
def test_metadata_that_lie_or_are_not_read(metadata: dict[str, Any], error: str) -> None:
    key = "0.0" if metadata["zarr_format"] == 2 else "c/0/0"
    with pytest.raises(WconvError, match=error):
        read(metadata, {key: MemorySource(bytes(24), "c")})


@pytest.mark.parametrize("key", ["9.0", "0", "0.0.0", "-1.0", "x", "0.9999999999999999999999", "c/0/0", ""])
def test_keys_of_no_chunk(key: str) -> None:
    with pytest.raises(FormatError, match="is no chunk of a"):
        read(version_2(), {**chunks("{}.{}"), key: MemorySource(bytes(24), "c")})


def test_a_shard_that_claims_a_trillion_chunks() -> None:
    settings = sharded(chunk_shape=[1, 1])
    settings["chunk_grid"]["configuration"]["chunk_shape"] = [10**6, 10**6]
    settings["shape"] = [10**6, 10**6]
    with pytest.raises(UnsafeError, match="claims 1,000,000,000,000 chunks in one: refused"):
        read(settings, {"c/0/0": MemorySource(bytes(24), "c")})
