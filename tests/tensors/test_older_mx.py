"""mxfp4 and mxfp8 as MLX before 0.32.2 rounds them, to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import wconv
from wconv.consumers.quantization import Quantize
from wconv.errors import WconvError
from wconv.tensors.quantize import Quantization, quantize

FIXTURE = Path(__file__).parents[2] / "fixtures" / "quantized_by_mlx" / "mx-0.32.1.safetensors"
DTYPES: dict[str, Any] = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", ["mxfp4", "mxfp8"])
def test_codes_and_scales_are_those_of_mlx_0_32_1(mode: str, dtype: str) -> None:
    held = wconv.load(FIXTURE)
    values = np.asarray(held["values"]).astype(DTYPES[dtype])
    how = Quantization.of(mode)
    older = quantize(values, Quantization(mode, how.bits, how.group_size, older=True))
    assert older.scales.tobytes() == np.asarray(held[f"{dtype}.{mode}.scales"]).tobytes()
    assert older.codes.tobytes() == np.asarray(held[f"{dtype}.{mode}.codes"]).tobytes()
    assert older.biases is None
    newer = quantize(values, how)
    assert 0.2 < np.mean(newer.scales != older.scales) < 0.8


@pytest.mark.parametrize("how", [Quantization.of(), Quantization.of("nvfp4")])
def test_the_other_modes_did_not_change(how: Quantization) -> None:
    values = np.asarray(wconv.load(FIXTURE)["values"])
    older = quantize(values, Quantization(how.mode, how.bits, how.group_size, older=True))
    newer = quantize(values, how)
    assert (older.codes.tobytes(), older.scales.tobytes()) == (newer.codes.tobytes(), newer.scales.tobytes())


@pytest.mark.parametrize(
    ("like", "older"), [("0.29.4", True), ("0.32.1", True), ("0.32.2", False), (None, False)]
)
def test_which_versions_round_so(like: str | None, older: bool) -> None:
    assert Quantize(like=like).older is older


@pytest.mark.parametrize("like", ["0.29.3", "0.32.5", "0.32", "latest", "", "1" * 5000, "0.32.2.1", "٠.32.2"])
def test_a_version_that_was_not_compared_is_refused(like: str) -> None:
    with pytest.raises(WconvError, match="whose rounding is known"):
        Quantize(like=like)
