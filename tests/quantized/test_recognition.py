"""Weights in every scheme, as its own library wrote them, against the dense values that it makes of them.

Covers `quantized/`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import wconv
from wconv.quantized.recognition import find_weights
from wconv.quantized.stored import Dense, MlxForm, StoredWeights
from wconv.tensors.lazy import from_array

FIXTURES = Path(__file__).parents[2] / "fixtures" / "quantized"
FILES = ("model.safetensors", "pytorch_model.bin")
CASES = sorted(path.parent.name for path in FIXTURES.glob("*/expected.safetensors"))


def weights_of(case: str) -> Path:
    """The file of weights that the scheme's library wrote."""
    return next(path for name in FILES if (path := FIXTURES / case / name).exists())


def opened(case: str) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    path = FIXTURES / case
    config = json.loads((path / "config.json").read_text())
    source = wconv.open(weights_of(case))
    return source, config, dict(source.metadata)


def scheme_of(case: str) -> tuple[StoredWeights, Any, dict[str, Any]]:
    tensors, config, metadata = opened(case)
    scheme = find_weights(tensors, config, metadata)
    assert scheme is not None
    return scheme, tensors, config


def packed_forms(scheme: StoredWeights) -> dict[str, MlxForm]:
    """The weights whose values MLX's own forms hold, in those forms."""
    found = {name: one.packed() for name, one in scheme.weights.items() if one.packed is not None}
    return {name: form for name, form in found.items() if form is not None and not form.turned}


def same(name: str, one: np.ndarray, other: np.ndarray) -> None:
    assert one.shape == other.shape, name
    assert one.dtype == other.dtype, name
    assert np.array_equal(one.view(np.uint8), other.view(np.uint8)), name


def check(dense: Dense, case: str) -> None:
    expected = wconv.open(FIXTURES / case / "expected.safetensors")
    assert dense.tensors.keys() == expected.keys()
    for name, tensor in dense.tensors.items():
        same(name, tensor.cast(expected[name].dtype).numpy(), expected[name].numpy())


@pytest.mark.parametrize("case", CASES)
def test_dense_values_are_the_librarys(case: str) -> None:
    scheme, tensors, _ = scheme_of(case)
    check(scheme.decode(tensors), case)
    assert not scheme.notes


@pytest.mark.parametrize("case", CASES)
def test_any_range_is_that_of_the_whole(case: str) -> None:
    scheme, tensors, _ = scheme_of(case)
    random = np.random.default_rng(0)
    for name, tensor in scheme.decode(tensors).tensors.items():
        whole = tensor.numpy().reshape(-1)
        for _ in range(8):
            start, stop = sorted(random.integers(0, whole.size + 1, 2))
            same(name, tensor.read_range(int(start), int(stop)), whole[start:stop])


HELD = {
    "bitnet": {"affine"},
    "bitnet-auto": {"affine"},
    "ct-mxfp4": {"mxfp4"},
    "ct-mxfp8": {"mxfp8"},
    "deepseek-fp4": {"mxfp4", "mxfp8"},
    "deepseek-fp4-stacked": {"mxfp4", "mxfp8"},
    "fp8-powers": {"mxfp8"},
    "fp8-ue8m0": {"mxfp8"},
    "modelopt-mxfp4": {"mxfp4"},
    "modelopt-mxfp8": {"mxfp8"},
}
"""Of which MLX's own form holds every value; scales of 16 bits that are not short do not."""


@pytest.mark.parametrize("case", CASES)
def test_only_what_holds_every_value_becomes_mlxs_own(case: str) -> None:
    scheme, _, _ = scheme_of(case)
    assert {form.how.mode for form in packed_forms(scheme).values()} == HELD.get(case, set())


@pytest.mark.parametrize("case", HELD)
def test_mlx_dequantizes_its_own_form_to_the_same_values(case: str) -> None:
    core = pytest.importorskip("mlx.core")
    from wconv.mlx import to_mlx

    scheme, _, _ = scheme_of(case)
    expected = wconv.open(FIXTURES / case / "expected.safetensors")
    forms = packed_forms(scheme)
    assert forms
    for name, form in forms.items():
        how, biases = form.how, form.biases
        parts = [to_mlx(part.numpy()) for part in (form.weight, form.scales)]
        dense = core.dequantize(
            *parts,
            None if biases is None else to_mlx(biases.numpy()),
            group_size=how.group_size,
            bits=how.bits,
            mode=how.mode,
            dtype=core.bfloat16,
        )
        found = np.array(dense.view(core.uint16)).view(expected[name].dtype.numpy)
        same(name, found + np.zeros((), found.dtype), expected[name].numpy() + np.zeros((), found.dtype))


def pack_scales(case: str, dtype: Any) -> dict[str, Any]:
    """A fixture with scales that have a single bit, of which every product is exact."""
    tensors, config, _ = opened(case)
    made = dict(tensors)
    for name, tensor in tensors.items():
        if name.endswith(("scales", "weight_scale")):
            short = np.exp2(np.floor(np.log2(tensor.numpy().astype(np.float32)))).astype(tensor.dtype.numpy)
            made[name] = from_array(short)
    return made | {"": config}


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.startswith(("gptq", "awq", "ct-int4")) and case != "gptq-4-order"],
)
def test_integers_with_short_scales_are_held(case: str) -> None:
    core = pytest.importorskip("mlx.core")
    from wconv.mlx import to_mlx

    tensors = pack_scales(case, None)
    config = tensors.pop("")
    scheme = find_weights(tensors, config)
    assert scheme is not None
    forms, dense = packed_forms(scheme), scheme.decode(tensors)
    assert forms.keys() == scheme.weights.keys()
    for name, form in forms.items():
        assert form.biases is not None
        parts = [to_mlx(part.numpy()) for part in (form.weight, form.scales, form.biases)]
        values = core.dequantize(*parts, group_size=form.how.group_size, bits=form.how.bits, mode="affine")
        wanted = dense.tensors[name].numpy()
        found = np.array(values.astype(core.float32))
        assert np.array_equal(found, wanted.astype(np.float32)), name


