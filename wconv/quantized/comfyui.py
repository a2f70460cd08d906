"""ComfyUI's own forms, which a tensor beside each weight tells (`comfy_quant`), or the file's header.

Dense values are those of comfy_kitchen 0.2 with float32 as the dtype of the result (`dequantize_nvfp4`,
`dequantize_mxfp8`, `dequantize_per_tensor_fp8`, `dequantize_int8_simple`). Unlike ModelOpt's, the first of
two float4 lies in the upper half of a byte, and the scales of groups are in cuBLAS's tiles. Weights are
filled up to whole 16 (nvfp4) or 32 (mxfp8) rows and columns; a bias tells how many rows there are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from wconv.errors import FormatError
from wconv.quantized.codes import Unpacked
from wconv.quantized.compressed_tensors import E2M1
from wconv.quantized.fp8 import unused_of
from wconv.quantized.grids import on_grid
from wconv.quantized.schemes import COMFY_QUANT
from wconv.quantized.stored import (
    TEXT_LIMIT,
    StoredWeight,
    Tensors,
    check_dtype,
    check_shape,
    check_some,
    misfit,
    need,
    text_of,
)
from wconv.quantized.swizzled import unswizzled
from wconv.quantized.values import FLOAT32, Decoded, ScaleValues
from wconv.tensors.lazy import LazyTensor

NAME, TITLE = COMFY_QUANT.name, COMFY_QUANT.title

MARK = ".comfy_quant"
HEADER = "_quantization_metadata"
"""Where the header tells the same of all layers."""

ADVICE = "take the model in 16 bits, or one whose comfy_quant says float8_e4m3fn, mxfp8 or nvfp4"

FLOATS = ("float32", "bfloat16", "float16")


def layers(tensors: Tensors, metadata: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What is said of each layer: by its name, without `.weight`.

    Raises:
        FormatError: a text is damaged.
    """
    found: dict[str, Mapping[str, Any]] = {}
    text = metadata.get(HEADER)
    if isinstance(text, str):
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            said = None
        told = said.get("layers") if isinstance(said, dict) else None
        if not isinstance(told, dict):
            raise FormatError(f"{HEADER} in the file's header lists no layers: the file is damaged")
        found |= {
            name: one for name, one in told.items() if isinstance(one, dict) and f"{name}.weight" in tensors
        }
    for name, tensor in tensors.items():
        if name.endswith(MARK) and tensor.dtype.itemsize == 1 and tensor.size <= TEXT_LIMIT:
            found[name.removesuffix(MARK)] = text_of(name, tensor)
    return found


