"""Weights stored in 8 bits are decoded a range at a time, and scales that do not fit are refused."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from wconv.errors import LayoutError
from wconv.layouts.computed.scaled import dequantized, dequantized_of_padded
from wconv.tensors.lazy import from_array

E4M3 = ml_dtypes.float8_e4m3fn


def weight(rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, columns)).astype(E4M3)


def test_each_block_has_its_scale() -> None:
    stored = weight(300, 200)
    scale = np.random.default_rng(1).random((3, 2), np.float32)
    decoded = dequantized(from_array(stored), from_array(scale))
    spread = np.kron(scale, np.ones((128, 128), np.float32))[:300, :200]
    expected = (stored.astype(np.float32) * spread).astype(ml_dtypes.bfloat16)
    assert decoded.dtype.name == "bfloat16"
    assert decoded.numpy().tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1), (127 * 200 + 5, 128 * 200 + 7), (59999, 60000), (77, 50003)]
)
def test_any_range_is_decoded_alone(start: int, stop: int) -> None:
    scale = np.random.default_rng(1).random((3, 2), np.float32)
    decoded = dequantized(from_array(weight(300, 200)), from_array(scale))
    assert decoded.read_range(start, stop).tobytes() == decoded.read_range()[start:stop].tobytes()


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_a_single_scale_holds_for_all(shape: tuple[int, ...]) -> None:
    stored = weight(4, 6)
    scale = np.full(shape, 0.5, ml_dtypes.bfloat16)
    decoded = dequantized(from_array(stored), from_array(scale)).numpy()
    assert (
        decoded.tobytes()
        == (stored.astype(ml_dtypes.bfloat16) * np.float32(0.5)).astype(decoded.dtype).tobytes()
    )


@pytest.mark.parametrize(("start", "stop"), [(0, 60), (0, 1), (19, 21), (20, 40), (7, 59)])
def test_each_expert_has_its_scale(start: int, stop: int) -> None:
    stored = weight(15, 4).reshape(3, 5, 4)
    scale = np.random.default_rng(1).random((3, 1, 1)).astype(ml_dtypes.bfloat16)
    decoded = dequantized(from_array(stored), from_array(scale))
    expected = (stored.astype(np.float32) * scale.astype(np.float32)).astype(ml_dtypes.bfloat16)
    assert decoded.shape == (3, 5, 4)
    assert decoded.read_range(start, stop).tobytes() == expected.reshape(-1)[start:stop].tobytes()


@pytest.mark.parametrize("blocks", [(2, 2), (3, 1), (3, 2, 1), (300, 200)])
def test_scales_of_another_shape_are_refused(blocks: tuple[int, ...]) -> None:
    with pytest.raises(LayoutError, match="do not fit a weight of shape"):
        dequantized(from_array(weight(300, 200)), from_array(np.ones(blocks, np.float32)))


def test_scales_of_padding_can_be_left_out() -> None:
    stored, scale = from_array(weight(300, 200)), np.random.default_rng(1).random((4, 3), np.float32)
    padded = dequantized_of_padded(stored, from_array(scale)).numpy()
    assert padded.tobytes() == dequantized(stored, from_array(scale[:3, :2])).numpy().tobytes()
    with pytest.raises(LayoutError, match="do not fit a weight of shape"):
        dequantized_of_padded(stored, from_array(scale[:2]))


def test_a_weight_of_more_bits_is_refused() -> None:
    with pytest.raises(LayoutError, match="a float16 weight"):
        dequantized(from_array(np.ones((2, 2), np.float16)), from_array(np.ones((1, 1), np.float32)))
