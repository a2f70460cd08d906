"""Quantized weights are MLX's to the last bit, and so is the way back.

Covers `tensors/dequantize.py`.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wconv.errors import WconvError
from wconv.tensors.dequantize import dequantize, unpack
from wconv.tensors.quantize import MODES, Quantization, quantize

mx = pytest.importorskip("mlx.core")

DTYPES: dict[str, Any] = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32}
WAYS = [
    *(Quantization.of("affine", bits, size) for bits in (2, 3, 4, 5, 6, 8) for size in (32, 64, 128)),
    *(Quantization.of(mode) for mode in MODES if mode != "affine"),
]


def awkward() -> dict[str, Any]:
    """Rows of every kind that arithmetic trips over."""
    rng = np.random.default_rng(0)
    plain = rng.standard_normal((16, 256))
    rare = rng.random((16, 256)) < 0.01
    huge = plain.copy()
    huge[3, 7] = 1e30
    some_zeros = np.where(rng.random((16, 256)) < 0.3, 0, plain)
    some_zeros[2, 3], some_zeros[4, 9], some_zeros[5, 9] = np.inf, -np.inf, np.nan
    return {
        "plain": plain,
        "small": plain * 1e-8,
        "subnormal": plain * 1e-40,
        "the least of float16": plain * 2.0**-22,
        "constant": np.full((4, 256), 0.37),
        "zeros": np.zeros((2, 256)),
        "zeros of both signs": np.where(plain < 0, -0.0, 0.0),
        "negative": -np.abs(plain),
        "positive": np.abs(plain),
        "near the largest float": plain * 1e38,
        "one huge value": huge,
        "outliers": np.where(rare, 3e4, plain),
        "infinity": np.where(rare, np.inf, plain),
        "negative infinity": np.where(rare, -np.inf, plain),
        "zeros beside what is not finite": some_zeros,
        "NaN": np.where(rare, np.nan, plain),
        "nothing but NaN": np.full((2, 256), np.nan),
    }


AWKWARD = awkward()


def to_numpy(array: Any, dtype: str | None = None) -> Any:
    """An MLX array's bits, as the dtype of that name."""
    bits = np.array(array.view({1: mx.uint8, 2: mx.uint16, 4: mx.uint32}[array.dtype.size]))
    return bits.view(DTYPES[dtype]) if dtype else bits


def cast(values: Any, dtype: str) -> tuple[Any, Any]:
    """The values as an MLX array, and as numpy's of the same bits."""
    theirs = mx.array(np.asarray(values, np.float32)).astype(getattr(mx, dtype))
    return theirs, to_numpy(theirs, dtype)


def assert_same_bits(ours: Any, theirs: Any) -> None:
    """Equal bit for bit; one NaN is as good as another."""
    assert ours.size == theirs.size
    ours, theirs = ours.reshape(-1), theirs.reshape(-1)
    if ours.dtype.kind in "ui":
        assert np.array_equal(ours, theirs)
        return
    raw = f"u{ours.dtype.itemsize}"
    nan = np.isnan(ours.astype(np.float32))
    assert np.array_equal(nan, np.isnan(theirs.astype(np.float32)))
    assert np.array_equal(ours.view(raw)[~nan], theirs.view(raw)[~nan])


def assert_equals_mlx(values: Any, dtype: str, how: Quantization) -> None:
    theirs, ours = cast(values, dtype)
    parts = mx.quantize(theirs, group_size=how.group_size, bits=how.bits, mode=how.mode)
    result = quantize(ours, how)
    assert np.array_equal(result.codes.reshape(-1), np.array(parts[0]).view(np.uint8).reshape(-1))
    name = None if MODES[how.mode].scale else dtype
    assert_same_bits(result.scales, to_numpy(parts[1], name))
    if result.biases is not None:
        assert_same_bits(result.biases, to_numpy(parts[2], name))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("how", WAYS, ids=str)