def read(
    tensors: Tensors, settings: Mapping[str, Any], metadata: Mapping[str, Any]
) -> Iterator[StoredWeight]:
    """The weights whose layers are told."""
    for layer, said in layers(tensors, metadata).items():
        name = f"{layer}.weight"
        form = said.get("format")
        told = f"{layer}{MARK}" if f"{layer}{MARK}" in tensors else f"{HEADER} of {layer}"
        codes = need(tensors, name, told)
        decode = FORMS.get(form) if isinstance(form, str) else None
        if decode is None or said.get("convrot"):
            rotated = " whose weights are rotated (convrot)" if said.get("convrot") else ""
            raise FormatError(
                f"{told} says {form!r:.40}{rotated}, and the weight is {codes.dtype.name}: this form is not"
                f" decoded; {ADVICE}"
            )
        check_some(name, codes)
        yield decode(_Layer(layer, told, codes, tensors))


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer: its name, the name of what tells its form, and its codes."""

    name: str
    told: str
    codes: LazyTensor
    tensors: Tensors

    @property
    def weight(self) -> str:
        return f"{self.name}.weight"

    def need(self, end: str, *dtypes: str) -> LazyTensor:
        """What belongs to the weight, in one of the dtypes that it can have."""
        found = need(self.tensors, self.weight + end, self.weight)
        check_dtype(self.weight + end, found, *dtypes)
        return found

    def check_codes(self, *dtypes: str) -> None:
        """Holds the dtype of the codes against what is told."""
        if self.codes.dtype.name not in dtypes:
            raise FormatError(
                f"{self.told} says another form than {self.weight} has, which is {self.codes.dtype.name}: it"
                f" should be {' or '.join(dtypes)}"
            )

    def stored(self, dense: LazyTensor, *ends: str) -> StoredWeight:
        """The weight that is made of the codes and of what ends so."""
        unused = unused_of(self.weight, self.tensors)
        mark = f"{self.name}{MARK}"
        if mark in self.tensors:
            unused[mark] = "what it says is done"
        parts = (self.weight, *(self.weight + end for end in ends))
        return StoredWeight(self.weight, parts, dense, unused=unused)

    def cut(self, dense: LazyTensor, whole: int) -> LazyTensor:
        """Without rows that only fill it up to whole ones."""
        bias = self.tensors.get(f"{self.name}.bias")
        rows = dense.shape[0]
        if bias is None or bias.ndim != 1 or not rows - whole < bias.size < rows:
            return dense
        return dense.slice(0, 0, bias.size)


def _per_tensor(layer: _Layer) -> StoredWeight:
    """float8 with one scale, or one for each row."""
    found = layer.need("_scale", *FLOATS)
    scales = ScaleValues(found, f"{layer.weight}_scale")
    dense = on_grid(Decoded(layer.codes, scales, (1, 1), FLOAT32, layer.weight), scales)
    return layer.stored(dense, "_scale")


def _e4m3(layer: _Layer) -> StoredWeight:
    layer.check_codes("float8_e4m3fn")
    return _per_tensor(layer)


def _e5m2(layer: _Layer) -> StoredWeight:
    layer.check_codes("float8_e5m2")
    return _per_tensor(layer)


def _int8(layer: _Layer) -> StoredWeight:
    layer.check_codes("int8")
    return _per_tensor(layer)


def _tiles(layer: _Layer, columns: int, group: int, *dtypes: str) -> LazyTensor:
    """The matrix of scales, one for each group of a row."""
    found = layer.need("_scale", *dtypes)
    if layer.codes.ndim != 2 or columns % group:
        raise misfit(f"{layer.weight}_scale", found, layer.weight, layer.codes, f"one for each {group}")
    rows = layer.codes.shape[0]
    return unswizzled(f"{layer.weight}_scale", found, rows, columns // group, layer.weight, layer.codes)


def _mxfp8(layer: _Layer) -> StoredWeight:
    layer.check_codes("float8_e4m3fn")
    grid = _tiles(layer, layer.codes.shape[-1], 32, "uint8", "float8_e8m0fnu")
    scales = ScaleValues(grid, f"{layer.weight}_scale", exponents=True)
    dense = Decoded(layer.codes, scales, (1, 32), FLOAT32, layer.weight)
    return layer.stored(layer.cut(dense, 32), "_scale")


def _nvfp4(layer: _Layer) -> StoredWeight:
    layer.check_codes("uint8")
    columns = layer.codes.shape[-1] * 2 if layer.codes.ndim else 0
    grid = _tiles(layer, columns, 16, "float8_e4m3fn")
    by = layer.need("_scale_2", "float32")
    check_shape(
        f"{layer.weight}_scale_2", by.reshape(()) if by.size == 1 else by, (), layer.weight, layer.codes
    )
    scales = ScaleValues(grid, f"{layer.weight}_scale", by=by)
    codes = Unpacked(layer.codes, 4, columns, high_first=True)
    dense = Decoded(codes, scales, (1, 16), FLOAT32, layer.weight, table=E2M1)
    return layer.stored(layer.cut(dense, 16), "_scale", "_scale_2")


FORMS: Mapping[str, Callable[[_Layer], StoredWeight]] = {
    "float8_e4m3fn": _e4m3,
    "float8_e5m2": _e5m2,
    "int8_tensorwise": _int8,
    "mxfp8": _mxfp8,
    "nvfp4": _nvfp4,
}
"""The forms that are decoded."""
