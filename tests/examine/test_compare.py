"""What `compare` says of the values of two tensors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from wconv.examine.compare import Distance, distances
from wconv.tensors import parallel
from wconv.tensors.lazy import from_array


def distance(one: object, other: object, relative: float = 0.0) -> Distance:
    pair = (from_array(np.asarray(one)), from_array(np.asarray(other)))
    return distances({"": pair}, relative_tolerance=relative, jobs=2)[""]


def test_equal_bytes_are_equal_nan_too() -> None:
    values = np.array([1, math.nan, -math.inf, -0.0], np.float32)
    assert distance(values, values.copy()) == Distance(4)


def test_zeros_of_both_signs_and_nans_of_all_kinds_are_equal() -> None:
    nans = np.array([0x7FC00000, 0xFFC12345], np.uint32).view(np.float32)
    assert distance(nans, nans[::-1].copy()).differing == 0
    assert distance(np.float32([0.0]), np.float32([-0.0])).differing == 0


def test_the_largest_difference_the_error_and_the_cosine() -> None:
    found = distance(np.float32([3, 4, 0]), np.float32([3, 4, 1]))
    assert (found.count, found.differing, found.largest) == (3, 1, 1.0)
    assert found.error == pytest.approx(1 / math.sqrt(26))
    assert found.cosine == pytest.approx(25 / (5 * math.sqrt(26)))


def test_what_is_finite_in_one_only_is_unlike() -> None:
    found = distance(np.float32([1, math.nan, math.inf]), np.float32([1, 2, -math.inf]))
    assert (found.differing, found.unlike, found.largest) == (2, 2, 0.0)


def test_values_of_two_dtypes_are_compared_as_values() -> None:
    assert distance(np.float16([0.1]), np.float32([np.float16(0.1)])).differing == 0
    assert distance(np.float16([0.1]), np.float32([0.1])).differing == 1
    assert distance(np.int8([3]), np.float32([3])).differing == 0


def test_integers_that_float64_cannot_tell_apart_are_told_apart() -> None:
    found = distance(np.int64([2**60]), np.int64([2**60 + 1]))
    assert (found.differing, found.excess) == (1, 1.0)
    assert distance(np.int64([-1]), np.uint64([2**64 - 1])).differing == 1


def test_a_relative_tolerance_is_a_part_of_the_larger_value() -> None:
    assert distance(np.float64([100]), np.float64([101]), 0.01).excess == 0
    assert distance(np.float64([100]), np.float64([102]), 0.01).excess == pytest.approx(0.98)


def test_the_norms_are_those_of_the_whole_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges that are equal count as well, wherever the tensor is cut."""
    one = np.arange(1000, dtype=np.float32)
    other = one.copy()
    other[5] = 0
    whole = distance(one, other)
    monkeypatch.setattr(parallel, "RANGE", 64)
    cut = distance(one, other)
    assert cut.error == pytest.approx(whole.error) == pytest.approx(5 / math.sqrt((one**2).sum()))
    assert cut.cosine == pytest.approx(whole.cosine)
    assert cut.count == 1000


def test_complex_values_differ_by_their_magnitude() -> None:
    assert distance(np.complex64([3 + 4j]), np.complex64([0])).largest == 5.0


def test_an_error_in_a_thread_is_raised() -> None:
    class BrokenError(Exception):
        pass

    def make_worker() -> object:
        def work(part: int) -> None:
            raise BrokenError

        return work

    with pytest.raises(BrokenError):
        parallel.share(range(10), make_worker, 3)  # type: ignore[arg-type]