def test_every_way_equals_mlx_on_awkward_rows(how: Quantization, dtype: str) -> None:
    for values in AWKWARD.values():
        assert_equals_mlx(values, dtype, how)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("how", WAYS, ids=str)
def test_every_way_equals_mlx_on_random_bits(how: Quantization, dtype: str) -> None:
    bits = np.random.default_rng(1).integers(0, 1 << 16, (64, 512), np.uint16)
    values = bits.view(DTYPES[dtype]).astype(np.float32)
    finite = np.where(np.isfinite(values), values, 1.0)
    assert_equals_mlx(finite, dtype, how)


@settings(max_examples=60, deadline=None)
@given(
    how=st.sampled_from(WAYS),
    dtype=st.sampled_from(sorted(DTYPES)),
    seed=st.integers(0, 2**32 - 1),
    scale=st.floats(-30, 30),
)
def test_every_way_equals_mlx_at_every_magnitude(
    how: Quantization, dtype: str, seed: int, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    assert_equals_mlx(rng.standard_normal((3, 128)) * np.exp2(scale), dtype, how)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("how", WAYS, ids=str)
def test_the_way_back_equals_mlx_for_any_codes_and_scales(how: Quantization, dtype: str) -> None:
    rng = np.random.default_rng(2)
    codes = rng.integers(0, 1 << 32, (16, 512 * how.bits // 32), np.uint32)
    groups = (16, 512 // how.group_size)
    if how.has_biases:
        scales, ours = cast(rng.standard_normal(groups), dtype)
        biases, our_biases = cast(rng.standard_normal(groups), dtype)
        theirs = mx.dequantize(
            mx.array(codes), scales, biases, group_size=how.group_size, bits=how.bits, mode=how.mode
        )
    else:
        ours, our_biases = rng.integers(0, 256, groups, np.uint8), None
        theirs = mx.dequantize(mx.array(codes), mx.array(ours), mode=how.mode, dtype=getattr(mx, dtype))
    dense = dequantize(codes, ours, our_biases, how, np.dtype(DTYPES[dtype]))
    assert_same_bits(dense, to_numpy(theirs, dtype))


@pytest.mark.parametrize("how", WAYS, ids=str)
def test_codes_are_packed_from_the_lowest_bit_up(how: Quantization) -> None:
    result = quantize(np.asarray(AWKWARD["plain"], np.float32), how)
    bits = np.unpackbits(result.codes, axis=1, bitorder="little").reshape(len(result.codes), -1, how.bits)
    assert np.array_equal(unpack(result.codes, how), (bits << np.arange(how.bits)).sum(2))


def test_each_mode_has_its_own_defaults() -> None:
    assert Quantization.of() == Quantization("affine", 4, 64)
    assert Quantization.of("mxfp4") == Quantization("mxfp4", 4, 32)
    assert Quantization.of("mxfp8") == Quantization("mxfp8", 8, 32)
    assert Quantization.of("nvfp4") == Quantization("nvfp4", 4, 16)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("int4",), "'int4' is not a quantization mode: one of affine, mxfp4, mxfp8, nvfp4"),
        (("affine", 7), "affine does not have bits 7: it has 2, 3, 4, 5, 6, 8"),
        (("affine", 4, 48), "affine does not have groups of 48: it has 32, 64, 128"),
        (("nvfp4", 8), "nvfp4 does not have bits 8: it has 4"),
    ],
)
def test_what_a_mode_does_not_have_is_refused(words: tuple[Any, ...], text: str) -> None:
    with pytest.raises(WconvError, match=text):
        Quantization.of(*words)


def test_the_size_of_a_weight_counts_scales_and_biases() -> None:
    assert Quantization.of().bits_per_weight("bfloat16") == 4.5
    assert Quantization.of("mxfp4").bits_per_weight("bfloat16") == 4.25
    assert Quantization.of("affine", 8, 32).bits_per_weight("float32") == 10
