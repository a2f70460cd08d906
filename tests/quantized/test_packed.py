"""Packed weights through a layout: whatever it does, MLX's form gives the values of the dense tensor.

Covers `quantized/packed.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from wconv.errors import WconvError
from wconv.quantized.compressed_tensors import E2M1
from wconv.quantized.mlx import Dequantized
from wconv.quantized.packed import NONE_HOLDS, marked, packed_form, stored_values, unmarked
from wconv.quantized.recognition import find_weights
from wconv.quantized.stored import MlxForm, StoredWeight, StoredWeights
from wconv.tensors import operations
from wconv.tensors.lazy import LazyTensor, from_array
from wconv.tensors.quantize import Quantization

HOWS = [
    Quantization("affine", 4, 32),
    Quantization("affine", 3, 64),
    Quantization("affine", 8, 128),
    Quantization.of("mxfp4"),
    Quantization.of("nvfp4"),
    Quantization.of("mxfp8"),
]


def weight(
    how: Quantization, shape: tuple[int, ...], seed: int = 0, *, turned: bool = False, dtype: Any = np.float16
) -> LazyTensor:
    """A marked weight of any codes; turned, its last two axes are exchanged."""
    random = np.random.default_rng(seed)
    columns, groups = shape[-1] * how.bits // 32, shape[-1] // how.group_size
    codes = from_array(random.integers(0, 1 << 32, (*shape[:-1], columns), dtype=np.uint32))
    if how.has_biases:
        scales = from_array(random.random((*shape[:-1], groups)).astype(dtype))
        biases: LazyTensor | None = from_array(random.random((*shape[:-1], groups)).astype(dtype))
    else:
        scales = from_array(random.integers(100, 110, (*shape[:-1], groups), dtype=np.uint8))
        biases = None
    dense: LazyTensor = Dequantized(codes, scales, biases, how, scales.dtype if biases else BFLOAT16)
    if turned:
        dense = dense.transpose((*range(len(shape) - 2), len(shape) - 1, len(shape) - 2))
    form = MlxForm(how, codes, scales, biases, turned=turned)
    return mark(dense, lambda: form)


BFLOAT16 = from_array(np.zeros(1, np.float32)).cast("bfloat16").dtype


def mark(dense: LazyTensor, packed: Callable[[], MlxForm | None] | None) -> LazyTensor:
    stored = StoredWeights("x", "a checkpoint", {"w": StoredWeight("w", ("w",), dense, packed)})
    return marked({"w": dense}, stored)["w"]


def check(tensor: LazyTensor) -> MlxForm:
    """MLX's values of the form are those of the dense tensor."""
    form = packed_form(tensor)
    assert isinstance(form, MlxForm), form
    again = Dequantized(form.weight, form.scales, form.biases, form.how, tensor.dtype)
    assert again.shape == tensor.shape
    assert form.scales.shape == (*tensor.shape[:-1], tensor.shape[-1] // form.how.group_size)
    one, other = again.numpy(), tensor.numpy()
    zero = one.dtype.type(0)  # of which ModelOpt has no negative one
    assert (one + zero).tobytes() == (other + zero).tobytes()
    return form


@pytest.mark.parametrize("how", HOWS, ids=str)
def test_moves(how: Quantization) -> None:
    one = weight(how, (6, 256))
    check(one)
    for part in (*one.split(3), *one.split((1, 5)), *one.split(2, 1)):
        check(part)
    for place in range(2):
        check(one.slice(0, place, 6, 2))
    check(one.reshape((2, 3, 256)).transpose((1, 0, 2)).slice(1, 1, 2))
    check(one.reshape((6, 2, 128)))
    check(one.reshape((6, 2, 128)).reshape((3, 512)))


@pytest.mark.parametrize("how", HOWS, ids=str)
@pytest.mark.parametrize("axis", [0, 1])
def test_joining(how: Quantization, axis: int) -> None:
    parts = [weight(how, (4, 128), seed) for seed in range(3)]
    form = check(operations.concat(parts, axis))
    assert form.how == how
    stacked = operations.stack(parts)
    check(stacked)
    for place, single in enumerate(stacked.split(3)):
        assert single.reshape((4, 128)).numpy().tobytes() == parts[place].numpy().tobytes()
        check(single.reshape((4, 128)))


@pytest.mark.parametrize("how", HOWS, ids=str)
def test_what_is_stored_turned_is_turned_back(how: Quantization) -> None:
    experts = weight(how, (3, 8, 128), turned=True)
    assert experts.shape == (3, 128, 8)
    assert packed_form(experts) == "the layout exchanges its axes"
    back = experts.transpose((0, 2, 1))
    for part in (back, back.slice(1, 0, 8, 2), back.slice(1, 1, 8, 2), back.slice(0, 1, 2).reshape((8, 128))):
        check(part)
    # taken apart and put together again while it is turned
    singles = [part.reshape((128, 8)) for part in experts.split(3)]
    check(operations.stack(singles).transpose((0, 2, 1)))
    check(singles[1].transpose((1, 0)))
    halves = experts.split(2, 2)
    check(operations.concat(halves[::-1], 2).transpose((0, 2, 1)))


def test_other_groups_are_brought_together() -> None:
    parts = [weight(Quantization("affine", 4, size), (4, 128), size) for size in (128, 32, 64)]
    form = check(operations.stack(parts))
    assert form.how == Quantization("affine", 4, 32)


OTHERS = "the layout exchanges axes and makes others of them"


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (lambda one: one.transpose((1, 0)), "the layout exchanges its axes"),
        (lambda one: one.slice(1, 0, 48), "the layout cuts it within groups of 32"),
        (lambda one: one.slice(1, 16, 128), "the layout cuts it within groups of 32"),
        (lambda one: one.slice(1, 0, 128, 2), "the layout cuts it within groups of 32"),
        (lambda one: one.reshape((8, 4, 16)), "the layout cuts rows within groups of 32"),
        (lambda one: one.reshape((-1,)).reshape((64, 8)), "the layout cuts rows within groups of 32"),
        (lambda one: one.add(1.0), "the layout changes its values"),
        (lambda one: one.cast("float32"), "the layout changes its values"),
        (
            lambda one: one.transpose((1, 0)).reshape((64, 8)),
            "the layout exchanges axes and makes others of them",
        ),
        (lambda one: operations.concat([one, mark(one, None)]), NONE_HOLDS),
        (
            lambda one: operations.concat([one, one.transpose((1, 0)).reshape((4, 128))]),
            OTHERS,
        ),
        (
            lambda one: operations.concat([one, weight(Quantization("affine", 8, 32), (4, 128))]),
            "the 2 that the layout joins are stored in several ways",
        ),
        (
            lambda one: operations.concat([one, from_array(np.zeros((4, 128), np.float16))]),
            "the layout changes its values",
        ),
    ],
)
def test_what_cannot_be_done_packed_is_told(made: Callable[[LazyTensor], LazyTensor], why: str) -> None:
    assert packed_form(made(weight(HOWS[0], (4, 128)))) == why


