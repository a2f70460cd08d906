"""compressed-tensors: packed integers, plain int8, and small floats in pairs; 8-bit floats are in `fp8`.

Dense values are those of compressed-tensors 0.20: products in the scales' dtype (`dequantize`); of small
floats in pairs products in float32, rounded to bfloat16 (`NVFP4PackedCompressor`, `MXFP4PackedCompressor`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from wconv.errors import FormatError
from wconv.quantized import mlx_forms
from wconv.quantized.codes import Flipped, Spread, Unpacked
from wconv.quantized.fp8 import WHY
from wconv.quantized.grids import block_size_of, on_grid
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
from wconv.quantized.values import Decoded, ScaleValues
from wconv.tensors import dtypes
from wconv.tensors.lazy import LazyTensor
from wconv.tensors.quantize_floats import FP4

NAME, TITLE = "compressed-tensors", "a compressed-tensors checkpoint"

FLOATS = ("bfloat16", "float16", "float32")

E2M1 = (*FP4, *(-value for value in FP4))
"""The value of each code of float4."""

_POSITIVE = (
    *(part / 8 for part in range(8)),
    *((1 + part / 8) * 2**e for e in range(3) for part in range(8)),
)

E2M3 = (*_POSITIVE, *(-value for value in _POSITIVE))
"""The value of each code of float6."""

IN_USE = (
    "input_scale",
    "input_zero_point",
    "input_global_scale",
    "output_scale",
    "output_zero_point",
    "output_global_scale",
)


def read(
    tensors: Tensors, settings: Mapping[str, Any], metadata: Mapping[str, Any]
) -> Iterator[StoredWeight]:
    """The weights that are packed, or plain int8 with scales."""
    for name, tensor in tensors.items():
        if name.endswith(".weight_packed"):
            stem = name.removesuffix("weight_packed")
            if tensor.dtype.name == "uint8":
                yield _floats(stem, tensors)
            else:
                yield _packed_integers(stem, tensors, settings)
        elif name.endswith(".weight") and tensor.dtype.name == "int8" and f"{name}_scale" in tensors:
            if tensors[f"{name}_scale"].dtype.bits == 8:
                continue  # exponents: pairs of float4
            yield _plain(name.removesuffix("weight"), tensors, settings)


def unused_of(stem: str, tensors: Tensors) -> dict[str, str]:
    """What counts for activations only."""
    return {stem + end: WHY for end in IN_USE if stem + end in tensors}


def _plain(stem: str, tensors: Tensors, settings: Mapping[str, Any]) -> StoredWeight:
    """int-quantized: a scale (and a zero) for the tensor, a row, or a group."""
    name, label = f"{stem}weight", f"{stem}weight_scale"
    codes, found = tensors[name], tensors[label]
    check_dtype(label, found, *FLOATS)
    zeros = tensors.get(f"{stem}weight_zero_point")
    if zeros is None and is_asymmetric(settings):
        need(tensors, f"{stem}weight_zero_point", name)
    if zeros is not None:
        check_dtype(f"{stem}weight_zero_point", zeros, "int8")
        check_shape(f"{stem}weight_zero_point", zeros, found.shape, label, found)
    scales = ScaleValues(found, label, signed=True)
    dense = on_grid(Decoded(codes, scales, (1, 1), found.dtype, name), scales, block_size_of(settings), zeros)

    def packed() -> MlxForm | None:
        if zeros is not None or not isinstance(dense, Decoded) or codes.ndim != 2:
            return None
        if dense.block[0] != 1:
            return None
        own = found.reshape((codes.shape[0], -1)) if found.size != 1 else None
        return None if own is None else mlx_forms.affine(Flipped(codes), 8, dense.block[1], own, zero=128)

    parts = (name, label, *((f"{stem}weight_zero_point",) if zeros is not None else ()))
    return StoredWeight(name, parts, dense, packed, unused_of(stem, tensors))


def _packed_integers(stem: str, tensors: Tensors, settings: Mapping[str, Any]) -> StoredWeight:
    """pack-quantized: codes of 1 to 8 bits in int32, each half the range above its value."""
    name, label = f"{stem}weight_packed", f"{stem}weight_scale"
    codes, scales = tensors[name], need(tensors, label, name)
    check_dtype(name, codes, "int32")
    check_dtype(label, scales, *FLOATS)
    check_some(name, codes)
    check_some(label, scales)
    size_name = f"{stem}weight_shape"
    shape = _shape(size_name, need(tensors, size_name, name))
    if codes.ndim < 2 or len(shape) != codes.ndim or shape[:-1] != codes.shape[:-1]:
        raise misfit(size_name, tensors[size_name], name, codes, f"the shape it says, {shape},")
    columns = shape[-1]
    bits = _bits(codes.shape[-1], columns, settings)
    if bits is None:
        raise misfit(size_name, tensors[size_name], name, codes, f"a shape other than {shape}")
    middle = 1 << (bits - 1)
    order = tensors.get(f"{stem}weight_g_idx")
    unpacked = Unpacked(codes.view("uint8"), bits, columns)
    if is_asymmetric(settings):
        need(tensors, f"{stem}weight_zero_point", name)
    zeros, zero = _zeros(stem, tensors, bits, scales, shape)
    factors = ScaleValues(scales, label, signed=True)
    groups = scales.shape[-1] if scales.ndim > 1 else 1
    if order is not None:
        check_dtype(f"{stem}weight_g_idx", order, "int32", "int64")
        check_shape(f"{stem}weight_g_idx", order, (columns,), name, codes)
        if int(order.read_range(0, 1)[0]) == -1:
            order = None
    bare = Decoded(unpacked, factors, (1, 1), scales.dtype, name, zero=zero, groups=order)
    dense = on_grid(bare, factors, None, zeros)
    parts = [
        one for end in ("weight_packed", "weight_scale", "weight_shape") if (one := stem + end) in tensors
    ]
    parts += [one for end in ("weight_zero_point", "weight_g_idx") if (one := stem + end) in tensors]

    def packed() -> MlxForm | None:
        if not isinstance(dense, Decoded) or dense.block[0] != 1 or len(shape) != 2 or columns % groups:
            return None
        size = columns // groups
        if order is not None and not np.array_equal(order.read_range(), np.arange(columns) // size):
            return None
        own = scales.reshape((shape[0], -1)) if scales.size > 1 else None
        if own is None or (zeros is not None and zero):
            return None
        stored = codes.view("uint32") if codes.shape[-1] * 32 == columns * bits else None
        return mlx_forms.affine(unpacked, bits, size, own, zeros=zeros, zero=middle, stored=stored)

    return StoredWeight(f"{stem}weight", tuple(parts), dense, packed, unused_of(stem, tensors))


def _shape(name: str, tensor: LazyTensor) -> tuple[int, ...]:
    """The shape of the dense weight, which a small tensor holds."""
    check_dtype(name, tensor, "int64", "int32")
    if tensor.ndim != 1 or not 0 < tensor.size <= 8:
        raise FormatError(f"{name} has the shape {tensor.shape}: it should hold the lengths of a few axes")
    found = tuple(int(one) for one in tensor.read_range())
    if min(found) < 1:
        raise FormatError(f"{name} says a shape of {found}: the file is damaged")
    return found


def is_asymmetric(settings: Mapping[str, Any]) -> bool:
    """Whether a config says of all layers that they have zeros: then a weight without is damaged."""
    groups = settings.get("config_groups")
    said = [
        weights.get("symmetric")
        for group in (groups.values() if isinstance(groups, Mapping) else ())
        if isinstance(group, Mapping) and isinstance(weights := group.get("weights"), Mapping)
    ]
    return bool(said) and all(one is False for one in said)


def _bits(words: int, columns: int, settings: Mapping[str, Any]) -> int | None:
    """Bits of a code: those of the config where they fill the words, else those that do."""
    groups = settings.get("config_groups")
    said = []
    for group in groups.values() if isinstance(groups, Mapping) else ():
        weights = group.get("weights") if isinstance(group, Mapping) else None
        said.append(weights.get("num_bits") if isinstance(weights, Mapping) else None)
    fitting = [bits for bits in range(1, 9) if -(-columns * bits // 32) == words]
    # codes of 3, 5, 6 and 7 bits were packed with gaps before: only the dense packing is known
    return next((bits for bits in said if bits in fitting), fitting[0] if len(fitting) == 1 else None)


def _zeros(
    stem: str, tensors: Tensors, bits: int, scales: LazyTensor, shape: tuple[int, ...]
) -> tuple[LazyTensor | None, int]:
    """The zeros of groups as they are stored, and what is to be taken off besides."""
    middle = 1 << (bits - 1)
    name = f"{stem}weight_zero_point"
    found = tensors.get(name)
    if found is None:
        return None, middle
    if found.dtype.name == "int8":
        check_shape(name, found, scales.shape, f"{stem}weight_scale", scales)
        return found, middle
    check_dtype(name, found, "int32")
    groups = scales.shape[-1] if scales.ndim else 1
    check_shape(name, found, (-(-shape[0] * bits // 32), groups), f"{stem}weight_scale", scales)
    return Spread(found, bits, shape[0]), 0


def _floats(stem: str, tensors: Tensors) -> StoredWeight:
    """nvfp4, mxfp4 and mxfp6: two float4 in a byte or four float6 in three, groups of 16 or 32."""
    name, label = f"{stem}weight_packed", f"{stem}weight_scale"
    codes, found = tensors[name], need(tensors, label, name)
    check_some(name, codes)
    if not codes.shape:
        raise misfit(name, codes, label, found, "a weight with axes")
    check_dtype(label, found, "uint8", "float8_e4m3fn", "float8_e8m0fnu")
    exponents = found.dtype.name != "float8_e4m3fn"
    size = 32 if exponents else 16
    groups = found.shape[-1] if found.ndim else 0
    bits = 6 if exponents and groups * size * 6 == codes.shape[-1] * 8 else 4
    columns = codes.shape[-1] * 8 // bits
    check_shape(label, found, (*codes.shape[:-1], columns // size), name, codes)
    if columns % size:
        raise misfit(label, found, name, codes, f"one for each group of {size}")
    parts = [name, label]
    over: LazyTensor | None = None
    if not exponents:
        one = f"{stem}weight_global_scale"
        whole = need(tensors, one, name)
        check_dtype(one, whole, "float32")
        check_shape(one, whole.reshape((-1,)) if whole.size == 1 else whole, (1,), name, codes)
        over = ScaleValues(whole, one)
        parts.append(one)
    unpacked = Unpacked(codes, bits, columns)
    scales = ScaleValues(found, label, exponents=exponents, over=over)
    table = E2M1 if bits == 4 else E2M3
    dense = Decoded(unpacked, scales, (1, size), dtypes.by_name("bfloat16"), name, table=table)

    def packed() -> MlxForm | None:
        if bits != 4:
            return None
        if over is not None and float(over.read_range()[0]) != 1:
            return None
        return mlx_forms.floating("mxfp4" if exponents else "nvfp4", codes, found, scales)

    return StoredWeight(f"{stem}weight", tuple(parts), dense, packed, unused_of(stem, tensors))
