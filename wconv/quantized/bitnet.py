"""BitNet: -1, 0 and 1, four to a byte, a quarter of the rows in each pair of bits, and one scale.

Values are those of transformers 5.23 (`integrations/bitnet.py`): a `BitLinear` divides its result by the
scale, an `AutoBitLinear` multiplies it; so the weight is ±1/scale or ±scale, rounded to the scale's dtype.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from wconv.errors import FormatError
from wconv.quantized import mlx_forms
from wconv.quantized.codes import BitField
from wconv.quantized.grids import on_grid
from wconv.quantized.modelopt import is_integers
from wconv.quantized.stored import MlxForm, StoredWeight, Tensors, check_some, misfit, sixteen
from wconv.quantized.values import Decoded, ScaleValues
from wconv.tensors import operations
from wconv.tensors.lazy import Array, LazyTensor, from_array
from wconv.tensors.nodes import UnaryNode

NAME, TITLE = "bitnet", "a BitNet checkpoint"


def read(
    tensors: Tensors, settings: Mapping[str, Any], metadata: Mapping[str, Any]
) -> Iterator[StoredWeight]:
    """The weights of bytes with a single scale of 16 bits."""
    divide = settings.get("linear_class") != "autobitlinear"
    for name, tensor in tensors.items():
        scale = tensors.get(f"{name}_scale")
        if tensor.dtype.name != "uint8" or not name.endswith(".weight") or scale is None:
            continue
        if f"{name}_scale_2" in tensors or not scale.dtype.is_floating or scale.dtype.bits < 16:
            continue
        if is_integers(tensor, scale):
            continue
        if scale.size != 1 and settings.get("quant_method") not in (None, "", "bitnet"):
            continue
        yield _weight(name, tensor, scale, divide=divide)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Divisor(UnaryNode):
    """What values are divided by; refused where it is zero."""

    name: str

    def read_into(self, start: int, stop: int, out: Array) -> None:
        self.parent.read_into(start, stop, out)
        if not out.all():
            raise FormatError(f"{self.name} is zero, by which nothing is divided: the file is damaged")


def _weight(name: str, tensor: LazyTensor, scale: LazyTensor, *, divide: bool) -> StoredWeight:
    check_some(name, tensor)
    if tensor.ndim != 2 or scale.size != 1:
        raise misfit(f"{name}_scale", scale, name, tensor, "a single number")
    codes = operations.concat([BitField(tensor, shift, 3, 2, name) for shift in (0, 2, 4, 6)])
    scales = ScaleValues(Divisor(scale, f"{name}_scale") if divide else scale, f"{name}_scale")
    dense = on_grid(Decoded(codes, scales, (1, 1), scale.dtype, name, zero=1, divide=divide), scales)

    def packed() -> MlxForm | None:
        columns = codes.shape[1]
        size = next((one for one in (128, 64, 32) if columns % one == 0), 0)
        if not size or not sixteen(scale.dtype):
            return None
        scales.read_range()
        value = scale.read_range().astype(np.float32)
        value = (1 / value if divide else value).astype(scale.dtype.numpy).reshape(1, 1)
        shape = (codes.shape[0], columns // size)
        same = mlx_forms.Widened(from_array(value), *shape, shape)
        return mlx_forms.affine(codes, 2, size, same, zero=1, most=2)

    return StoredWeight(name, (name, f"{name}_scale"), dense, packed)
