"""Tensors in pieces read what the whole holds, over every range; what is missing is named."""

from __future__ import annotations

import pickle
import random
import re
from typing import Any

import numpy as np
import pytest

from wconv.errors import FormatError
from wconv.tensors import dtypes, pieces
from wconv.tensors.lazy import LazyTensor, from_array
from wconv.tensors.pieces import Piece, joined

FLOAT32 = dtypes.by_name("float32")
Box = tuple[tuple[int, int], ...]


def cut(shape: tuple[int, ...], times: int, chance: random.Random) -> list[Box]:
    """Boxes that a shape falls into when one after another is cut in two; some are empty."""
    boxes: list[Box] = [tuple((0, length) for length in shape)]
    for _ in range(times if shape else 0):
        at = chance.randrange(len(boxes))
        box = boxes[at]
        axis = chance.randrange(len(shape))
        begin, end = box[axis]
        middle = chance.randint(begin, end)
        boxes[at] = (*box[:axis], (begin, middle), *box[axis + 1 :])
        boxes.append((*box[:axis], (middle, end), *box[axis + 1 :]))
    return boxes


def piece(array: Any, box: Box) -> Piece:
    part = np.ascontiguousarray(array[tuple(slice(*span) for span in box)])
    return Piece(
        tuple(begin for begin, _ in box), from_array(part.reshape([end - begin for begin, end in box]))
    )


def put_together(array: Any, boxes: list[Box]) -> LazyTensor:
    return joined([piece(array, box) for box in boxes], FLOAT32, array.shape, "w", "dir")


@pytest.mark.parametrize("seed", range(60))
def test_any_cuts_read_as_the_whole(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "BLOCK", 16)
    chance = random.Random(seed)
    shape = tuple(chance.randint(1, 7) for _ in range(seed % 5))
    array = np.random.default_rng(seed).random(shape, np.float32)
    boxes = cut(shape, seed % 9, chance)
    if seed % 3 == 0:
        # copies, and boxes that lie across others
        boxes.append(chance.choice(boxes))
        spans = [sorted((chance.randint(0, length), chance.randint(0, length))) for length in shape]
        boxes.append(tuple((begin, end) for begin, end in spans))
    chance.shuffle(boxes)
    tensor = pickle.loads(pickle.dumps(put_together(array, boxes)))
    assert np.array_equal(tensor.numpy(), array)
    for _ in range(8):
        start, stop = sorted((chance.randint(0, array.size), chance.randint(0, array.size)))
        assert np.array_equal(tensor.read_range(start, stop), array.reshape(-1)[start:stop])
    block = tensor.block_size
    assert np.array_equal(tensor.read_range(0, min(block, array.size)), array.reshape(-1)[:block])


@pytest.mark.parametrize("seed", range(30))
def test_a_hole_is_named_where_it_is(seed: int) -> None:
    chance = random.Random(seed)
    shape = tuple(chance.randint(1, 7) for _ in range(1 + seed % 4))
    array = np.random.default_rng(seed).random(shape, np.float32)
    boxes = [box for box in cut(shape, 6, chance) if all(begin < end for begin, end in box)]
    boxes.remove(chance.choice(boxes))
    covered = np.zeros(shape, bool)
    for box in boxes:
        covered[tuple(slice(*span) for span in box)] = True
    with pytest.raises(FormatError, match=r"of w is in no file") as told:
        put_together(array, boxes)
    found = re.search(r"\[(.*?)\]", str(told.value))
    assert found is not None
    hole = tuple(slice(*map(int, span.split(":"))) for span in found[1].split(", "))
    assert covered[hole].size
    assert not covered[hole].any()


def test_a_hole_between_boxes_that_lie_across_each_other() -> None:
    array = np.zeros((3, 3), np.float32)
    windmill: list[Box] = [((0, 1), (0, 2)), ((0, 2), (2, 3)), ((2, 3), (1, 3)), ((1, 3), (0, 1))]
    with pytest.raises(FormatError, match=re.escape("dir: [1:2, 1:2] of w is in no file")):
        put_together(array, windmill)
    assert np.array_equal(put_together(array, [*windmill, ((1, 2), (1, 2))]).numpy(), array)


def test_copies_must_agree() -> None:
    one, other = np.zeros((2, 2), np.float32), np.ones((2, 2), np.float32)
    box: Box = ((0, 2), (0, 2))
    tensor = joined([piece(one, box), piece(other, box)], FLOAT32, (2, 2), "w", "dir")
    with pytest.raises(FormatError, match="dir: w differs from what another file holds"):
        tensor.numpy()
    half = joined([piece(one, ((0, 2), (0, 1))), piece(other, box)], FLOAT32, (2, 2), "w", "dir")
    with pytest.raises(FormatError, match="w differs"):
        half.numpy()


@pytest.mark.parametrize(
    ("offsets", "dtype", "message"),
    [
        ((1, 0), np.float32, "is its [1:3, 0:2], beyond its shape (2, 2)"),
        ((-1, 0), np.float32, "beyond its shape"),
        ((0,), np.float32, "has 2 axes"),
        ((0, 0), np.float16, "is float16 and another is float32"),
    ],
)
def test_pieces_that_do_not_fit(offsets: tuple[int, ...], dtype: Any, message: str) -> None:
    part = Piece(offsets, from_array(np.zeros((2, 2), dtype)))
    shape = (2,) if len(offsets) == 1 else (2, 2)
    with pytest.raises(FormatError, match=re.escape(message) if len(offsets) > 1 else "axes"):
        joined([part], FLOAT32, shape, "w", "dir")


def test_an_empty_tensor_needs_no_pieces() -> None:
    assert joined([], FLOAT32, (0, 3), "w", "dir").numpy().shape == (0, 3)
    with pytest.raises(FormatError, match=re.escape("[0:2] of w is in no file")):
        joined([], FLOAT32, (2,), "w", "dir")


def test_many_pieces_across_each_other_are_refused_at_once() -> None:
    chance = random.Random(0)
    many = []
    for _ in range(3000):
        spans = [sorted(chance.sample(range(10**6), 2)) for _ in range(2)]
        many.append(
            Piece(
                (spans[0][0], spans[1][0]), _Nothing((spans[0][1] - spans[0][0], spans[1][1] - spans[1][0]))
            )
        )
    many.append(Piece((0, 0), _Nothing((10**6, 1))))
    many.append(Piece((0, 0), _Nothing((1, 10**6))))
    many.append(Piece((10**6 - 1, 0), _Nothing((1, 10**6))))
    many.append(Piece((0, 10**6 - 1), _Nothing((10**6, 1))))
    with pytest.raises(FormatError, match="lie across each other: refused"):
        joined(many, FLOAT32, (10**6, 10**6), "w", "dir")


class _Nothing(LazyTensor):
    """A tensor of a shape that nobody reads."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.dtype, self.shape = FLOAT32, shape

    def read_into(self, start: int, stop: int, out: Any) -> None:
        raise AssertionError
