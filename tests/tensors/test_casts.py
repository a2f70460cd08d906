"""Casts equal numpy's and torch's on every value, and say what overflowed.

Covers `tensors/kernels.py`.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracles import oracle
from wconv.errors import WconvError
from wconv.tensors import casts, dtypes, kernels
from wconv.tensors.casts import Overflow, cast

Array = np.ndarray[Any, Any]

FLOATS = [dtype.name for dtype in dtypes.TABLE if dtype.is_floating and dtype.bits >= 8]
REALS = [dtype.name for dtype in dtypes.TABLE if dtype.kind != "complex"]
TARGETS = ["float64", "float32", "float16", "bfloat16"]
FULL_SWEEP = "WCONV_FULL_SWEEP"
"""Set this variable to compare all 2^32 float32 patterns instead of a part of them (minutes)."""


def numpy_dtype(name: str) -> np.dtype[Any]:
    return dtypes.by_name(name).numpy


def patterns(name: str) -> Array:
    """Every value of a dtype of up to 16 bits; of a wider one, the telling values."""
    dtype = dtypes.by_name(name)
    if dtype.kind == "bool":
        return np.array([False, True])
    if dtype.bits <= 16:
        unsigned = np.uint8 if dtype.bits <= 8 else np.uint16
        return np.arange(2**dtype.bits, dtype=unsigned).view(dtype.numpy)
    if dtype.kind == "int":
        shifts = np.arange(64, dtype=np.uint64)
        near = np.concatenate([(np.uint64(1) << shifts) + np.uint64(offset) for offset in range(40)])
        near = np.concatenate([near, near * np.uint64(0x8001), ~near])
        return near.astype(dtype.numpy)
    with np.errstate(all="ignore"):
        return boundaries().astype(dtype.numpy)


@np.errstate(all="ignore")
def boundaries() -> Array:
    """float64: all values of the narrow dtypes, the midpoints between them, and their nearest neighbours."""
    exact = []
    for name in ("float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"):
        dtype = dtypes.by_name(name)
        unsigned = np.uint8 if dtype.bits == 8 else np.uint16
        values = np.arange(2**dtype.bits, dtype=unsigned).view(dtype.numpy)
        values = np.unique(values.astype(np.float64))
        values = values[np.isfinite(values)]
        beyond = values[-1] * np.array([-1.0009765625, -1.001953125, 1.0009765625, 1.001953125, 1.0625])
        exact.append(np.concatenate([values, (values[:-1] + values[1:]) / 2, beyond]))
    points = np.concatenate(exact)
    narrow = points.astype(np.float32)
    steps = [np.nextafter(narrow, np.float32(side)).astype(np.float64) for side in (-np.inf, np.inf)]
    fine = [np.nextafter(points, side) for side in (-np.inf, np.inf)]
    rest = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 3.5e38, 1e300, -1e300, 1e-320])
    return np.concatenate([points, *steps, *fine, rest])


def assert_same(got: Array, want: Array, source: Array) -> None:
    """The same bits, or NaN on both sides."""
    unsigned = f"u{want.itemsize}"
    different = got.view(unsigned) != want.view(unsigned)
    if want.dtype.kind not in "iub":
        with np.errstate(invalid="ignore"):
            different &= ~(np.isnan(got) & np.isnan(want))
    at = np.flatnonzero(different)
    assert not at.size, f"{at.size} differ, such as {source[at[0]]!r}: {got[at[0]]!r}, not {want[at[0]]!r}"


def by_numpy(source: Array, target: str) -> Array:
    """`astype`, by way of float32 for values wider than that, as torch does."""
    with np.errstate(all="ignore"):
        if source.itemsize > 4 and numpy_dtype(target).itemsize < 4:
            source = source.astype(np.float32)
        return source.astype(numpy_dtype(target))


def result(source: Array, target: str) -> tuple[Array, Overflow]:
    out = np.full(source.size, 0x5A, np.uint8).repeat(numpy_dtype(target).itemsize).view(numpy_dtype(target))
    return out, cast(source, out)


@pytest.mark.parametrize(
    ("source", "target"), [pair for pair in itertools.product(REALS, TARGETS) if pair[0] != pair[1]]
)
def test_every_value_is_cast_as_numpy_casts_it(source: str, target: str) -> None:
    values = patterns(source)
    out, _ = result(values, target)
    assert_same(out, by_numpy(values, target), values)


@pytest.mark.parametrize(("source", "target"), list(kernels.KERNELS))
def test_kernels_agree_with_numpy_on_every_pattern_among_common_weights(source: str, target: str) -> None:
    """Rare values spread thinly take the kernel's own path, not the fallback's."""
    special = patterns(source)
    special = special[:: special.size // 100_000 + 1]
    common = np.random.default_rng(5).standard_normal((special.size, 47)) + 2.0
    values = np.hstack([special[:, None], common.astype(special.dtype)]).reshape(-1)
    out, _ = result(values, target)
    assert_same(out, by_numpy(values, target), values)


@pytest.mark.parametrize(
    ("source", "target"), [pair for pair in kernels.KERNELS if dtypes.by_name(pair[0]).bits == 8]
)
def test_blocks_of_rare_patterns_of_8_bits_are_cast_as_numpy_casts_them(source: str, target: str) -> None:
    values = np.tile(patterns(source), 64)
    values = np.concatenate([values, np.repeat(patterns(source), 100)])
    for part in (values, values[np.abs(values.astype(np.float32)) < 0.01], values[::-1].copy()):
        out, lost = result(part, target)
        assert_same(out, by_numpy(part, target), part)
        assert lost == casts.NONE


def sweep(step: int) -> Iterator[Array]:
    """Every `step`-th float32 pattern from a random first one, all of them when `FULL_SWEEP` is set."""
    step = 1 if os.environ.get(FULL_SWEEP) else step
    first = int(np.random.default_rng().integers(step))
    for start in range(0, 2**32, step << 20):
        yield np.arange(start + first, start + (step << 20), step, dtype=np.uint32).view(np.float32)


@pytest.mark.parametrize("target", ["float16", "bfloat16"])
def test_float32_of_any_pattern_is_cast_as_numpy_casts_it(target: str) -> None:
    for values in sweep(1021):
        out, _ = result(values, target)
        assert_same(out, by_numpy(values, target), values)


@pytest.mark.parametrize("target", ["float16", "bfloat16"])
def test_float32_weights_are_cast_as_numpy_casts_them(target: str) -> None:
    rng = np.random.default_rng(6)
    values = np.ldexp(rng.uniform(-2, 2, 1 << 20), rng.integers(-16, 16, 1 << 20)).astype(np.float32)
    out, _ = result(values, target)
    assert_same(out, by_numpy(values, target), values)


@pytest.mark.parametrize("name", [dtype.name for dtype in dtypes.TABLE])
def test_a_cast_to_the_same_dtype_copies_the_bits(name: str) -> None:
    source = np.random.default_rng(7).bytes(640)
    values = np.frombuffer(source, numpy_dtype(name))
    out, overflow = result(values, name)
    assert out.tobytes() == source
    assert overflow == casts.NONE


@pytest.mark.parametrize(
    ("source", "target", "values", "count", "largest"),
    [
        ("bfloat16", "float16", [1.0, 65280.0, 65536.0, -3e38, np.inf, np.nan], 2, 3e38),
        ("float32", "float16", [65504.0, 65519.99, 65520.0, -70000.0, -np.inf], 2, 70000.0),
        ("float64", "float16", [1.0, 65504.0, 1e5, 1e300, np.inf], 2, 1e300),
        ("float32", "bfloat16", [3.3895e38, 3.4e38, -3.4e38], 2, 3.4e38),
        ("float64", "float32", [3.4e38, 3.5e38, np.inf], 1, 3.5e38),
        ("int64", "float16", [65519, 65520, -(2**40)], 2, 2.0**40),
        ("uint16", "float16", [65519, 65520], 1, 65520.0),
        ("float8_e8m0fnu", "float16", [1.0, 2.0**15, 2.0**16, np.nan], 1, 65536.0),
        ("float32", "float8_e4m3fn", [448.0, 464.0, 465.0, -1e9, np.inf], 2, 1e9),
        ("float32", "float8_e5m2", [57344.0, 61440.0, np.inf], 1, 61440.0),
        ("float32", "float8_e4m3fnuz", [240.0, 248.0, np.inf], 1, 248.0),
        ("float16", "bfloat16", [65504.0, np.inf], 0, 0.0),
        ("bfloat16", "float32", [3.3895e38, np.inf], 0, 0.0),
        ("complex128", "complex64", [1e39, 1 + 1j, complex(0, np.inf)], 1, 1e39),
    ],
)
@pytest.mark.parametrize("padding", [0, 5000])
def test_overflow_counts_the_finite_values_that_were_lost(
    source: str, target: str, values: list[float], count: int, largest: float, padding: int
) -> None:
    array = np.array([*values, *[1] * padding]).astype(numpy_dtype(source))
    overflow = result(array, target)[1]
    assert overflow.count == count
    assert overflow.largest == pytest.approx(largest, rel=2e-3)


LENGTH_PAIRS = [*kernels.KERNELS, ("float64", "float16"), ("int64", "bfloat16")]


def test_overflow_adds_up_over_blocks() -> None:
    values = np.ones(3 * kernels.BLOCK + 77, np.float32)
    values[[0, kernels.BLOCK, values.size - 1]] = 1e5, 3e5, -2e5
    assert result(values, "float16")[1] == Overflow(3, np.float32(3e5))


@pytest.mark.parametrize(("source", "target"), LENGTH_PAIRS)
@pytest.mark.parametrize(
    "size", [0, 1, 7, casts.SMALL - 1, casts.SMALL, casts.SMALL + 5, kernels.BLOCK, kernels.BLOCK + 1]
)
def test_any_length_is_cast_whole(source: str, target: str, size: int) -> None:
    values = np.resize(np.linspace(-100, 100, 997), size).astype(numpy_dtype(source))
    values[-1:] = 0
    out, overflow = result(values, target)
    assert_same(out, by_numpy(values, target), values)
    assert overflow == casts.NONE


@pytest.mark.parametrize(("source", "target"), list(kernels.KERNELS))
@pytest.mark.parametrize("value", [0.0, 2.0**-20, np.nan])
def test_blocks_of_irregular_values_are_cast_too(source: str, target: str, value: float) -> None:
    for share in (1, 2, 5, 9, 40):
        values = np.ones(10_007)
        values[::share] = value
        values = values.astype(numpy_dtype(source))
        out, _ = result(values, target)
        assert_same(out, by_numpy(values, target), values)


def test_irregular_blocks_do_not_go_through_single_elements(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    counted = casts._counted

    def spy(source: Array, out: Array, scratch: kernels.Scratch | None = None) -> Overflow:
        sizes.append(source.size)
        return counted(source, out, scratch)

    monkeypatch.setattr(casts, "_counted", spy)
    for share, expected in ((1, 80_000), (100, 800 * casts.RUN)):
        values = np.ones(80_000, numpy_dtype("bfloat16"))
        values[::share] = 0
        sizes.clear()
        result(values, "float16")
        assert max(sizes) == expected


def test_a_scratch_serves_one_cast_after_another() -> None:
    scratch = kernels.Scratch()
    rng = np.random.default_rng(8)
    for source, target in [*kernels.KERNELS, *kernels.KERNELS]:
        size = int(rng.integers(casts.SMALL, 20_000))
        values = rng.standard_normal(size).astype(numpy_dtype(source))
        out = np.empty(size, numpy_dtype(target))
        cast(values, out, scratch)
        assert_same(out, by_numpy(values, target), values)


def test_threads_do_not_share_their_buffers() -> None:
    values = [np.full(kernels.BLOCK, fill, numpy_dtype("bfloat16")) for fill in (0.5, -3.0)]
    wrong = []

    def work(source: Array) -> None:
        out = np.empty(source.size, np.float16)
        for _ in range(50):
            cast(source, out)
            if not (out == np.float16(source[0])).all():
                wrong.append(source[0])

    threads = [threading.Thread(target=work, args=(source,)) for source in values]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_unaligned_buffers_are_cast() -> None:
    values = np.linspace(-9, 9, 5000).astype(np.float32)
    source = np.empty(values.nbytes + 1, np.uint8)[1:].view(np.float32)
    source[:] = values
    out = np.empty(2 * values.size + 1, np.uint8)[1:].view(np.float16)
    cast(source, out)
    assert_same(out, by_numpy(values, "float16"), values)


@given(st.lists(st.floats(width=32), min_size=1, max_size=50), st.sampled_from(["float16", "bfloat16"]))
def test_short_lists_are_cast_as_numpy_casts_them(values: list[float], target: str) -> None:
    source = np.array(values, np.float32)
    out, _ = result(source, target)
    assert_same(out, by_numpy(source, target), source)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("complex64", "float32"),
        ("complex64", "int8"),
        ("float32", "float4_e2m1fn_x2"),
        ("float16", "float6_e2m3fn"),
    ],
)
def test_a_cast_that_would_lose_more_than_precision_is_refused(source: str, target: str) -> None:
    with pytest.raises(WconvError, match=f"{target}|imaginary"):
        result(np.ones(3, numpy_dtype(source)), target)


@pytest.mark.parametrize(
    "source", ["bfloat16", "float64", "int16", "bool", "float8_e4m3fn", "float4_e2m1fn_x2"]
)
def test_reals_become_complex(source: str) -> None:
    values = np.array([0, 1, 1]).astype(numpy_dtype(source))
    assert result(values, "complex64")[0].tolist() == [0, 1, 1]


@pytest.mark.parametrize("source", REALS)
@pytest.mark.parametrize("target", ["bool", "int8", "int64", "uint8"])
def test_small_whole_numbers_survive_as_integers(source: str, target: str) -> None:
    values = np.array([1, 1, 0 if source != "float8_e8m0fnu" else 1]).astype(numpy_dtype(source))
    assert result(values, target)[0].tolist() == values.astype(np.float32).tolist()


def test_flushed_subnormals_do_not_reach_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_SUBNORMAL", np.float32(0))
    for source in ("float16", "float8_e4m3fn"):
        values = np.tile(patterns(source), 16)
        out, _ = result(values, "float32")
        assert_same(out, by_numpy(values, "float32"), values)


def as_torch(torch: Any, values: Array, name: str) -> Any:
    if values.dtype.kind in "iub":
        return torch.from_numpy(values)
    signed = {1: np.uint8, 2: np.int16, 4: np.int32, 8: np.int64}[values.itemsize]
    return torch.from_numpy(values.view(signed)).view(getattr(torch, name))


def from_torch(torch: Any, tensor: Any, name: str) -> Array:
    if not tensor.dtype.is_floating_point:
        return np.asarray(tensor.numpy())
    signed = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    return np.asarray(tensor.view(signed).numpy()).view(numpy_dtype(name))


@pytest.mark.oracle
@pytest.mark.parametrize("target", FLOATS)
@pytest.mark.parametrize("source", [name for name in REALS if dtypes.by_name(name).bits >= 8])
def test_every_value_is_cast_as_torch_casts_it(source: str, target: str) -> None:
    torch = oracle("torch")
    values = patterns(source)
    want = from_torch(torch, as_torch(torch, values, source).to(getattr(torch, target)), target)
    assert_same(result(values, target)[0], want, values)
    spread = np.insert(np.ones(values.size * 63, values.dtype), np.arange(values.size) * 63, values)
    got = result(spread, target)[0]
    assert_same(got[::64][: values.size], want, values)


@pytest.mark.oracle
@pytest.mark.parametrize("target", ["float16", "bfloat16"])
def test_float32_of_any_pattern_is_cast_as_torch_casts_it(target: str) -> None:
    torch = oracle("torch")
    for values in sweep(31):
        want = torch.from_numpy(values).to(getattr(torch, target))
        assert_same(result(values, target)[0], from_torch(torch, want, target), values)


def test_importing_the_casts_does_not_import_torch() -> None:
    program = "import sys, wconv.tensors.casts; sys.exit('torch' in sys.modules or 'mlx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
