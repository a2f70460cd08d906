"""8-bit floats with scales: DeepSeek's blocks, ModelOpt, FBGEMM, compressed-tensors, ComfyUI, MXFP8.

Dense values are those of transformers 5.23 (`finegrained_fp8.Fp8Dequantize`): the product in float32. Those
of compressed-tensors 0.20 (`NaiveQuantizationCompressor`) are products in the scale's own dtype.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from wconv.quantized import mlx_forms
from wconv.quantized.grids import block_size_of, on_grid
from wconv.quantized.stored import MlxForm, StoredWeight, Tensors, check_dtype, check_some
from wconv.quantized.values import FLOAT32, Decoded, ScaleValues
from wconv.tensors import dtypes
from wconv.tensors.dtypes import DType
from wconv.tensors.lazy import LazyTensor

NAME, TITLE = "fp8", "an FP8 checkpoint"

SCALES = ("_scale_inv", "_scale", "_weight_scale")
"""Ends of the names of scales, after the weight's own; the last of ModelOpt's fused experts."""

DOTTED = (".scale_weight", ".scale")
"""The same, in the place of `.weight`."""

FLOATS = ("float32", "bfloat16", "float16")

IN_USE = (
    ".input_scale",
    ".scale_input",
    ".output_scale",
    ".activation_scale",
    ".input_scale_ub",
    ".k_scale",
    ".v_scale",
    ".q_scale",
    ".prob_output_scale",
    ".kv_scale",
    ".kv_cache_scaling_factor",
    ".k_proj.k_bias",
    ".v_proj.v_bias",
)
"""Scales of what flows through a layer; its weight does without."""

WHY = "scales activations, which only programs that compute in 8 bits do"


def read(
    tensors: Tensors, settings: Mapping[str, Any], metadata: Mapping[str, Any]
) -> Iterator[StoredWeight]:
    """The weights that are 8-bit floats with scales."""
    by_library = settings.get("quant_method") == "compressed-tensors"
    for name, tensor in tensors.items():
        if not (tensor.dtype.is_floating and tensor.dtype.bits == 8) or _is_scale(name):
            continue
        found = scale_of(name, tensors)
        if found is None:
            continue
        yield _weight(name, tensor, found, tensors, settings, by_library=by_library)


def scale_of(name: str, tensors: Tensors) -> str | None:
    """The tensor of scales that belongs to a weight."""
    stem = name.removesuffix(".weight")
    tried = (*(name + end for end in SCALES), *(stem + end for end in DOTTED if name != stem))
    return next((one for one in tried if one in tensors), None)


def _is_scale(name: str) -> bool:
    return name.endswith((*SCALES, *DOTTED, "scaled_fp8"))


def unused_of(name: str, tensors: Tensors) -> dict[str, str]:
    """What belongs to a weight and counts for activations only."""
    stem = name.removesuffix(".weight")
    ends = IN_USE if stem != name else ("_input_scale", "_activation_scale")
    return {stem + end: WHY for end in ends if stem + end in tensors}


def _weight(
    name: str,
    tensor: LazyTensor,
    scale: str,
    tensors: Tensors,
    settings: Mapping[str, Any],
    *,
    by_library: bool,
) -> StoredWeight:
    found = tensors[scale]
    exponents = found.dtype.name in ("uint8", "float8_e8m0fnu")
    check_dtype(scale, found, *FLOATS, "uint8", "float8_e8m0fnu")
    check_some(name, tensor)
    to = _computed_in(found.dtype) if by_library else FLOAT32
    scales = ScaleValues(found, scale, exponents=exponents)
    bare = Decoded(tensor, scales, (1, 1), to, name)
    dense = on_grid(bare, scales, block_size_of(settings))
    parts = (name, scale)
    return StoredWeight(name, parts, dense, lambda: _packed(dense), unused_of(name, tensors))


def _computed_in(scale: DType) -> DType:
    return dtypes.by_name("bfloat16") if scale.bits == 8 else scale


def _packed(dense: LazyTensor) -> MlxForm | None:
    """mxfp8, where all scales are powers of two."""
    if not isinstance(dense, Decoded) or dense.codes.dtype.name != "float8_e4m3fn":
        return None
    columns = dense.codes.shape[-1]
    high, wide = dense.block
    if columns % 32 or (wide % 32 and wide != columns) or dense.codes.ndim < 2:
        return None
    if not mlx_forms.powers_of_two(dense.scales):
        return None
    shape = (*dense.codes.shape[:-1], columns // 32)
    scales = mlx_forms.Widened(mlx_forms.Exponents(dense.scales), high, -(-wide // 32), shape)
    return mlx_forms.floating("mxfp8", dense.codes.view("uint8"), scales)


def markers(tensors: Tensors) -> dict[str, str]:
    """Tensors that only say that a file holds scaled fp8, or that scale a cache."""
    ends = ("scaled_fp8", *IN_USE, ".input_zero_point", ".input_global_scale")
    return {
        name: "says only that the file holds scaled fp8" if name.endswith("scaled_fp8") else WHY
        for name in tensors
        if name.endswith(ends)
    }