def test_what_no_form_holds() -> None:
    plain = from_array(np.zeros((4, 128), np.float16))
    assert packed_form(mark(plain, None)) == NONE_HOLDS
    assert packed_form(mark(plain, lambda: None)) == NONE_HOLDS


def test_marks_leave_no_trace() -> None:
    one = weight(HOWS[0], (4, 128))
    made = operations.stack([one, one]).slice(1, 0, 2)
    assert stored_values(made) is one
    bare = unmarked(made)
    assert stored_values(bare) is None
    assert np.array_equal(bare.numpy(), made.numpy())


def test_a_form_is_looked_for_once() -> None:
    calls = []
    plain = from_array(np.zeros((4, 128), np.float16))
    one = mark(plain, lambda: calls.append(1))  # type: ignore[arg-type, return-value]
    for part in (*one.split(2), one):
        packed_form(part)
    assert len(calls) == 1


NVFP4 = {"quant_method": "modelopt", "quant_algo": "NVFP4"}


def fused_experts() -> dict[str, Any]:
    """ModelOpt's NVFP4 of experts that have their inputs before their outputs (E, inputs, outputs)."""
    random = np.random.default_rng(0)
    scales = random.integers(0x20, 0x48, (2, 4, 24), dtype=np.uint8).view(ml_dtypes.float8_e4m3fn)
    return {
        "experts.gate_up_proj": random.integers(0, 256, (2, 32, 24), dtype=np.uint8),
        "experts.gate_up_proj_weight_scale": scales,
        "experts.gate_up_proj_weight_scale_2": np.array(0.5, np.float32),
        "experts.gate_up_proj_input_scale": np.array(0.5, np.float32),
    }


@pytest.mark.parametrize("by", [0.5, 1.0])
def test_fused_experts_of_modelopt(by: float) -> None:
    arrays = fused_experts() | {"experts.gate_up_proj_weight_scale_2": np.array(by, np.float32)}
    tensors = {name: from_array(array) for name, array in arrays.items()}
    scheme = find_weights(
        tensors, {"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}}
    )
    assert scheme is not None
    dense = scheme.decode(tensors)
    assert dense.tensors.keys() == {"experts.gate_up_proj"}
    assert dense.dropped.keys() == {"experts.gate_up_proj_input_scale"}
    found = dense.tensors["experts.gate_up_proj"]
    packed = arrays["experts.gate_up_proj"]
    codes = np.stack((packed & 15, packed >> 4), axis=2).reshape(2, 64, 24)
    whole = np.repeat(
        arrays["experts.gate_up_proj_weight_scale"].astype(np.float32) * np.float32(by), 16, axis=1
    )
    wanted = np.array(E2M1, np.float32)[codes] * whole
    assert np.array_equal(found.numpy(), wanted)
    tensor = marked({name: one.cast("bfloat16") for name, one in dense.tensors.items()}, scheme)[
        "experts.gate_up_proj"
    ]
    if by != 1:
        assert packed_form(tensor.transpose((0, 2, 1))) == NONE_HOLDS
        return
    for part in tensor.transpose((0, 2, 1)).split(2, 1):
        check(part)


def test_fused_experts_in_8_bits_of_modelopt() -> None:
    codes = np.ones((2, 8, 6), ml_dtypes.float8_e4m3fn)
    arrays = {
        "experts.down_proj": codes,
        "experts.down_proj_weight_scale": np.array(0.5, np.float32),
        "experts.down_proj_input_scale": np.array(0.5, np.float32),
    }
    tensors = {name: from_array(array) for name, array in arrays.items()}
    scheme = find_weights(tensors, {})
    assert scheme is not None
    dense = scheme.decode(tensors)
    assert np.array_equal(dense.tensors["experts.down_proj"].numpy(), np.full((2, 8, 6), 0.5, np.float32))
    assert dense.dropped.keys() == {"experts.down_proj_input_scale"}


@pytest.mark.parametrize("end", ["", "_weight_scale", "_weight_scale_2"])
def test_a_part_of_fused_experts_that_is_missing(end: str) -> None:
    arrays = fused_experts()
    del arrays[f"experts.gate_up_proj{end}"]
    tensors = {name: from_array(array) for name, array in arrays.items()}
    with pytest.raises(WconvError, match=r"experts\.gate_up_proj"):
        find_weights(tensors, {"quantization_config": NVFP4})
