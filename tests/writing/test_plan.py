"""A plan fixes names, shards and offsets."""

from __future__ import annotations

import json

import numpy as np
import pytest

from wconv.errors import WconvError
from wconv.tensors import dtypes
from wconv.tensors.lazy import FileTensor, from_array
from wconv.writing.plan import Entry, make, parse_size

F32, F16 = dtypes.by_name("float32"), dtypes.by_name("float16")


def entry(name: str, path: str, offset: int, size: int = 100) -> Entry:
    return Entry(name, FileTensor(path, offset, F32, (size,)), F16)


def test_shards_follow_the_source_files_and_their_bytes() -> None:
    plan = make([entry("b", "x", 400), entry("c", "y", 0), entry("a", "x", 0)], {"format": "mlx"})
    assert [shard.filename for shard in plan.shards] == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]
    assert [[e.name for e in shard.entries] for shard in plan.shards] == [["a", "b"], ["c"]]
    assert plan.data_bytes == 600
    assert all(shard.nbytes == len(shard.header) + shard.data_bytes for shard in plan.shards)


def test_a_shard_ends_before_the_limit_and_a_larger_tensor_stands_alone() -> None:
    entries = [entry(str(at), "x", 400 * at, 1000 if at == 2 else 100) for at in range(6)]
    plan = make(entries, {}, max_shard_size=450)
    assert [[e.name for e in shard.entries] for shard in plan.shards] == [
        ["0", "1"],
        ["2"],
        ["3", "4"],
        ["5"],
    ]


def test_one_shard_is_model_safetensors_and_a_named_file_is_never_split() -> None:
    assert make([entry("a", "x", 0)], {}).shards[0].filename == "model.safetensors"
    plan = make([entry("a", "x", 0), entry("b", "y", 0)], {}, max_shard_size=1, filename="out.safetensors")
    assert [shard.filename for shard in plan.shards] == ["out.safetensors"]


def test_the_index_as_mlx_lm_writes_it() -> None:
    plan = make([entry("b", "x", 0), entry("a", "y", 0)], {})
    assert plan.index() == {
        "metadata": {"total_size": 400, "total_parameters": 200},
        "weight_map": {"a": "model-00002-of-00002.safetensors", "b": "model-00001-of-00002.safetensors"},
    }


def test_every_tensor_is_aligned_to_its_item_size() -> None:
    arrays = [np.ones(3, np.uint8), np.ones(5, np.float32), np.ones(3, np.int64), np.ones(7, np.float16)]
    entries = [Entry(str(at), from_array(a), dtypes.from_numpy(a.dtype)) for at, a in enumerate(arrays)]
    shard = make(entries, {}).shards[0]
    header = json.loads(shard.header[8:])
    for at, array in enumerate(arrays):
        begin, _ = header[str(at)]["data_offsets"]
        assert (len(shard.header) + begin) % array.itemsize == 0


@pytest.mark.parametrize(
    ("text", "size"),
    [("5GB", 5 * 10**9), ("500MB", 5 * 10**8), ("2 GiB", 2 << 30), ("1.5kb", 1500), ("7", 7)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "5 apples", "0", "1e3"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(WconvError, match="no size"):
        parse_size(text)
