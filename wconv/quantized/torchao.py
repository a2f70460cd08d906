"""torchao's tensors, in safetensors and taken out of pickles: the affine ones, float8, MX and NVFP4.

A weight is several tensors, and a description (JSON) says which and how. In safetensors the header holds
it; of a pickle the reader writes the same (`formats.torch.subclasses`).

Dense values are those of torchao 0.18 (`dequantize_affine`, `_dequantize_affine_float8`, `MXTensor`,
`NVFP4Tensor`) and, of the class that it has given up, of 0.13 (`AffineQuantizedTensor`). `Int4Tensor` has no
`dequantize`: code times scale, plus zero, each rounded as the kernel does it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from wconv.errors import FormatError
from wconv.quantized.codes import Turned, Unpacked
from wconv.quantized.compressed_tensors import E2M1
from wconv.quantized.described import MARK, is_described
from wconv.quantized.grids import on_grid
from wconv.quantized.stored import TEXT_LIMIT, StoredWeight, Tensors, check_dtype, check_some, misfit, need
from wconv.quantized.swizzled import unswizzled
from wconv.quantized.values import FLOAT32, Decoded, ScaleValues
from wconv.tensors import dtypes
from wconv.tensors.dtypes import DType
from wconv.tensors.lazy import Array, LazyTensor
from wconv.tensors.nodes import UnaryNode
from wconv.tensors.rounded import rounded

NAME, TITLE = "torchao", "a torchao checkpoint"

FLOATS = ("float32", "bfloat16", "float16")
FLOAT8 = ("float8_e4m3fn", "float8_e5m2")

WHY = "scales activations, which only programs that compute in 8 bits do"


@dataclass(frozen=True, slots=True)
class Parts:
    """A tensor of torchao's.

    Attributes:
        name: of the weight.
        kind: its class.
        stem: what the names of its parts begin with.
        data: what is said of it.
        listed: which parts it has.
    """

    name: str
    kind: str
    stem: str
    data: Mapping[str, Any]
    listed: tuple[str, ...]
    tensors: Tensors

    def need(self, end: str) -> LazyTensor:
        """A part that it must have."""
        return need(self.tensors, self.stem + end, self.name)

    def find(self, end: str) -> LazyTensor | None:
        """A part that it may have."""
        return self.tensors.get(self.stem + end)

    @property
    def dtype(self) -> DType | None:
        """The dtype that the weight had."""
        said = self.data.get("orig_dtype", self.data.get("dtype"))
        name = _word(said)
        return dtypes.by_name(name) if name in FLOATS else None

    def weight(self, dense: LazyTensor, *ends: str) -> StoredWeight:
        """The weight, whose parts are these; the others are for activations.

        Raises:
            FormatError: it has not the shape that is said.
        """
        shape = self.data.get("shape")
        if isinstance(shape, list) and tuple(shape) != dense.shape:
            raise FormatError(
                f"{self.name} should be {tuple(shape)!r:.60}, and its parts make {dense.shape}: torchao's"
                f" {self.kind:.40} in this order of axes is not decoded; {ADVICE}"
            )
        used = tuple(self.stem + end for end in ends if self.stem + end in self.tensors)
        unused = {
            self.stem + end: WHY for end in IN_USE if self.stem + end in self.tensors and end not in ends
        }
        return StoredWeight(self.name, used, dense, unused=unused)


IN_USE = ("act_quant_scale", "act_quant_zero_point", "act_per_tensor_scale")
"""Parts that a weight does without."""

ADVICE = "convert the model in 16 bits"


def read(
    tensors: Tensors, settings: Mapping[str, Any], metadata: Mapping[str, Any]
) -> Iterator[StoredWeight]:
    """The weights that are described as tensors of torchao's."""
    names = dict.fromkeys(name for name in metadata if is_described(name, metadata))
    for name in tensors:
        module, found, last = name.rpartition("._")
        if found and last.endswith(MARK):
            names.setdefault(f"{module}.{last.removesuffix(MARK)}")
    for name in names:
        module, dot, last = name.rpartition(".")
        parts = _parts(name, f"{module}{dot}_{last}_", _described(name, metadata), tensors)
        if not any(parts.stem + end in tensors for end in parts.listed):
            continue
        for end in parts.listed:
            parts.need(end)
        decode = KINDS.get(parts.kind)
        if decode is None:
            raise FormatError(f"{name} is torchao's {parts.kind:.60}, which is not decoded; {ADVICE}")
        yield decode(parts)


