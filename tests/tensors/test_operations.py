"""Lazy operations read exactly what numpy would make of the whole array, over every range.

Covers `tensors/nodes.py`, `tensors/lazy.py`, `tensors/base.py`, `tensors/graph.py`,
`tensors/methods.py`.
"""

from __future__ import annotations

import itertools
import pickle
import random
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from wconv.errors import FormatError
from wconv.tensors import dtypes, nodes, operations
from wconv.tensors.lazy import (
    ArrayTensor,
    FileTensor,
    LazyTensor,
    PackedFileTensor,
    checked_shape,
    from_array,
)

AXES = list(itertools.permutations(range(4)))


@pytest.fixture
def values() -> Any:
    return np.random.default_rng(0).integers(0, 30000, (6, 4, 8, 10)).astype(np.int16)


@pytest.fixture
def stored(values: Any, tmp_path: Path) -> FileTensor:
    path = tmp_path / "x.bin"
    path.write_bytes(b"123" + values.tobytes())
    return FileTensor(str(path), 3, dtypes.by_name("int16"), values.shape)


@pytest.fixture(params=["whole", "in slabs"])
def _limits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same answers whichever of an operation's two ways is taken."""
    if request.param == "in slabs":
        monkeypatch.setattr(nodes, "WHOLE_LIMIT", 256)
        monkeypatch.setattr(nodes, "SEGMENT", 64)


def check(lazy: LazyTensor, expected: Any) -> None:
    assert lazy.shape == expected.shape
    assert np.array_equal(lazy.numpy(), expected)
    flat = expected.reshape(-1)
    picked = random.Random(lazy.size)
    for _ in range(12):
        start, stop = sorted((picked.randint(0, lazy.size), picked.randint(0, lazy.size)))
        assert np.array_equal(lazy.read_range(start, stop), flat[start:stop]), (lazy, start, stop)
    if lazy.shape and len(lazy) > 1:
        assert np.array_equal(lazy.read(1, len(lazy)), expected[1:])
    assert 1 <= lazy.block_size <= max(lazy.size, 1)
    assert np.array_equal(pickle.loads(pickle.dumps(lazy)).numpy(), expected)


@pytest.mark.usefixtures("_limits")
@pytest.mark.parametrize("axes", AXES)
def test_transpose_then_slice_split_join(axes: tuple[int, ...], stored: FileTensor, values: Any) -> None:
    lazy, expected = stored.transpose(axes), values.transpose(axes)
    check(lazy, expected)
    check(lazy.reshape((-1, 5)), expected.reshape(-1, 5))
    for axis in range(4):
        for start, stop, step in [(0, 2, 1), (1, 4, 1), (1, 4, 2)]:
            index = [slice(None)] * 4
            index[axis] = slice(start, stop, step)
            check(lazy.slice(axis, start, stop, step), expected[tuple(index)])
        halves = lazy.split(2, axis)
        check(operations.concat(halves[::-1], axis), np.concatenate(np.split(expected, 2, axis)[::-1], axis))
        check(operations.stack([lazy, lazy], axis), np.stack([expected, expected], axis))


@pytest.mark.usefixtures("_limits")
@pytest.mark.parametrize("dtype", ["int32", "uint8", "uint16"])
def test_view_of_stored_and_of_derived(dtype: str, stored: FileTensor, values: Any) -> None:
    check(stored.view(dtype), values.view(dtype))
    moved = np.ascontiguousarray(values.transpose(3, 0, 1, 2))
    check(stored.transpose((3, 0, 1, 2)).view(dtype), moved.view(dtype))


def test_contiguous_operations_stay_plain_reads(stored: FileTensor) -> None:
    assert isinstance(stored.reshape((24, 80)), FileTensor)
    assert isinstance(stored.split(3)[1], FileTensor)
    assert isinstance(stored.view("float16"), FileTensor)
    assert isinstance(stored.slice(0, 2, 3).transpose((1, 0, 2, 3)), FileTensor)


def test_add_rounds_once_in_its_own_dtype() -> None:
    values = np.linspace(-300, 300, 999).astype(ml_dtypes.bfloat16)
    exact = (values.astype(np.float64) + 1).astype(np.float32).astype(ml_dtypes.bfloat16)
    assert np.array_equal(from_array(values).add(1.0).numpy().view("u2"), exact.view("u2"))


def test_cast_of_a_cast() -> None:
    values = np.arange(20, dtype=np.float32)
    lazy = from_array(values).cast("bfloat16").cast("float16")
    assert lazy.dtype.name == "float16"
    assert np.array_equal(lazy.numpy(), values.astype(np.float16))


