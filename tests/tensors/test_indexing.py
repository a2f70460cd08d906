"""Lazy tensors index as numpy's arrays do, and refuse in a sentence what they do not do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wconv.stores import files
from wconv.tensors import dtypes, indexing, operations
from wconv.tensors.lazy import FileTensor, LazyTensor, from_array

lengths = st.integers(0, 5)
shapes = st.lists(lengths, max_size=4).map(tuple)
places = st.one_of(st.none(), st.integers(-7, 7))
steps = st.one_of(st.none(), st.integers(-4, 4).filter(bool))
entries = st.one_of(
    st.integers(-6, 5),
    st.integers(-6, 5).map(np.int64),
    st.builds(slice, places, places, steps),
    st.none(),
    st.just(...),
)
indices = st.one_of(entries, st.lists(entries, max_size=6).map(tuple))


def of(shape: tuple[int, ...]) -> Any:
    return np.arange(int(np.prod(shape)), dtype=np.int32).reshape(shape)


@given(shapes, indices)
def test_an_index_picks_what_numpy_picks(shape: tuple[int, ...], index: Any) -> None:
    values = of(shape)
    lazy = from_array(values)
    turned = lazy.T.reshape(shape[::-1]).T  # a derived tensor, not a plain read
    try:
        expected = values[index]
    except IndexError:
        for tensor in (lazy, turned):
            with pytest.raises(IndexError) as refused:
                tensor[index]
            assert len(str(refused.value)) < 120
        return
    for tensor in (lazy, turned):
        found = tensor[index]
        assert type(found) is type(expected)
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        assert np.array_equal(found, expected)


@given(shapes, indices, st.integers(1, 40))
def test_a_file_that_is_read_in_pieces_gives_the_same(shape: tuple[int, ...], index: Any, piece: int) -> None:
    values = of(shape)
    try:
        expected = values[index]
    except IndexError:
        return
    before, indexing.PIECE = indexing.PIECE, piece
    try:
        found = _of_memory(values)[index]
    finally:
        indexing.PIECE = before
    assert np.array_equal(found, expected)


class _Counted(FileTensor):
    """A stored tensor that reads an array and remembers the most that was asked for at once."""

    most = 0
    values: Any = None

    def read_into(self, start: int, stop: int, out: Any) -> None:
        type(self).most = max(type(self).most, stop - start)
        first = self.offset // self.dtype.itemsize
        out[:] = type(self).values.reshape(-1)[first + start : first + stop]


def _of_memory(values: Any) -> LazyTensor:
    _Counted.values, _Counted.most = values, 0
    return _Counted("a file", 0, dtypes.from_numpy(values.dtype), values.shape)


def test_a_column_of_a_large_tensor_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "PIECE", 4096)
    values = of((1000, 50))
    assert np.array_equal(_of_memory(values)[:, ::-7], values[:, ::-7])
    assert 0 < _Counted.most <= 2048


def test_rows_of_a_file_are_read_alone(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(range(100)))
    tensor = FileTensor(str(tmp_path / "x"), 0, dtypes.by_name("uint8"), (10, 10))
    (tmp_path / "x").write_bytes(bytes(range(100))[:50])
    files.close(str(tmp_path / "x"))
    assert tensor[4:1:-1, 0].tolist() == [40, 30, 20]


@pytest.mark.parametrize(
    "index", [True, np.True_, [0], np.array([0]), np.array([True, False]), np.array(True), 1.0, "a", (0, [1])]
)
def test_masks_lists_and_others_are_refused_with_what_to_do(index: Any) -> None:
    with pytest.raises(IndexError, match=r"not a \w+: read it first, tensor\.numpy\(\)\[\.\.\.\]"):
        from_array(of((2, 3)))[index]


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (2, "index 2 is out of bounds for axis 0 with size 2"),
        ((0, -4), "index -4 is out of bounds for axis 1 with size 3"),
        ((0, 0, 0), "3 indices for a tensor of 2 axes"),
        ((..., ...), "only one ellipsis"),
        (slice(None, None, 0), "axis 0 is none: slice step cannot be zero"),
        (slice("a"), "axis 0 is none: slice indices must be integers"),
    ],
)
def test_a_wrong_index_is_told_in_a_sentence(index: Any, words: str) -> None:
    with pytest.raises(IndexError, match=words):
        from_array(of((2, 3)))[index]


@pytest.mark.parametrize("axis", [2, -3, 9])
def test_a_wrong_axis_is_told_in_a_sentence(axis: int) -> None:
    lazy = from_array(of((2, 3)))
    for call in (
        lambda: lazy.slice(axis, 0, 1),
        lambda: lazy.split(1, axis),
        lambda: lazy.transpose((0, axis)),
        lambda: operations.concat([lazy, lazy], axis),
    ):
        with pytest.raises(IndexError, match=f"axis {axis} of a tensor of 2 axes"):
            call()


def test_negative_axes_count_from_the_end() -> None:
    values = of((2, 3))
    lazy = from_array(values)
    assert np.array_equal(operations.stack([lazy, lazy], -1).numpy(), np.stack([values, values], -1))
    assert np.array_equal(lazy.slice(-1, 1, 3).numpy(), values[:, 1:])
    assert np.array_equal(lazy.transpose((-1, 0)).numpy(), values.T)


@given(shapes)
def test_t_reverses_all_axes_and_reads_nothing(shape: tuple[int, ...]) -> None:
    turned = from_array(of(shape)).T
    assert isinstance(turned, LazyTensor)
    assert np.array_equal(turned.numpy(), of(shape).T)


def test_a_lazy_tensor_can_be_walked_row_by_row() -> None:
    values = of((3, 2))
    assert [row.tolist() for row in from_array(values)] == values.tolist()  # type: ignore[attr-defined]