def _parts(name: str, stem: str, said: Mapping[str, Any], tensors: Tensors) -> Parts:
    """What a description says, without what is around the tensor that holds the codes."""
    outer: dict[str, Any] = {}
    for _ in range(4):
        kind, data = str(said.get("_type")), said.get("_data")
        if not isinstance(data, Mapping):
            break
        ends = said.get("_tensor_data_names")
        ends = [end for end in ends if isinstance(end, str)] if isinstance(ends, list) else []
        inner = INSIDE.get(kind)
        within = data.get(inner) if inner else None
        if not isinstance(within, Mapping):
            return Parts(name, kind, stem, {**data, **outer}, tuple(ends), tensors)
        if ends and kind not in WITH_ACTIVATIONS:
            raise FormatError(f"{name} is torchao's {kind:.60}, which is not decoded; {ADVICE}")
        if kind == "AffineQuantizedTensor":
            outer = {one: data.get(one) for one in ("block_size", "dtype", "shape", "zero_point_domain")}
        stem, said = f"{stem}{inner}_", within
    raise FormatError(
        f"{name} is described as {said.get('_type')!r:.40} without settings: the file is damaged"
    )


INSIDE = {
    "LinearActivationQuantizedTensor": "original_weight_tensor",
    "WeightTensorWithLinearActivationQuantizationMetadata": "original_weight_tensor",
    "AffineQuantizedTensor": "tensor_impl",
}
"""Tensors around another one, and what they call it."""

WITH_ACTIVATIONS = frozenset({"WeightTensorWithLinearActivationQuantizationMetadata"})
"""Of these, those whose own tensors are for activations only."""


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


def _word(said: Any) -> str:
    """A setting that is a name: by itself, or as `{"_type": …, "_data": name}`."""
    said = said.get("_data") if isinstance(said, Mapping) else said
    return str(said).removeprefix("torch.")


def _check_plain(parts: Parts) -> None:
    """Refuses weights that count only beside a change of what goes into their layer."""
    if parts.find("act_pre_scale") is not None:
        raise FormatError(
            f"{parts.stem}act_pre_scale scales what goes into the layer, which no dense weight does:"
            f" it is not decoded; {ADVICE}"
        )