def test_indexing_reads_a_region(stored: FileTensor, values: Any) -> None:
    assert np.array_equal(stored[2], values[2])
    assert np.array_equal(stored[1, ..., 2:6:3], values[1, ..., 2:6:3])
    assert np.array_equal(stored[:, 1:3], values[:, 1:3])
    assert np.array_equal(stored[-1, -1], values[-1, -1])
    assert np.array_equal(stored[2:2], values[2:2])
    with pytest.raises(IndexError):
        stored[6]
    with pytest.raises(IndexError):
        stored[0, 0, 0, 0, 0]


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (1, 1, 1)])
def test_scalars_and_empty_tensors(shape: tuple[int, ...]) -> None:
    values = np.ones(shape, np.float32)
    lazy = from_array(values)
    assert np.array_equal(lazy.numpy(), values)
    assert np.array_equal(lazy.transpose(range(len(shape))[::-1]).numpy(), values.T)
    assert np.array_equal(lazy.cast("bfloat16").numpy(), values.astype(ml_dtypes.bfloat16))
    assert np.array_equal(operations.stack([lazy, lazy]).numpy(), np.stack([values, values]))
    if shape:
        assert np.array_equal(operations.concat([lazy, lazy]).numpy(), np.concatenate([values, values]))


@pytest.mark.parametrize("dtype", ["int16", "int64", "float32", "complex64", "bfloat16", "uint8"])
def test_the_other_byte_order_is_swapped(dtype: str, tmp_path: Path) -> None:
    native = np.arange(12).astype(dtypes.by_name(dtype).numpy)
    width = native.itemsize // (2 if native.dtype.kind == "c" else 1)
    raw = native.view(np.uint8).reshape(-1, width)[:, ::-1].tobytes()
    (tmp_path / "big").write_bytes(raw)
    lazy = FileTensor(str(tmp_path / "big"), 0, dtypes.by_name(dtype), (3, 4), swap=True)
    assert np.array_equal(lazy.read(1, 3), native.reshape(3, 4)[1:])


@pytest.mark.parametrize("name", ["float4_e2m1fn_x2", "float6_e2m3fn", "float6_e3m2fn"])
def test_packed_elements_are_unpacked(name: str, tmp_path: Path) -> None:
    dtype = dtypes.by_name(name)
    codes = np.random.default_rng(1).integers(0, 2**dtype.bits, 48).astype(np.uint8)
    number = sum(int(code) << (dtype.bits * at) for at, code in enumerate(codes))
    (tmp_path / "packed").write_bytes(b"?" + number.to_bytes(dtype.nbytes(48), "little"))
    lazy = PackedFileTensor(str(tmp_path / "packed"), 1, dtype, (48,))
    for start, stop in [(0, 48), (1, 47), (5, 6), (8, 16)]:
        assert np.array_equal(lazy.read_range(start, stop).view(np.uint8), codes[start:stop])


def test_big_endian_arrays_become_native() -> None:
    lazy = from_array(np.arange(6, dtype=">f4").reshape(2, 3))
    assert isinstance(lazy, ArrayTensor)
    assert np.array_equal(lazy.numpy(), np.arange(6, dtype="<f4").reshape(2, 3))


def test_what_does_not_fit_is_refused(stored: FileTensor) -> None:
    with pytest.raises(ValueError, match="reshaped"):
        stored.reshape((7, -1))
    with pytest.raises(ValueError, match="no order"):
        stored.transpose((0, 1, 1, 2))
    with pytest.raises(ValueError, match="split"):
        stored.split(5)
    with pytest.raises(ValueError, match="joined"):
        operations.concat([stored, stored.cast("float32")])
    with pytest.raises(ValueError, match="nothing"):
        operations.concat([])
    with pytest.raises(ValueError, match="viewed"):
        stored.slice(3, 0, 3).view("int32")
    with pytest.raises(IndexError):
        stored.read(0, 7)


@pytest.mark.parametrize("shape", [[-1], [1.0], [True], ["2"], [2**32, 2**32], [2**62, 2]])
def test_impossible_shapes_are_refused(shape: list[Any]) -> None:
    with pytest.raises(FormatError, match="impossible shape"):
        checked_shape(shape, "x")


def test_a_truncated_file_is_named(stored: FileTensor) -> None:
    with open(stored.path, "r+b") as file:
        file.truncate(100)
    with pytest.raises(FormatError, match="truncated"):
        stored.numpy()
