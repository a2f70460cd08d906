"""4-bit floats in pairs: gpt-oss's MXFP4 in blocks, DeepSeek-V4's and Quark's beside it, ModelOpt's NVFP4.

Dense values: gpt-oss as transformers 5.23 (`convert_moe_packed_tensors`), in bfloat16; DeepSeek's experts as
its `Fp8Dequantize`, products in float32; NVFP4 as ModelOpt (`NVFP4QTensor.dequantize`): the two scales are
multiplied in float32, then the value with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from wconv.quantized import mlx_forms
from wconv.quantized.codes import Unpacked
from wconv.quantized.compressed_tensors import E2M1
from wconv.quantized.fp8 import WHY, scale_of, unused_of
from wconv.quantized.stored import (
    MlxForm,
    StoredWeight,
    Tensors,
    check_dtype,
    check_shape,
    check_some,
    misfit,
    need,
)
from wconv.quantized.values import FLOAT32, Decoded, ScaleValues
from wconv.tensors import dtypes, operations
from wconv.tensors.lazy import LazyTensor

NAME, TITLE = "float4", "a checkpoint of 4-bit floats (MXFP4, NVFP4)"


def read(
    tensors: Tensors, settings: Mapping[str, Any], metadata: Mapping[str, Any]
) -> Iterator[StoredWeight]:
    """The weights that are float4 with two kinds of scales, in blocks, or with an exponent for each group."""
    for name, tensor in tensors.items():
        if name.endswith("_blocks") and tensor.dtype.name == "uint8" and tensor.ndim > 1:
            yield _blocks(name.removesuffix("_blocks"), tensors)
        elif tensor.dtype.name == "uint8" and (pair := _two_scales_of(name, tensors)):
            yield _two_scales(name, pair, tensors)
        elif tensor.dtype.name in PAIRED and tensor.ndim > 1:
            label = _exponents_of(name, tensors)
            if label is not None:
                yield _microscaled(name, label, tensors)


def _two_scales_of(name: str, tensors: Tensors) -> str | None:
    """The scales of a weight that has a float8 for each group, and a number for all.

    Other codes have other scales; fused experts have them under names of their own.
    """
    for label in (f"{name}_scale", f"{name}_weight_scale"):
        found = tensors.get(label)
        if f"{label}_2" in tensors and (found is None or found.dtype.bits == 8):
            return label
    return None


PAIRED = ("int8", "uint8", "float4_e2m1fn_x2")
"""Dtypes of float4: two in a byte, or the file's own, of which each element is one."""

GROUP = 32
"""Values with one exponent."""


def _exponents_of(name: str, tensors: Tensors) -> str | None:
    """The scales of a weight, where they are exponents, one for each group of a row."""
    label = scale_of(name, tensors)
    if label is None or tensors[label].dtype.name not in ("uint8", "float8_e8m0fnu"):
        return None
    return label


