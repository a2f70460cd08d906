"""GPTQ: codes packed along the inputs, zeros along the outputs, groups that may be out of order.

Dense values are those of GPTQModel 7.7 (`dequantize_weight`), AutoGPTQ 0.7 and AutoRound 0.16
(`QuantLinear`): `scale * (code - zero)` in the scales' dtype. The first version of the format stores each
zero less one, the second as it is; AutoRound's own packing is the second, its `auto_gptq` the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from wconv.errors import FormatError
from wconv.quantized import mlx_forms
from wconv.quantized.codes import Spread, Turned, Unpacked
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

NAME, TITLE = "gptq", "a GPTQ checkpoint"
BITS = (2, 3, 4, 5, 6, 7, 8)
WORDS = ("int32", "int16", "int8")
"""What codes are packed into: GPTQModel's `pack_dtype`."""

OTHERS = {
    "gptq_p": "the planes of GPTQModel's gptq_p",
    "marlin": "Marlin's order",
    "gptq_marlin_24": "Marlin's order of sparse weights",
    "bitblas": "BitBLAS's order",
    "qqq": "QQQ's order",
}
"""Orders of codes that only the config tells, and that are not decoded."""

FLOATS = ("float16", "bfloat16", "float32")


UNKNOWN = "which wconv does not decode: convert the model in 16 bits"


def read(
    tensors: Tensors, settings: Mapping[str, Any], metadata: Mapping[str, Any]
) -> Iterator[StoredWeight]:
    """The weights whose codes are packed along the inputs."""
    second: bool | None = None
    empty = _empty_biases(tensors)
    for name, codes in tensors.items():
        if not name.endswith(".qweight"):
            continue
        stem = name.removesuffix("qweight")
        if not is_gptq(codes, tensors.get(f"{stem}scales"), tensors.get(f"{stem}qzeros"), settings):
            continue
        if is_other_order(settings):
            order = OTHERS.get(_version(settings), OTHERS["marlin"])
            raise FormatError(f"{name}: the config says that codes lie in {order}, {UNKNOWN}")
        if second is None:
            second = _is_second(codes, tensors.get(f"{stem}qzeros"), settings)
        yield _weight(stem, tensors, settings, second=second, empty=empty)


def is_other_order(settings: Mapping[str, Any]) -> bool:
    """Whether the config tells of an order of codes that is not decoded."""
    return _version(settings) in OTHERS or settings.get("is_marlin_format") is True


def _empty_biases(tensors: Tensors) -> frozenset[str]:
    """The biases that AutoGPTQ has given to layers without one: zeros in every layer of that name."""
    layers: dict[str, list[str]] = {}
    for name in tensors:
        stem = name.removesuffix(".qweight")
        if stem != name and f"{stem}.bias" in tensors:
            layers.setdefault(stem.rpartition(".")[2], []).append(f"{stem}.bias")
    return frozenset(
        bias
        for biases in layers.values()
        if not any(tensors[bias].read_range().any() for bias in biases)
        for bias in biases
    )


def is_gptq(
    codes: LazyTensor, scales: LazyTensor | None, zeros: LazyTensor | None, settings: Mapping[str, Any]
) -> bool:
    """Whether the words of a weight hold codes of one output; AWQ's hold those of several."""
    if scales is None or codes.ndim != 2 or scales.ndim != 2:
        return settings.get("quant_method") != "awq"
    if codes.shape[1] != scales.shape[1]:
        return False
    return zeros is None or zeros.ndim != 2 or zeros.shape[0] == scales.shape[0]


def _version(settings: Mapping[str, Any]) -> str:
    """What a config says of the version; of AutoRound, whose name for it is another, its own meaning."""
    packing = settings.get("packing_format")
    if "auto-round" in str(settings.get("quant_method") or "") and isinstance(packing, str):
        return "gptq" if "auto_gptq" in packing or packing in ("auto", "auto_round:gptq") else "gptq_v2"
    return str(settings.get("checkpoint_format") or settings.get("format") or "")


def _is_second(codes: LazyTensor, zeros: LazyTensor | None, settings: Mapping[str, Any]) -> bool:
    """Whether zeros are stored as they are. Symmetric ones show it; else the config says it."""
    said = _version(settings) == "gptq_v2"
    if settings.get("sym") is False or zeros is None or zeros.ndim != 2 or codes.ndim != 2:
        return said
    outputs = codes.shape[1]
    bits = _shown_bits(zeros, outputs)
    if bits not in BITS or zeros.dtype.name not in WORDS:
        return said
    found = Unpacked(zeros.view("uint8"), bits, outputs).read_range(
        0, min(outputs, 1024) if zeros.size else 0
    )
    middle = 1 << (bits - 1)
    if found.size and (found == middle).all():
        return True
    return False if found.size and (found == middle - 1).all() else said


def notes(tensors: Tensors, settings: Mapping[str, Any]) -> Iterator[str]:
    """Where the config says other bits, groups, or another version of the format than the tensors show."""
    version = _version_note(tensors, settings)
    if version is not None:
        yield version
    name = next((one for one in tensors if one.endswith(".qzeros")), None)
    stem = name.removesuffix("qzeros") if name is not None else ""
    codes, scales = tensors.get(f"{stem}qweight"), tensors.get(f"{stem}scales")
    # rules for single layers give them other bits
    if name is None or codes is None or scales is None or settings.get("dynamic"):
        return
    zeros = tensors[name]
    if any(one.ndim != 2 or 0 in one.shape for one in (zeros, codes, scales)):
        return
    bits = _shown_bits(zeros, codes.shape[1])
    if bits not in BITS:
        return
    size = codes.shape[0] * codes.dtype.bits // bits // scales.shape[0]
    for key, found in (("bits", bits), ("group_size", size)):
        said = settings.get(key)
        if type(said) is int and said > 0 and said != found and not (key == "group_size" and said > found):
            yield f"the config says {key} {said}, and the tensors have {found}: so read"


