"""A compiled library casts only what it casts as wconv does. Covers `tensors/compiled.py`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from wconv.tensors import casts, compiled, dtypes

Array = np.ndarray[Any, Any]
PAIR = ("bfloat16", "float16")
COUNT = compiled.FEWEST


class Library(ModuleType):
    """Stands for numkong: casts as numpy does, but for the patterns that it is told to get wrong."""

    def __init__(self, wrong: tuple[int, ...] = ()) -> None:
        super().__init__("numkong")
        self.wrong = wrong
        self.calls: list[int] = []

    def from_pointer(self, address: int, shape: tuple[int], dtype: str) -> Any:
        return SimpleNamespace(address=address, count=shape[0], dtype=dtype)

    def astype(self, source: Any, dtype: str, *, out: Any) -> None:
        self.calls.append(source.count)
        values, result = _array(source), _array(out)
        with np.errstate(all="ignore"):
            result[:] = values.astype(result.dtype)
        patterns = values.view(f"u{values.itemsize}")
        for pattern in self.wrong:
            result[patterns == pattern] = 0


def _array(pointer: Any) -> Array:
    import ctypes

    names = {"float8_e4m3": "float8_e4m3fn"}
    dtype = dtypes.by_name(names.get(pointer.dtype, pointer.dtype)).numpy
    memory = (ctypes.c_uint8 * (pointer.count * dtype.itemsize)).from_address(pointer.address)
    return np.frombuffer(memory, np.uint8).view(dtype)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    """Of no faults, installed."""
    found = Library()
    monkeypatch.setitem(sys.modules, "numkong", found)
    monkeypatch.delenv(compiled.OFF, raising=False)
    casts._trusted.cache_clear()
    yield found
    casts._trusted.cache_clear()


def values(name: str, *odd: float) -> Array:
    """Common weights, the last ones given."""
    dtype = dtypes.by_name(name).numpy
    found = (np.arange(COUNT, dtype=np.float32) % 97 - 48).astype(dtype)
    if odd:
        found[-len(odd) :] = odd
    return found


def result(source: Array, target: str) -> tuple[Array, casts.Overflow]:
    out = np.empty(source.size, dtypes.by_name(target).numpy)
    return out, casts.cast(source, out)


def own(source: Array, target: str) -> Array:
    out = np.empty(source.size, dtypes.by_name(target).numpy)
    with np.errstate(all="ignore"):
        casts.own_step(source.dtype, out.dtype)(source, out, casts.scratch())
    return out


@pytest.mark.parametrize(("source", "target"), list(compiled.LIMITS))
def test_the_library_is_used_where_it_proves_equal(library: Library, source: str, target: str) -> None:
    out, lost = result(values(source), target)
    assert library.calls[-1] == COUNT
    assert out.tobytes() == own(values(source), target).tobytes()
    assert lost == casts.NONE


@pytest.mark.parametrize("odd", [np.nan, -np.nan, np.inf, -np.inf, 65536.0, -65536.0])
def test_what_is_not_finite_is_not_given_to_it(library: Library, odd: float) -> None:
    source = values("bfloat16", odd)
    out, lost = result(source, "float16")
    assert COUNT not in library.calls
    assert out.view("u2")[-1] == own(source, "float16").view("u2")[-1]
    assert lost == (casts.Overflow(1, 65536.0) if np.isfinite(odd) else casts.NONE)


@pytest.mark.parametrize(("source", "target"), list(compiled.LIMITS))
def test_no_value_below_the_limit_overflows_and_the_next_does(source: str, target: str) -> None:
    limit = compiled.LIMITS[source, target]
    dtype = dtypes.by_name(source)
    near = np.array([limit - 1, limit], f"u{dtype.itemsize}").view(dtype.numpy)
    out, lost = result(near, target)
    assert np.isfinite(out[0].astype(np.float32))
    assert lost.count == 1 or not np.isfinite(near[1].astype(np.float32))


@pytest.mark.parametrize(("source", "target"), list(compiled.LIMITS))
def test_whether_all_are_below_the_limit_is_told_of_each_place_and_sign(source: str, target: str) -> None:
    limit, dtype = compiled.LIMITS[source, target], dtypes.by_name(source)
    sign = 1 << (dtype.bits - 1)
    two = np.array([2], np.float32).astype(dtype.numpy).view(f"u{dtype.itemsize}")[0]
    assert limit > two
    for count in (16, 17):
        for place in (0, 1, 7, count - 1):
            for pattern, below in (
                (two - 1, True),
                (two, True),
                (limit - 1, True),
                (limit, False),
                (sign - 1, False),
            ):
                found = np.zeros(count, f"u{dtype.itemsize}")
                for signed in (pattern, pattern | sign):
                    found[place] = signed
                    assert compiled.holds(found.view(dtype.numpy), limit) is below


@pytest.mark.parametrize("pattern", [0x3380, 0x3F81, 0xBF81, 0x8001 | 0x3380, 0x477F])
def test_one_wrong_value_and_it_is_not_used(library: Library, pattern: int) -> None:
    library.wrong = (pattern,)
    source = values("bfloat16")
    out, _ = result(source, "float16")
    assert COUNT not in library.calls
    assert out.tobytes() == own(source, "float16").tobytes()


def test_one_that_fails_is_not_used(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object, **more: object) -> None:
        raise TypeError("another version")

    monkeypatch.setattr(library, "astype", fails)
    source = values("bfloat16")
    assert result(source, "float16")[0].tobytes() == own(source, "float16").tobytes()


def test_small_casts_do_not_import_it(library: Library) -> None:
    result(values("bfloat16")[1:], "float16")
    assert not library.calls


def test_a_variable_turns_it_off(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compiled.OFF, "1")
    result(values("bfloat16"), "float16")
    assert not library.calls


def test_without_it_all_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numkong", None)
    casts._trusted.cache_clear()
    source = values("bfloat16")
    assert result(source, "float16")[0].tobytes() == own(source, "float16").tobytes()
    casts._trusted.cache_clear()


def test_the_trial_has_every_pattern_below_the_limit() -> None:
    found = np.concatenate([part.view("u2") for part in compiled.trial("bfloat16", 0x4780)])
    assert found.size == 2 * 0x4780
    halves = np.concatenate([part.view("u4") for part in compiled.trial("float32", 0x477FF000)]) >> 16
    assert np.unique(halves).size == 2 * 0x4780
