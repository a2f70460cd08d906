"""MLX arrays whose memory is read into: they are MLX's own, of the right dtypes, or not made at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from wconv.tensors import dtypes
from wconv.tensors.lazy import from_array
from wconv.writing import mlx_memory
from wconv.writing.mlx_memory import rooms_for
from wconv.writing.plan import Entry

mx = pytest.importorskip("mlx.core")


def entry(name: str, *shape: int, dtype: str = "float32") -> Entry:
    row = dtypes.by_name(dtype)
    return Entry(name, from_array(np.zeros(shape, row.numpy)), row)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlx_memory, "LARGE", 16)


@pytest.mark.parametrize("row", dtypes.TABLE, ids=str)
def test_what_is_written_to_the_memory_is_in_the_array(row: dtypes.DType) -> None:
    if row.bits < 8:
        return
    entries = [entry("a", 7, 3, dtype=row.name), entry("b", 1, 100, 1, dtype=row.name), entry("c", 0, 4)]
    rooms = rooms_for(entries)
    has_view = row.mlx is not None and row.kind in ("float", "int")
    assert rooms.keys() == ({id(entries[0]), id(entries[1])} if has_view else set())
    for one in entries[:2] if has_view else ():
        array, memory = rooms[id(one)]
        memory[:] = np.arange(memory.size) % 100
        assert (array.shape, array.dtype) == (one.shape, getattr(mx, row.mlx or ""))
        assert (memory.dtype, memory.shape) == (row.numpy, (one.tensor.size,))
        found = np.array(array.astype(mx.float32)).reshape(-1)
        assert found.tolist() == [at % 100 for at in range(memory.size)]


def test_one_name_may_be_there_twice() -> None:
    entries = [entry("a", 40), entry("a", 40)]
    first, second = rooms_for(entries).values()
    first.memory[:] = 1
    second.memory[:] = 2
    assert (first.array + second.array).tolist() == [3] * 40


def fails(*arguments: Any, **more: Any) -> Any:
    raise RuntimeError("[load_safetensors] Invalid json header")


def copied(file: Any, format: str) -> Any:
    return {name: mx.zeros((40,)) for name in "01"}


@pytest.mark.parametrize("load", [fails, copied])
def test_nothing_is_made_where_mlx_does_not_make_it_so(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mx, "load", load)
    assert rooms_for([entry("a", 40), entry("b", 40)]) == {}
    monkeypatch.undo()
    assert rooms_for([entry("small", 2)]) == {}
