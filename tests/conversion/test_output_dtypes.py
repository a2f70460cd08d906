"""Which dtype a tensor is written in."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from wconv.conversion.output_dtypes import SUBSTITUTES, written_dtype
from wconv.tensors import dtypes

E4M3, E8M0, BF16, F16 = (
    dtypes.by_name(name) for name in ("float8_e4m3fn", "float8_e8m0fnu", "bfloat16", "float16")
)


def test_every_dtype_that_mlx_lacks_has_a_substitute_that_it_has() -> None:
    lacking = {row.name for row in dtypes.TABLE if row.mlx is None}
    assert {row.source for row in SUBSTITUTES} == lacking
    assert all(dtypes.by_name(row.written).mlx for row in SUBSTITUTES)


@pytest.mark.parametrize(
    "row", [row for row in SUBSTITUTES if row.written == "bfloat16"], ids=lambda row: row.source
)
def test_bfloat16_holds_every_value_it_substitutes(row: object) -> None:
    source = dtypes.by_name(row.source)  # type: ignore[attr-defined]
    values = np.arange(2**source.bits, dtype=np.uint8).view(source.numpy)
    exact, written = values.astype(np.float32), values.astype(ml_dtypes.bfloat16).astype(np.float32)
    assert np.array_equal(exact, written, equal_nan=True)


@pytest.mark.parametrize(
    ("name", "scales"),
    [
        ("a.weight", "a.weight_scale_inv"),
        ("a.weight", "a.weight_scale"),
        ("a.weight", "a.scale"),
        ("a.weight", "a.scales"),
        ("experts.gate_up_proj", "experts.gate_up_proj_scale_inv"),
    ],
)
def test_fp8_beside_its_scales_stays_bytes(name: str, scales: str) -> None:
    assert written_dtype(name, E4M3, F16, {name, scales}) is E4M3
    assert written_dtype(name, E4M3, F16, {name}) is F16
    assert written_dtype(name, E4M3, None, {name}) is BF16
    assert written_dtype(scales, E8M0, F16, {name, scales}) is E8M0


def test_only_floating_dtypes_follow_the_request() -> None:
    for row in dtypes.TABLE:
        if row.kind in ("int", "bool"):
            assert written_dtype("x", row, F16, {"x"}) is row
    assert written_dtype("x", BF16, F16, {"x"}, keep={"x"}) is BF16
    assert written_dtype("x", BF16, None, {"x"}) is BF16
