"""What ComfyUI tells of its layers: in tensors, in the header, and what is not decoded.

Covers `quantized/columns.py`, `quantized/swizzled.py`.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.quantized.test_recognition import opened
from wconv.errors import FormatError
from wconv.quantized.recognition import find_weights
from wconv.quantized.swizzled import padded, unswizzled
from wconv.tensors.lazy import from_array

LAYER = "model.diffusion_model.blocks.0.q_proj"


def told(case: str, **said: Any) -> Any:
    """A fixture whose layers tell something else."""
    tensors, config, metadata = opened(case)
    made = dict(tensors)
    for name in tensors:
        if name.endswith(".comfy_quant"):
            made[name] = from_array(np.frombuffer(json.dumps(said).encode(), np.uint8))
    return find_weights(made, config, metadata)


@pytest.mark.parametrize("form", ["convrot_w4a4", "asym_w4a8_int8", "awq_w4a16", "unheard-of", None])
def test_other_forms_are_refused_by_name(form: str | None) -> None:
    with pytest.raises(FormatError, match=rf"comfy_quant says {form!r}, .*not decoded; take the model"):
        told("comfy-int8", format=form)


def test_rotated_weights_are_refused() -> None:
    with pytest.raises(FormatError, match="whose weights are rotated"):
        told("comfy-int8", format="int8_tensorwise", convrot=True, convrot_groupsize=256)


def test_what_is_told_is_held_against_the_codes() -> None:
    with pytest.raises(FormatError, match=r"says another form than .* which is int8"):
        told("comfy-int8", format="float8_e4m3fn")


def test_the_header_tells_what_the_tensors_of_modelopt_do_not() -> None:
    """The same names and dtypes with another order of codes and of scales."""
    tensors, config, metadata = opened("comfy-nvfp4-header")
    assert find_weights(tensors, config, metadata) is not None
    broken = metadata | {"_quantization_metadata": "{}"}
    with pytest.raises(FormatError, match="lists no layers"):
        find_weights(tensors, config, broken)


def test_rows_that_only_fill_up_are_cut() -> None:
    """Of 40 rows mxfp8 stores 64, nvfp4 48: a bias tells it; without one they stay."""
    tensors, config, metadata = opened("comfy-mxfp8")
    made = {name: one for name, one in tensors.items() if not name.endswith("o_proj.bias")}
    found = find_weights(made, config, metadata)
    assert found is not None
    layer = LAYER.replace("q_proj", "o_proj")
    assert found.weights[f"{LAYER}.weight"].dense.shape == (64, 128)
    assert found.weights[f"{layer}.weight"].dense.shape == (64, 64)
    assert not found.weights[f"{layer}.weight"].dense.read(40, 64).any()


@pytest.mark.parametrize(("rows", "columns"), [(128, 4), (1, 1), (130, 9), (300, 4)])
def test_tiles_of_scales(rows: int, columns: int) -> None:
    """As cuBLAS describes it: the place of each scale of a tile, computed one by one."""
    high, wide = padded(rows, columns)
    whole = np.arange(high * wide, dtype=np.float32).reshape(high, wide)
    stored = np.empty(high * wide, np.float32)
    for row in range(high):
        for column in range(wide):
            tile = row // 128 * (wide // 4) + column // 4
            stored[tile * 512 + row % 32 * 16 + row % 128 // 32 * 4 + column % 4] = whole[row, column]
    codes = from_array(np.zeros((rows, columns), np.uint8))
    found = unswizzled("s", from_array(stored), rows, columns, "w", codes)
    assert np.array_equal(found.numpy(), whole[:rows, :columns])
    with pytest.raises(FormatError, match="in tiles"):
        unswizzled("s", from_array(stored[1:]), rows, columns, "w", codes)


def test_plain_numbers_of_8_bits_beside_scaled_weights_stay() -> None:
    """A token in float8 has no scale and needs none; a stack of weights without is damaged."""
    import ml_dtypes

    tensors, config, metadata = opened("comfy-scaled-fp8")
    plain = from_array(np.ones((1, 64), ml_dtypes.float8_e4m3fn))
    found = find_weights({**tensors, "blocks.pad_token": plain}, config, metadata)
    assert found is not None
    assert "blocks.pad_token" in found.decode({**tensors, "blocks.pad_token": plain}).tensors
    with pytest.raises(FormatError, match="without what it needs"):
        find_weights({**tensors, "blocks.experts.down_proj": plain}, config, metadata)
