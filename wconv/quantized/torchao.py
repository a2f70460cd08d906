"""torchao's tensors in safetensors, whose header says of what each is made: the affine ones.

Dense values are those of torchao 0.18 (`dequantize_affine`, `_dequantize_affine_float8`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from wconv.errors import FormatError
from wconv.quantized.grids import on_grid
from wconv.quantized.stored import TEXT_LIMIT, StoredWeight, Tensors, check_dtype, check_some, need
from wconv.quantized.values import FLOAT32, Decoded, ScaleValues
from wconv.tensors import dtypes
from wconv.tensors.lazy import LazyTensor

NAME, TITLE = "torchao", "a torchao checkpoint"

DECODED = ("Int8Tensor", "IntxUnpackedToInt8Tensor", "Float8Tensor")
MARK = "_qdata"


def read(
    tensors: Tensors, settings: Mapping[str, Any], metadata: Mapping[str, Any]
) -> Iterator[StoredWeight]:
    """The weights that the header describes as tensors of torchao's."""
    for name in tensors:
        module, found, last = name.rpartition("._")
        if not found or not last.endswith(MARK):
            continue
        yield _weight(
            f"{module}.{last.removesuffix(MARK)}",
            f"{module}._{last.removesuffix('qdata')}",
            tensors,
            metadata,
        )


def _weight(name: str, stem: str, tensors: Tensors, metadata: Mapping[str, Any]) -> StoredWeight:
    said = _described(name, metadata)
    kind, data = said.get("_type"), said.get("_data")
    if kind not in DECODED or not isinstance(data, dict):
        raise FormatError(
            f"{name} is torchao's {kind!r:.40}, which is not decoded: convert the model in 16 bits"
        )
    listed = said.get("_tensor_data_names")
    for end in listed if isinstance(listed, list) else ():
        need(tensors, f"{stem}{end!s:.40}", name)
    codes, label = tensors[f"{stem}qdata"], f"{stem}scale"
    found, zeros = need(tensors, label, name), tensors.get(f"{stem}zero_point")
    check_some(f"{stem}qdata", codes)
    check_dtype(label, found, "float32", "bfloat16", "float16")
    check_dtype(
        f"{stem}qdata", codes, *(("float8_e4m3fn", "float8_e5m2") if kind == "Float8Tensor" else ("int8",))
    )
    if zeros is not None:
        check_dtype(f"{stem}zero_point", zeros, "int8")
        if zeros.shape != found.shape:
            raise FormatError(
                f"{stem}zero_point is {zeros.shape}, and {label} {found.shape}: they do not fit"
            )
    if f"{stem}act_pre_scale" in tensors:
        raise FormatError(f"{stem}act_pre_scale scales activations: this form is not decoded")
    scales = ScaleValues(found, label, signed=True)
    dense = on_grid(Decoded(codes, scales, (1, 1), FLOAT32, name), scales, None, zeros)
    to = _dtype_of(data)
    if to is not None and to is not FLOAT32:
        dense = _rounded(dense, found, to)
    parts = [f"{stem}qdata", label, *([f"{stem}zero_point"] if zeros is not None else [])]
    unused = {
        stem + end: "scales activations"
        for end in ("act_quant_scale", "act_quant_zero_point")
        if stem + end in tensors
    }
    return StoredWeight(name, tuple(parts), dense, unused=unused)


def _rounded(dense: LazyTensor, scale: LazyTensor, to: dtypes.DType) -> LazyTensor:
    """In the dtype that the weight had: at once, where the scales have it, too."""
    if scale.dtype is to and isinstance(dense, Decoded):
        return replace(dense, target=to)
    return dense.cast(to)


def _described(name: str, metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    text = metadata.get(name)
    if not isinstance(text, str) or len(text) > TEXT_LIMIT:
        raise FormatError(
            f"{name} is made of several tensors, and the file's header does not say how: damaged"
        )
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise FormatError(f"the file's header says of {name} what is no JSON object: the file is damaged")
    return found


def _dtype_of(data: Mapping[str, Any]) -> dtypes.DType | None:
    """The dtype that the weight had."""
    said = data.get("dtype")
    said = said.get("_data") if isinstance(said, dict) else said
    name = str(said).removeprefix("torch.")
    return dtypes.by_name(name) if name in ("float32", "bfloat16", "float16") else None
