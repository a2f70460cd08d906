"""Frames of Zstandard by range: in any order, from several threads, damaged, and too large."""

from __future__ import annotations

import pickle
import random
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from wconv.errors import FormatError, UnsafeError, WconvError
from wconv.formats.sources import MemorySource
from wconv.formats.zarr import zstd
from wconv.tensors import array_cache, dtypes

zstandard = pytest.importorskip("zstandard")

DATA = np.random.default_rng(0).integers(0, 9, 5 * zstd.STEP // 2 + 8, np.uint8).tobytes()
PACKED = zstandard.ZstdCompressor(level=1).compress(DATA)


def packed(data: bytes = PACKED, size: int = len(DATA)) -> zstd.ZstdSource:
    return zstd.ZstdSource(MemorySource(data, "chunk"), size, "chunk")


def test_ranges_in_any_order() -> None:
    source = packed()
    chance = random.Random(0)
    for _ in range(20):
        begin = chance.randrange(len(DATA))
        end = min(begin + chance.randrange(1, zstd.STEP), len(DATA))
        assert source.read(begin, end - begin) == DATA[begin:end]
    array_cache.clear()
    assert source.read(len(DATA) - 5, 5) == DATA[-5:]
    assert pickle.loads(pickle.dumps(source)).read(7, 9) == DATA[7:16]
    assert source.tensor(4, dtypes.by_name("int32"), 3, swap=True).numpy().tolist() == [
        int.from_bytes(DATA[at : at + 4], "big", signed=True) for at in (4, 8, 12)
    ]


def test_many_frames_at_once_from_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zstd, "OPEN", 1)
    monkeypatch.setattr(zstd, "KEPT", 3)
    sources = [packed() for _ in range(5)]

    def look(at: int) -> bool:
        begin = at * 131 % (len(DATA) - 1000)
        return sources[at % 5].read(begin, 1000) == DATA[begin : begin + 1000]

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(look, range(0, 4000, 97)))


@pytest.mark.parametrize(
    ("data", "size", "error"),
    [
        (PACKED, len(DATA) - 1, "it goes on after its"),
        (PACKED, len(DATA) + 1, "is truncated"),
        (PACKED[:-9], len(DATA), "is truncated|is damaged"),
        (PACKED[:20] + b"\xff" * 20 + PACKED[40:], len(DATA), "is damaged"),
        (b"no frame at all", 10, "is damaged"),
        (b"", 10, "is truncated"),
    ],
)
def test_damage(data: bytes, size: int, error: str) -> None:
    source = packed(data, size)
    with pytest.raises(FormatError, match=error):
        source.read(size - 1, 1)


def test_claims_beyond_what_zstandard_can_do() -> None:
    with pytest.raises(UnsafeError, match="claims 1,000,000,000,000 bytes in"):
        packed(b"x" * 100, 10**12)
    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(50 << 20))
    with pytest.raises(FormatError, match="unpacks to more than 1,000 bytes"):
        zstd.unpack(bomb, 1000, "node")
    with pytest.raises(FormatError, match="goes on after"):
        packed(bomb, 1000).read(0, 10)


def test_a_window_that_is_too_large() -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=27)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = compressor.compress(DATA) + compressor.flush()
    with pytest.raises(FormatError, match="is damaged"):
        packed(data).read(0, 10)


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(WconvError, match=r"needs zstandard.*: pip install 'wconv\[jax\]'"):
        packed().read(0, 10)