@pytest.mark.parametrize(
    ("mode", "bits", "size"),
    [("affine", bits, size) for bits in (2, 3, 4, 5, 6, 8) for size in (32, 64, 128)]
    + [("mxfp4", 4, 32), ("mxfp8", 8, 32), ("nvfp4", 4, 16)],
)
def test_mlxs_own_models_are_dequantized_as_mlx_does(mode: str, bits: int, size: int) -> None:
    core = pytest.importorskip("mlx.core")
    dense = core.array(np.random.default_rng(0).standard_normal((6, 256), np.float32)).astype(core.bfloat16)
    parts = core.quantize(dense, group_size=size, bits=bits, mode=mode)
    tensors = {}
    for end, part in zip(("weight", "scales", "biases"), parts, strict=False):
        raw = np.array(part.view(core.uint16)) if part.dtype == core.bfloat16 else np.array(part)
        bf16 = ml_dtypes.bfloat16 if part.dtype == core.bfloat16 else raw.dtype
        tensors[f"a.{end}"] = from_array(raw.view(bf16))
    config = {"quantization": {"bits": bits, "group_size": size, "mode": mode}}
    scheme = find_weights(tensors, config)
    assert scheme is not None
    assert scheme.name == "mlx"
    made = scheme.decode(tensors).tensors
    assert made.keys() == {"a.weight"}
    wanted = core.dequantize(*parts, group_size=size, bits=bits, mode=mode)
    same("a", made["a.weight"].numpy().view(np.uint16), np.array(wanted.view(core.uint16)))


@pytest.mark.parametrize("rows", [32, 40])
@pytest.mark.parametrize("leading", [(), (3,)])
def test_blocks_that_the_weight_does_not_fill(rows: int, leading: tuple[int, ...]) -> None:
    """`weight_block_size` of 16 by 24: the last blocks of a row, and of a matrix in a stack, are cut."""
    random = np.random.default_rng(0)
    name = "experts.gate_up_proj" if leading else "q_proj.weight"
    codes = (random.integers(0, 256, (*leading, rows, 64), dtype=np.uint8) & 0xF7).view(
        ml_dtypes.float8_e4m3fn
    )
    grid = (*leading, -(-rows // 16), 3)
    scales = random.random(grid, np.float32)
    config = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [16, 24]}}
    tensors = {name: from_array(codes), f"{name}_scale_inv": from_array(scales)}
    scheme = find_weights(tensors, config)
    assert scheme is not None
    whole = np.repeat(np.repeat(scales, 16, axis=-2), 24, axis=-1)[..., :rows, :64]
    found = scheme.decode(tensors).tensors[name]
    same(name, found.numpy(), codes.astype(np.float32) * whole)
    same(name, found.read_range(70, 1000), (codes.astype(np.float32) * whole).reshape(-1)[70:1000])


@pytest.mark.parametrize("shape", [(3,), (3, 1, 1), (3, 8, 1), ()])
def test_scales_of_whole_experts_and_of_their_rows(shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    codes = (random.integers(0, 256, (3, 8, 16), dtype=np.uint8) & 0xF7).view(ml_dtypes.float8_e4m3fn)
    scales = random.random(shape, np.float32) if shape else np.array(0.5, np.float32)
    tensors = {"experts.down_proj": from_array(codes), "experts.down_proj_scale": from_array(scales)}
    scheme = find_weights(tensors, {})
    assert scheme is not None
    whole = scales.reshape(*shape, *(1,) * (3 - len(shape))) if shape else scales
    found = scheme.decode(tensors).tensors["experts.down_proj"].numpy()
    same("experts.down_proj", found, codes.astype(np.float32) * whole)


def test_one_model_may_hold_several_schemes() -> None:
    """As compressed-tensors' `mixed-precision` has it: other forms in other layers."""
    parts = [opened(case)[0] for case in ("ct-int4", "ct-fp8", "ct-nvfp4")]
    tensors = {
        name.replace("layers.0", f"layers.{at}"): tensor
        for at, part in enumerate(parts)
        for name, tensor in part.items()
    }
    scheme = find_weights(tensors, {"quantization_config": {"quant_method": "compressed-tensors"}})
    assert scheme is not None
    dense = scheme.decode(tensors).tensors
    for at, case in enumerate(("ct-int4", "ct-fp8", "ct-nvfp4")):
        expected = wconv.open(FIXTURES / case / "expected.safetensors")
        for name in ("self_attn.q_proj.weight", "self_attn.o_proj.weight"):
            found = dense[f"model.layers.{at}.{name}"]
            wanted = expected[f"model.layers.0.{name}"]
            same(name, found.cast(wanted.dtype).numpy(), wanted.numpy())
