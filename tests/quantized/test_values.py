"""Decoded values do not depend on which range is read, nor on how many are computed together."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from wconv.quantized import values
from wconv.quantized.codes import Unpacked
from wconv.quantized.values import Decoded, ScaleValues
from wconv.tensors import casts, dtypes
from wconv.tensors.borrowed import keeping
from wconv.tensors.dequantize import dequantize
from wconv.tensors.lazy import from_array
from wconv.tensors.quantize import Quantization, quantize

ROWS, COLUMNS = 40, 256


def scales(shape: tuple[int, ...], largest: float = 1e-3) -> ScaleValues:
    return ScaleValues(from_array(np.random.default_rng(1).random(shape, np.float32) * largest), "scales")


def codes(kind: str, *, nan: bool = False) -> Any:
    raw = np.random.default_rng(2).integers(0, 256, (ROWS, COLUMNS), np.uint8)
    if kind == "float8_e4m3fn":
        if not nan:
            raw[(raw & 0x7F) == 0x7F] = 0x80
        return raw.view(ml_dtypes.float8_e4m3fn)
    return raw.view(kind)


def weights(target: str) -> dict[str, Decoded]:
    to = dtypes.by_name(target)
    packed = Unpacked(from_array(codes("uint8")[:, : COLUMNS // 2]), 4, COLUMNS)
    fp8, with_nan = from_array(codes("float8_e4m3fn")), from_array(codes("float8_e4m3fn", nan=True))
    zeros = from_array(codes("uint8")[:, :2] & 15)
    return {
        "fp8 in blocks": Decoded(fp8, scales((3, 4)), (16, 64), to, "w"),
        "fp8 with NaN": Decoded(with_nan, scales((3, 4)), (16, 64), to, "w"),
        "fp8 and large scales": Decoded(fp8, scales((3, 4), 1e38), (16, 64), to, "w"),
        "fp8 and tiny scales": Decoded(fp8, scales((3, 4), 1e-38), (16, 64), to, "w"),
        "fp8 in blocks that are cut": Decoded(fp8, scales((2, 3)), (32, 100), to, "w"),
        "fp8, one scale": Decoded(fp8, scales((1, 1)), (ROWS, COLUMNS), to, "w"),
        "fp8, a divisor": Decoded(fp8, scales((3, 4)), (16, 64), to, "w", divide=True),
        "int8 by rows": Decoded(from_array(codes("int8")), scales((ROWS, 1)), (1, COLUMNS), to, "w"),
        "int4 in groups": Decoded(packed, scales((ROWS, 2)), (1, 128), to, "w", zero=8),
        "int4 with zeros": Decoded(packed, scales((ROWS, 2)), (1, 128), to, "w", zeros=zeros),
        "float4": Decoded(packed, scales((ROWS, 8)), (1, 32), to, "w", table=tuple(range(-8, 8))),
    }


def plainly(weight: Decoded) -> Any:
    """Each element by itself, in float32."""
    values = weight.codes.numpy().astype(np.float32)
    if weight.table:
        values = np.array(weight.table, np.float32)[values.astype(np.int64)]
    rows, columns = np.arange(ROWS) // weight.block[0], np.arange(COLUMNS) // weight.block[1]
    grid = np.ix_(rows, columns)
    if weight.zeros is not None:
        values = values - weight.zeros.numpy().astype(np.float32)[grid]
    factors = weight.scales.numpy()[grid]
    with np.errstate(all="ignore"):
        values = values - np.float32(weight.zero) if weight.zero else values
        values = values / factors if weight.divide else values * factors
    out = np.empty(values.size, weight.dtype.numpy)
    casts.cast(values.reshape(-1), out)
    return out


@pytest.mark.parametrize("target", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("name", weights("float32"))
def test_values_are_those_of_plain_arithmetic_whatever_is_read_together(
    name: str, target: str, monkeypatch: Any
) -> None:
    weight = weights(target)[name]
    casts.take_losses()
    expected = plainly(weight)
    lost = casts.take_losses()
    assert same(weight.read_range(), expected)
    assert casts.take_losses() == lost
    for at_once in (1, 3 * COLUMNS, 1 << 20):
        monkeypatch.setattr(values, "AT_ONCE", at_once)
        with keeping():
            assert same(weight.read_range(), expected)
            assert same(weight.read_range(1000, 5001), expected[1000:5001])


def same(one: Any, other: Any) -> bool:
    """Equal bit for bit, but for what a NaN looks like."""
    nan = np.isnan(other.astype(np.float32))
    raw = f"u{other.dtype.itemsize}"
    return np.array_equal(np.isnan(one.astype(np.float32)), nan) and np.array_equal(
        one.view(raw)[~nan], other.view(raw)[~nan]
    )


@pytest.mark.parametrize(
    "how", [Quantization.of(), Quantization.of("affine", 6, 32), Quantization.of("nvfp4")]
)
def test_the_way_back_does_not_depend_on_blocks(how: Quantization, monkeypatch: Any) -> None:
    dense = np.random.default_rng(4).standard_normal(1 << 13).astype(ml_dtypes.bfloat16)
    made = quantize(dense, how)

    def back() -> bytes:
        return dequantize(made.codes, made.scales, made.biases, how, dense.dtype).tobytes()

    whole = back()
    monkeypatch.setattr("wconv.tensors.dequantize.AT_ONCE", 1000)
    assert back() == whole
