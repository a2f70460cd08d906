"""ModelOpt's integers of 4 bits (W4A16_AWQ, W4A8_AWQ): two rows of codes in a row of bytes.

As `pack_int4_in_uint8` of ModelOpt 0.47 writes them: the even rows in the lower halves, each code in two's
complement; a scale for each group of a row. Dense values are `code * scale` in float32. `weight_scale_2` of
W4A8_AWQ only tells its kernel how the product becomes fp8; the columns' factors, `pre_quant_scale`, count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from wconv.quantized.codes import Spread
from wconv.quantized.fp8 import WHY, unused_of
from wconv.quantized.stored import StoredWeight, Tensors, check_some, misfit
from wconv.quantized.values import FLOAT32, Decoded, ScaleValues
from wconv.tensors.lazy import LazyTensor

NAME, TITLE = "modelopt", "a ModelOpt checkpoint (integers of 4 bits)"

SIGNED = tuple(float(code - 16 if code > 7 else code) for code in range(16))
"""The value of each code."""


def is_integers(weight: LazyTensor, scales: LazyTensor) -> bool:
    """Whether bytes hold two rows each, as the scales' shape says."""
    return (
        weight.dtype.name == "uint8"
        and scales.dtype.is_floating
        and scales.dtype.bits >= 16
        and weight.ndim == scales.ndim == 2
        and scales.shape[0] == weight.shape[0] * 2
    )


def read(
    tensors: Tensors, settings: Mapping[str, Any], metadata: Mapping[str, Any]
) -> Iterator[StoredWeight]:
    """The weights whose scales have twice as many rows as they."""
    for name, tensor in tensors.items():
        found = tensors.get(f"{name}_scale") if name.endswith(".weight") else None
        if found is not None and is_integers(tensor, found):
            yield _weight(name, tensor, found, tensors)


def _weight(name: str, tensor: LazyTensor, found: LazyTensor, tensors: Tensors) -> StoredWeight:
    check_some(name, tensor)
    rows, columns = found.shape[0], tensor.shape[1]
    groups = found.shape[1]
    if not groups or columns % groups:
        raise misfit(f"{name}_scale", found, name, tensor, "so many for each row as groups fill it")
    codes = Spread(tensor, 4, rows)
    scales = ScaleValues(found, f"{name}_scale")
    dense = Decoded(codes, scales, (1, columns // groups), FLOAT32, name, table=SIGNED)
    second = f"{name}_scale_2"
    unused = unused_of(name, tensors) | ({second: WHY} if second in tensors else {})
    return StoredWeight(name, (name, f"{name}_scale"), dense, unused=unused)
