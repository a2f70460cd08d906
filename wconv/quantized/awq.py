"""AWQ: codes of 4 bits packed along the outputs (gemm), in an order of its own, or along the inputs (gemv).

Dense values are those of AutoAWQ 0.2.9 (`dequantize_gemm`), GPTQModel 7.7 and AutoRound 0.16:
`(code - zero) * scale` in float16. Codes of other than 4 bits lie in the order of the outputs; only AutoRound
has its order of eights for those of 5, 6 and 7 bits, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from wconv.errors import FormatError
from wconv.quantized import mlx_forms
from wconv.quantized.codes import Spread, Turned, Unpacked
from wconv.quantized.gptq import is_gptq
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
from wconv.tensors.lazy import LazyTensor

NAME, TITLE = "awq", "an AWQ checkpoint"

PLACES = (0, 4, 1, 5, 2, 6, 3, 7)
"""Of eight outputs, which place of a word each has."""

EACH_EIGHT = tuple(at // 8 * 8 + PLACES[at % 8] for at in range(32))
"""The same of 32 outputs, as AutoRound has it for codes of 5, 6 and 7 bits."""

FLOATS = ("float16", "bfloat16")


def read(
    tensors: Tensors, settings: Mapping[str, Any], metadata: Mapping[str, Any]
) -> Iterator[StoredWeight]:
    """The weights whose words hold codes of several outputs, or rows of outputs."""
    for name, codes in tensors.items():
        if not name.endswith(".qweight"):
            continue
        stem = name.removesuffix("qweight")
        if is_gptq(codes, tensors.get(f"{stem}scales"), tensors.get(f"{stem}qzeros"), settings):
            continue
        yield _weight(stem, tensors, settings)


def _weight(stem: str, tensors: Tensors, settings: Mapping[str, Any]) -> StoredWeight:
    name = f"{stem}qweight"
    codes = tensors[name]
    if codes.dtype.name == "int16":
        raise FormatError(f"{name} is int16: AWQ's gemv_fast packing is not decoded; take the model in gemm")
    check_dtype(name, codes, "int32")
    check_some(name, codes)
    scales, zeros = need(tensors, f"{stem}scales", name), need(tensors, f"{stem}qzeros", name)
    check_dtype(f"{stem}scales", scales, *FLOATS)
    check_dtype(f"{stem}qzeros", zeros, "int32")
    if codes.ndim != 2 or scales.ndim != 2 or not scales.size:
        raise misfit(f"{stem}scales", scales, name, codes)
    if codes.shape[0] == scales.shape[0] and zeros.shape == (codes.shape[0], scales.shape[1] // 8):
        return _gemv(stem, codes, scales, zeros, settings)
    return _gemm(stem, codes, scales, zeros, settings)


def _gemm(
    stem: str, codes: LazyTensor, scales: LazyTensor, zeros: LazyTensor, settings: Mapping[str, Any]
) -> StoredWeight:
    name = f"{stem}qweight"
    inputs, outputs, groups = codes.shape[0], scales.shape[1], scales.shape[0]
    bits = codes.shape[1] * 32 // outputs
    if bits not in range(2, 9) or inputs % groups or codes.shape[1] != -(-outputs * bits // 32):
        raise misfit(f"{stem}scales", scales, name, codes)
    check_shape(f"{stem}qzeros", zeros, (groups, codes.shape[1]), name, codes)
    places: tuple[int, ...] = PLACES if bits == 4 else ()
    if bits in (5, 6, 7) and "auto-round" in str(settings.get("quant_method") or ""):
        places = EACH_EIGHT
    unpacked = Spread(Turned(codes), bits, outputs, places)
    offsets = Spread(Turned(zeros), bits, outputs, places)
    return _of(stem, unpacked, bits, inputs // groups, Turned(scales), offsets)


def _gemv(
    stem: str, codes: LazyTensor, scales: LazyTensor, zeros: LazyTensor, settings: Mapping[str, Any]
) -> StoredWeight:
    inputs = codes.shape[1] * 8
    said = settings.get("group_size") or settings.get("q_group_size")
    size = said if isinstance(said, int) and said > 0 else 128
    groups = inputs // size
    if inputs % size or groups > scales.shape[1]:
        raise misfit(f"{stem}scales", scales, f"{stem}qweight", codes, f"one for each group of {size}")
    unpacked = Unpacked(codes.view("uint8"), 4, inputs)
    offsets = Unpacked(zeros.view("uint8"), 4, scales.shape[1]).slice(1, 0, groups)
    return _of(stem, unpacked, 4, size, scales.slice(1, 0, groups), offsets)


def _of(
    stem: str, codes: LazyTensor, bits: int, size: int, scales: LazyTensor, zeros: LazyTensor
) -> StoredWeight:
    dense = Decoded(
        codes,
        ScaleValues(scales, f"{stem}scales", signed=True),
        (1, size),
        scales.dtype,
        f"{stem}qweight",
        zeros=zeros,
    )

    def packed() -> MlxForm | None:
        return mlx_forms.affine(codes, bits, size, scales, zeros=zeros)

    parts = (f"{stem}qweight", f"{stem}scales", f"{stem}qzeros")
    return StoredWeight(f"{stem}weight", parts, dense, packed)