def _microscaled(name: str, label: str, tensors: Tensors) -> StoredWeight:
    """float4 as the experts of DeepSeek-V4 have it (`expert_dtype`), and Quark's and ModelOpt's MXFP4."""
    stored, found = tensors[name], tensors[label]
    check_some(name, stored)
    paired = stored.dtype.bits == 8
    columns = stored.shape[-1] * (2 if paired else 1)
    if columns % GROUP or found.shape != (*stored.shape[:-1], columns // GROUP):
        raise misfit(label, found, name, stored, f"one for each group of {GROUP} in {columns}")
    bytes_ = stored.view("uint8") if paired else None
    codes = stored if bytes_ is None else Unpacked(bytes_, 4, columns)
    scales = ScaleValues(found, label, exponents=True)
    table = E2M1 if paired else ()
    dense = Decoded(codes, scales, (1, GROUP), FLOAT32, name, table=table)

    def packed() -> MlxForm | None:
        return None if bytes_ is None else mlx_forms.floating("mxfp4", bytes_, found, scales)

    return StoredWeight(name, (name, label), dense, packed, unused_of(name, tensors))


def _blocks(weight: str, tensors: Tensors) -> StoredWeight:
    """(…, rows, groups, 16) and (…, rows, groups); of experts the dense weight is transposed."""
    name, label = f"{weight}_blocks", f"{weight}_scales"
    blocks, found = tensors[name], need(tensors, label, name)
    check_some(name, blocks)
    check_dtype(label, found, "uint8", "float8_e8m0fnu")
    check_shape(label, found, blocks.shape[:-1], name, blocks)
    if blocks.shape[-1] != 16 or blocks.ndim < 3:
        raise misfit(label, found, name, blocks, "16 bytes for each scale")
    groups = blocks.shape[-2]
    codes = Unpacked(blocks.reshape((*blocks.shape[:-2], groups * 16)), 4, groups * 32)
    scales = ScaleValues(found, label, exponents=True)
    dense = Decoded(codes, scales, (1, 32), dtypes.by_name("bfloat16"), name, table=E2M1)
    turned = (
        dense.transpose((*range(dense.ndim - 2), dense.ndim - 1, dense.ndim - 2)) if dense.ndim > 2 else dense
    )

    def packed() -> MlxForm | None:
        form = mlx_forms.floating("mxfp4", codes.packed, found, scales)
        return form and replace(form, turned=dense.ndim > 2)

    return StoredWeight(weight, (name, label), turned, packed)


def _two_scales(name: str, label: str, tensors: Tensors) -> StoredWeight:
    """A scale for each group of a row, and one for all, or for each expert of a stack.

    Fused experts that have their inputs before their outputs are packed along the inputs all the same
    (ModelOpt's `maybe_transpose_expert_weight_dimensions`).

    Args:
        label: the scales' name.
    """
    whole = f"{label}_2"
    codes, found, by = tensors[name], need(tensors, label, name), tensors[whole]
    turned = codes.ndim == 3 and found.shape == (codes.shape[0], codes.shape[1] // 8, codes.shape[2])
    turned = turned and found.shape != (*codes.shape[:-1], codes.shape[-1] // 8)
    if turned:
        codes, found = codes.transpose((0, 2, 1)), found.transpose((0, 2, 1))
    check_some(name, codes)
    check_dtype(label, found, "float8_e4m3fn")
    check_dtype(whole, by, "float32")
    columns = codes.shape[-1] * 2 if codes.ndim else 0
    group = _group(columns, found)
    check_shape(label, found, (*codes.shape[:-1], columns // group), name, codes)
    if columns % group:
        raise misfit(label, found, name, codes, f"one for each group of {group}")
    experts = codes.shape[0] if codes.ndim == 3 else 1
    if by.size not in (1, experts):
        raise misfit(whole, by, name, codes, "a single number, or one for each expert,")
    values = Unpacked(codes, 4, columns)

    def scaled(values: LazyTensor, found: LazyTensor, by: LazyTensor) -> LazyTensor:
        scales = ScaleValues(found, label, by=ScaleValues(by, whole))
        return Decoded(values, scales, (1, group), FLOAT32, name, table=UNSIGNED_ZERO)

    if by.size == 1:
        dense = scaled(values, found, by)
    else:
        flat = by.reshape((experts,))
        dense = operations.stack(
            [
                scaled(
                    values.slice(0, at, at + 1).reshape(values.shape[1:]),
                    found.slice(0, at, at + 1).reshape(found.shape[1:]),
                    flat.slice(0, at, at + 1),
                )
                for at in range(experts)
            ]
        )

    def packed() -> MlxForm | None:
        if not bool((by.read_range() == 1).all()):
            return None
        if group != 16:
            return None
        form = mlx_forms.floating("nvfp4", codes, found, ScaleValues(found, label))
        return form and replace(form, turned=turned)

    unused = {one: WHY for one in unused_of(name, tensors) if one != whole}
    made = dense.transpose((0, 2, 1)) if turned else dense
    return StoredWeight(name, (name, label, whole), made, packed, unused)


UNSIGNED_ZERO = (*E2M1[:8], 0.0, *E2M1[9:])
"""The value of each code as ModelOpt has it: both zeros are the same."""

GROUPS = (16, 32)
"""Values with one float8: of NVFP4, and of ModelOpt's for activations in fp8."""


def _group(columns: int, found: LazyTensor) -> int:
    last = found.shape[-1] if found.ndim else 0
    return next((one for one in GROUPS if last * one == columns), GROUPS[0])
