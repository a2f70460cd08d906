"""Memory that kernels borrow: theirs alone while they have it, kept while it is asked for, then let go."""

from __future__ import annotations

import itertools
import threading

import numpy as np

from wconv.tensors import borrowed as module
from wconv.tensors.borrowed import LARGEST, LINE, MOST_KEPT, borrowed, keeping


def address(nbytes: int) -> int:
    with borrowed(nbytes) as arena:
        return int(arena.empty((nbytes,), np.uint8).ctypes.data)


def kept() -> int:
    return sum(piece.nbytes for piece in module._local.kept)


def test_arrays_begin_at_lines_of_the_cache_and_do_not_overlap() -> None:
    with borrowed(3 + 8 + 20, arrays=3) as arena:
        arrays = [arena.empty((3,), np.uint8), arena.empty((1,), np.float64), arena.empty((2, 5), np.uint16)]
    ends = [(array.ctypes.data, array.ctypes.data + array.nbytes) for array in arrays]
    assert all(start % LINE == 0 for start, _ in ends)
    assert all(stop <= start for (_, stop), (start, _) in itertools.pairwise(ends))


def test_the_same_memory_comes_again_while_it_is_kept() -> None:
    with keeping():
        first = address(5000)
        assert address(4000) == first
        with keeping():
            assert address(5000) == first
        assert kept() > 0
    assert kept() == 0


def test_nothing_is_kept_unless_asked_for() -> None:
    address(5000)
    assert kept() == 0


def test_nobody_gets_what_another_has() -> None:
    with keeping(), borrowed(100) as one, borrowed(100) as other:
        left, right = one.empty((100,), np.uint8), other.empty((100,), np.uint8)
        left[:], right[:] = 1, 2
        assert left.max() == 1


def test_what_is_kept_is_bounded() -> None:
    with keeping():
        for size in range(1000, 1000 + 2 * MOST_KEPT):
            address(size * 64)
        address(LARGEST + 1)
        assert len(module._local.kept) <= MOST_KEPT
        assert kept() < LARGEST


def test_an_error_gives_back() -> None:
    with keeping():
        first = address(5000)
        try:
            with borrowed(5000):
                raise ValueError
        except ValueError:
            pass
        assert address(5000) == first


def test_each_thread_has_its_own() -> None:
    found: list[int] = []
    with keeping():
        address(5000)
        thread = threading.Thread(target=lambda: found.append(len(module._local.kept)))
        thread.start()
        thread.join()
    assert found == [0]