def _version_note(tensors: Tensors, settings: Mapping[str, Any]) -> str | None:
    name = next((one for one in tensors if one.endswith(".qzeros")), None)
    codes = tensors.get(f"{name.removesuffix('qzeros')}qweight") if name is not None else None
    said = _version(settings) or "gptq"
    if name is None or codes is None or said not in ("gptq", "gptq_v2"):
        return None
    if _is_second(codes, tensors[name], settings) == (said == "gptq_v2"):
        return None
    other = "gptq" if said == "gptq_v2" else "gptq_v2"
    return (
        f"the config says checkpoint_format {said}, and the zeros of a symmetric model are {other}'s: so read"
    )


def _weight(
    stem: str, tensors: Tensors, settings: Mapping[str, Any], *, second: bool, empty: frozenset[str]
) -> StoredWeight:
    name, weight = f"{stem}qweight", f"{stem}weight"
    codes = tensors[name]
    scales = need(tensors, f"{stem}scales", name)
    check_dtype(name, codes, *WORDS)
    check_dtype(f"{stem}scales", scales, *FLOATS)
    check_some(name, codes)
    check_some(f"{stem}scales", scales)
    if codes.ndim != 2 or scales.ndim != 2:
        raise misfit(f"{stem}scales", scales, name, codes)
    zeros, order = need(tensors, f"{stem}qzeros", name), tensors.get(f"{stem}g_idx")
    check_dtype(f"{stem}qzeros", zeros, codes.dtype.name)
    outputs, groups, width = codes.shape[1], scales.shape[0], codes.dtype.bits
    bits = _bits(stem, zeros, outputs, width, settings)
    inputs = codes.shape[0] * width // bits
    size = _group(inputs, groups, settings)
    if size is None or scales.shape[1] != outputs or inputs * bits != codes.shape[0] * width:
        raise misfit(f"{stem}scales", scales, name, codes)
    check_shape(f"{stem}qzeros", zeros, (groups, -(-outputs * bits // width)), name, codes)
    parts = [name, f"{stem}scales", f"{stem}qzeros"]
    if order is None and inputs % 32:
        raise misfit(f"{stem}scales", scales, name, codes, "words for whole runs of 32 inputs, or a g_idx,")
    if order is not None:
        check_dtype(f"{stem}g_idx", order, "int32", "int64")
        check_shape(f"{stem}g_idx", order, (inputs,), name, codes)
        parts.append(f"{stem}g_idx")
    offsets = Spread(Turned(zeros), bits, outputs, raised=0 if second else 1)
    words = Turned(codes)
    unpacked = Unpacked(words.view("uint8"), bits, inputs)
    turned = Turned(scales)
    dense = Decoded(
        unpacked,
        ScaleValues(turned, f"{stem}scales", signed=True),
        (1, size),
        scales.dtype,
        name,
        zeros=offsets,
        groups=order,
    )

    def packed() -> MlxForm | None:
        if order is not None and not np.array_equal(order.read_range(), np.arange(inputs) // size):
            return None
        stored = words.view("uint8").view("uint32") if inputs * bits % 32 == 0 else None
        return mlx_forms.affine(unpacked, bits, size, turned, zeros=offsets, stored=stored)

    bias = f"{stem}bias"
    unused = {bias: "zeros that AutoGPTQ adds to layers without a bias"} if bias in empty else {}
    return StoredWeight(weight, tuple(parts), dense, packed, unused)


def _shown_bits(zeros: LazyTensor, outputs: int) -> int:
    """Bits of a code as the zeros' shape has them: one zero for each output; 0 where it shows none."""
    return zeros.shape[1] * zeros.dtype.bits // outputs if zeros.ndim == 2 and outputs else 0


def _bits(stem: str, zeros: LazyTensor, outputs: int, width: int, settings: Mapping[str, Any]) -> int:
    """Bits of a code, as the shapes say."""
    shown = _shown_bits(zeros, outputs)
    if shown not in BITS or (width < 32 and width % shown):
        raise FormatError(
            f"{stem}qzeros is {zeros.dtype.name} {zeros.shape} for {outputs} outputs: codes of {shown} bits,"
            f" where GPTQ has {'2, 4 or 8' if width < 32 else '2 to 8'}"
        )
    if shown in (5, 6, 7) and "auto-round" not in str(settings.get("quant_method") or "auto-round"):
        raise FormatError(
            f"{stem}qweight has codes of {shown} bits, which lie in {OTHERS['gptq_p']}, {UNKNOWN}"
        )
    return shown


def _group(inputs: int, groups: int, settings: Mapping[str, Any]) -> int | None:
    """Inputs that share a scale."""
    said = settings.get("group_size")
    if isinstance(said, int) and said > 0 and -(-inputs // said) == groups:
        return said
    return inputs // groups if inputs % groups == 0 else None
