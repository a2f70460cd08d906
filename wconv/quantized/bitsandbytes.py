"""bitsandbytes: nf4 and fp4 with a scale for each block of elements, int8 with one for each row.

Dense values are those of bitsandbytes 0.50 (`dequantize_4bit`, `int8_vectorwise_dequant`): float32 products,
of 4 bits rounded to the dtype that the weight had.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from wconv.errors import FormatError
from wconv.quantized.codes import Unpacked
from wconv.quantized.grids import on_grid
from wconv.quantized.stored import (
    StoredWeight,
    Tensors,
    check_dtype,
    check_shape,
    check_some,
    misfit,
    need,
    text_of,
)
from wconv.quantized.values import FLOAT32, Decoded, FlatDecoded, NestedScales, ScaleValues
from wconv.tensors import dtypes
from wconv.tensors.lazy import Array, LazyTensor
from wconv.tensors.nodes import UnaryNode

NAME, TITLE = "bitsandbytes", "a bitsandbytes checkpoint"

STATE = ".quant_state.bitsandbytes__"
BLOCKS = (32, 64, 128, 256, 512, 1024, 2048, 4096)
LARGEST = 1e30
"""What a scale is added to is less."""

SHARE = 7.874015718698502e-3
"""1 / 127, as bitsandbytes writes it."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Table(UnaryNode):
    """What each code means; refused where one of its numbers is none."""

    name: str

    def read_into(self, start: int, stop: int, out: Array) -> None:
        self.parent.read_into(start, stop, out)
        if not np.isfinite(out).all():
            raise FormatError(f"{self.name} holds what is no number for a code: the file is damaged")


def read(
    tensors: Tensors, settings: Mapping[str, Any], metadata: Mapping[str, Any]
) -> Iterator[StoredWeight]:
    """The weights with a state of their own, and those with `SCB`."""
    states = {name.partition(STATE)[0]: name for name in tensors if STATE in name}
    for name in tensors:
        if name.endswith(".absmax") and name.removesuffix(".absmax") not in states:
            weight = name.removesuffix(".absmax")
            raise FormatError(f"{weight} has no {weight}{STATE}nf4 or …fp4, without which it means nothing")
    for weight, state in states.items():
        yield _four_bits(weight, state, tensors)
    for name in tensors:
        if name.endswith(".SCB"):
            yield _eight_bits(name.removesuffix("SCB"), tensors)


def _four_bits(name: str, state: str, tensors: Tensors) -> StoredWeight:
    codes = need(tensors, name, state)
    said = text_of(state, tensors[state])
    shape, block, dtype = said.get("shape"), said.get("blocksize"), said.get("dtype")
    if (
        not isinstance(shape, list)
        or not all(type(one) is int and one > 0 for one in shape)
        or block not in BLOCKS
        or dtype not in ("float16", "bfloat16", "float32")
    ):
        raise FormatError(
            f"{state} says a shape of {shape!r:.40}, blocks of {block!r:.20}, {dtype!r:.20}: damaged"
        )
    size = math.prod(shape)
    if codes.nbytes != -(-size // 2):
        raise misfit(state, tensors[state], name, codes, f"what {shape} takes, {-(-size // 2):,} bytes,")
    flat = codes.reshape((-1,)).view("uint8")
    table_name, absmax_name = f"{name}.quant_map", f"{name}.absmax"
    table, absmax = need(tensors, table_name, name), need(tensors, absmax_name, name)
    check_dtype(table_name, table, "float32")
    check_shape(table_name, table, (16,), name, codes)
    check_shape(absmax_name, absmax, (-(-size // block),), name, codes)
    parts = [name, absmax_name, table_name, state]
    scales: LazyTensor = absmax
    if absmax.dtype.name == "uint8":
        nested, inner = f"{name}.nested_absmax", f"{name}.nested_quant_map"
        one, other = need(tensors, nested, name), need(tensors, inner, name)
        length: Any = said.get("nested_blocksize")
        offset: Any = said.get("nested_offset")
        if length not in BLOCKS or type(offset) not in (int, float) or not abs(offset) < LARGEST:
            raise FormatError(f"{state} says no nested_blocksize or nested_offset: the file is damaged")
        check_dtype(nested, one, "float32")
        check_dtype(inner, other, "float32")
        check_shape(inner, other, (256,), name, codes)
        check_shape(nested, one, (-(-absmax.size // length),), name, codes)
        inside = ScaleValues(one, nested)
        scales = NestedScales(absmax, Table(other, inner), inside, length, float(offset))
        parts += [nested, inner]
    else:
        check_dtype(absmax_name, absmax, "float32")
    dense = FlatDecoded(
        Unpacked(flat, 4, flat.size * 2, high_first=True),
        ScaleValues(scales, absmax_name),
        block,
        Table(table, table_name),
        dtypes.by_name(dtype),
        tuple(shape),
    )
    return StoredWeight(name, tuple(parts), dense)


def _eight_bits(stem: str, tensors: Tensors) -> StoredWeight:
    name, label = f"{stem}weight", f"{stem}SCB"
    codes, found = need(tensors, name, label), tensors[label]
    check_dtype(name, codes, "int8")
    check_dtype(label, found, "float32")
    check_some(name, codes)
    if codes.ndim != 2 or found.size != codes.shape[0]:
        raise misfit(label, found, name, codes, "one for each row")
    form = f"{stem}weight_format"
    parts = [name, label]
    if form in tensors:
        parts.append(form)
        if tensors[form].size != 1 or int(tensors[form].read_range()[0]) != 0:
            raise FormatError(f"{form} says an order of elements for a GPU, which is not decoded")
    scales = ScaleValues(found.reshape((codes.shape[0], 1)), label)
    return StoredWeight(
        name, tuple(parts), on_grid(Decoded(codes, scales, (1, 1), FLOAT32, name, factor=SHARE), scales)
    )