def _on_blocks(found: LazyTensor, codes: LazyTensor, block: Any) -> LazyTensor:
    """Scales in the shape that the size of a block gives them."""
    if not isinstance(block, list) or len(block) != codes.ndim:
        return found
    if not all(type(one) is int and one > 0 for one in block):
        return found
    grid = tuple(-(-length // min(one, length)) for length, one in zip(codes.shape, block, strict=True))
    return found.reshape(grid) if math.prod(grid) == found.size else found


def _affine(parts: Parts, codes_end: str = "qdata", kinds: tuple[str, ...] = ("int8",)) -> StoredWeight:
    """Integers in bytes: (code - zero) * scale."""
    _check_plain(parts)
    codes, found, zeros = parts.need(codes_end), parts.need("scale"), parts.find("zero_point")
    label = f"{parts.stem}scale"
    check_some(parts.stem + codes_end, codes)
    check_dtype(parts.stem + codes_end, codes, *kinds)
    check_dtype(label, found, *FLOATS)
    block = parts.data.get("block_size")
    scales = ScaleValues(_on_blocks(found, codes, block), label, signed=True)
    if zeros is not None:
        check_dtype(f"{parts.stem}zero_point", zeros, *ZEROS)
        if zeros.shape != found.shape:
            raise misfit(f"{parts.stem}zero_point", zeros, label, found)
        if zeros.dtype.name not in ("int8", "uint8"):
            zeros = Narrow(zeros, f"{parts.stem}zero_point")
        zeros = zeros.reshape(scales.shape)
    dense = on_grid(Decoded(codes, scales, (1, 1), FLOAT32, parts.name), scales, None, zeros)
    return parts.weight(_in_dtype(dense, parts), codes_end, "scale", "zero_point")


ZEROS = ("int8", "uint8", "int16", "int32", "int64", *FLOATS)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Narrow(UnaryNode):
    """Zeros in wide integers, or in floats that are whole numbers, as int16."""

    name: str

    @property
    def dtype(self) -> DType:  # type: ignore[override]
        return dtypes.by_name("int16")

    def read_into(self, start: int, stop: int, out: Array) -> None:
        found = self.parent.read_range(start, stop).astype(np.float32)
        whole = (found >= -128) & (found <= 255) & (found == np.rint(found))
        if not whole.all():
            wrong = found[~whole][0]
            raise FormatError(f"{self.name} holds a zero of {wrong:g}, which no code of 8 bits is: damaged")
        np.copyto(out, found, casting="unsafe")


def _in_dtype(dense: LazyTensor, parts: Parts) -> LazyTensor:
    """In the dtype that the weight had: one rounding of the product in float32."""
    to = parts.dtype
    if to is None or to is dense.dtype:
        return dense
    return replace(dense, target=to) if isinstance(dense, Decoded) else dense.cast(to)


def _float8(parts: Parts, codes_end: str = "qdata") -> StoredWeight:
    """A product with scales of one or more rows and columns."""
    _check_plain(parts)
    codes, found = parts.need(codes_end), parts.need("scale")
    check_some(parts.stem + codes_end, codes)
    check_dtype(parts.stem + codes_end, codes, *FLOAT8)
    check_dtype(f"{parts.stem}scale", found, *FLOATS)
    block = parts.data.get("block_size")
    scales = ScaleValues(_on_blocks(found, codes, block), f"{parts.stem}scale", signed=True)
    dense = on_grid(Decoded(codes, scales, (1, 1), FLOAT32, parts.name), scales)
    return parts.weight(_in_dtype(dense, parts), codes_end, "scale")


def _plain_layout(parts: Parts) -> StoredWeight:
    """`AffineQuantizedTensor` whose codes are bytes."""
    domain = parts.data.get("zero_point_domain")
    said = domain.get("_data") if isinstance(domain, Mapping) else domain
    if said in (2, "FLOAT"):
        raise FormatError(
            f"{parts.name} is torchao's AffineQuantizedTensor with zeros that are floats,"
            f" which is not decoded; {ADVICE}"
        )
    return _affine(parts, "int_data", ("int8", "uint8"))


def _int4(parts: Parts) -> StoredWeight:
    """Two codes in a byte, the first in the lower half, each 8 above its value; (groups, rows) of scales."""
    _check_plain(parts)
    packed, found, zeros = parts.need("qdata"), parts.need("scale"), parts.need("zero_point")
    check_some(f"{parts.stem}qdata", packed)
    check_dtype(f"{parts.stem}qdata", packed, "int8", "uint8")
    check_dtype(f"{parts.stem}scale", found, "bfloat16", "float16")
    check_dtype(f"{parts.stem}zero_point", zeros, found.dtype.name)
    if packed.ndim != 2 or found.ndim != 2 or found.shape[1] != packed.shape[0]:
        raise misfit(f"{parts.stem}scale", found, f"{parts.stem}qdata", packed, "(groups, rows)")
    columns, groups = packed.shape[1] * 2, found.shape[0]
    if not groups or columns % groups or zeros.shape != found.shape:
        raise misfit(f"{parts.stem}zero_point", zeros, f"{parts.stem}scale", found)
    codes = Unpacked(packed.view("uint8"), 4, columns)
    scales = ScaleValues(Turned(found), f"{parts.stem}scale", signed=True)
    table = tuple(float(code - 16 if code > 7 else code) for code in range(16))
    product = Decoded(codes, scales, (1, columns // groups), found.dtype, parts.name, table=table)
    dense = Raised(product, Turned(zeros), columns // groups)
    return parts.weight(dense, "qdata", "scale", "zero_point")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Raised(UnaryNode):
    """A matrix, plus one number for each group of a row, rounded to its dtype."""

    PARENTS: ClassVar[tuple[str, ...]] = ("parent", "added")

    added: LazyTensor
    group: int

    @property
    def block_size(self) -> int:
        return math.lcm(self.parent.block_size, self.group)

    def read_into(self, start: int, stop: int, out: Array) -> None:
        first = start // self.group
        added = self.added.read_range(first, -(-stop // self.group)).astype(np.float32)
        values = self.parent.read_range(start, stop).astype(np.float32)
        values += added[np.arange(start, stop) // self.group - first]
        rounded(values, out)


def _scales_of(parts: Parts, rows: int, columns: int, codes: LazyTensor) -> LazyTensor:
    """A matrix of scales, which may be stored in tiles."""
    found, label = parts.need("scale"), f"{parts.stem}scale"
    check_some(label, found)
    if parts.data.get("is_swizzled_scales") is True:
        return unswizzled(label, found, rows, columns, f"{parts.stem}qdata", codes)
    if found.size != rows * columns:
        raise misfit(label, found, f"{parts.stem}qdata", codes, f"{rows} by {columns} scales")
    return found.reshape((rows, columns))


def _group_of(parts: Parts, columns: int, codes: LazyTensor) -> int:
    said = parts.data.get("block_size")
    if type(said) is not int or said < 1 or columns % said:
        raise FormatError(
            f"{parts.name} says blocks of {said!r:.20} for rows of {columns}: the file is damaged"
        )
    return said


def _microscaled(parts: Parts) -> StoredWeight:
    """MX: float8, or float4 in pairs, with an exponent for each group of a row."""
    codes = parts.need("qdata")
    check_some(f"{parts.stem}qdata", codes)
    element = _word(parts.data.get("elem_dtype"))
    if element not in (*FLOAT8, "float4_e2m1fn_x2") or codes.ndim < 2:
        raise FormatError(
            f"{parts.name} is torchao's MXTensor of {element:.40}, which is not decoded; {ADVICE}"
        )
    paired = element not in FLOAT8
    check_dtype(f"{parts.stem}qdata", codes, *(("uint8",) if paired else (element,)))
    check_dtype(f"{parts.stem}scale", parts.need("scale"), "float8_e8m0fnu", "uint8")
    columns = codes.shape[-1] * (2 if paired else 1)
    group = _group_of(parts, columns, codes)
    found = _scales_of(parts, codes.size // codes.shape[-1], columns // group, codes)
    scales = ScaleValues(found, f"{parts.stem}scale", exponents=True)
    bare = Unpacked(codes, 4, columns) if paired else codes
    table = E2M1 if paired else ()
    to = parts.dtype or dtypes.by_name("bfloat16")
    return parts.weight(Decoded(bare, scales, (1, group), to, parts.name, table=table), "qdata", "scale")


def _nvfp4(parts: Parts) -> StoredWeight:
    """float4 in pairs with a float8 for each 16 of a row, and one number for all."""
    codes, by = parts.need("qdata"), parts.find("per_tensor_scale")
    check_some(f"{parts.stem}qdata", codes)
    check_dtype(f"{parts.stem}qdata", codes, "uint8")
    check_dtype(f"{parts.stem}scale", parts.need("scale"), "float8_e4m3fn")
    if codes.ndim < 2:
        raise misfit(f"{parts.stem}scale", parts.need("scale"), parts.name, codes)
    if by is not None:
        check_dtype(f"{parts.stem}per_tensor_scale", by, "float32")
        if by.size != 1:
            raise FormatError(
                f"{parts.stem}per_tensor_scale holds {by.size:,} numbers, one for each expert: this form of"
                f" torchao's NVFP4Tensor is not decoded; {ADVICE}"
            )
    columns = codes.shape[-1] * 2
    group = _group_of(parts, columns, codes)
    found = _scales_of(parts, codes.size // codes.shape[-1], columns // group, codes)
    scales = ScaleValues(found, f"{parts.stem}scale", by=by)
    to = parts.dtype or dtypes.by_name("bfloat16")
    dense = Decoded(Unpacked(codes, 4, columns), scales, (1, group), to, parts.name, table=E2M1)
    return parts.weight(dense, "qdata", "scale", "per_tensor_scale")


KINDS: Mapping[str, Callable[[Parts], StoredWeight]] = {
    "Int8Tensor": _affine,
    "IntxUnpackedToInt8Tensor": _affine,
    "Float8Tensor": _float8,
    "Int4Tensor": _int4,
    "MXTensor": _microscaled,
    "NVFP4Tensor": _nvfp4,
    "PlainAQTTensorImpl": _plain_layout,
    "Float8AQTTensorImpl": lambda parts: _float8(parts, "float8_data"),
}
"""The classes that are decoded."""
