"""MLX's own quantized weights, dequantized as MLX does it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from wconv.errors import FormatError
from wconv.quantized.names import LEVEL
from wconv.quantized.stored import StoredWeight, Tensors, check_dtype, check_shape, check_some, misfit
from wconv.tensors import dtypes
from wconv.tensors.dequantize import dequantize
from wconv.tensors.dtypes import DType
from wconv.tensors.lazy import Array, LazyTensor, Shape
from wconv.tensors.nodes import by_blocks
from wconv.tensors.quantize import MODES, Quantization

NAME, TITLE = "mlx", "a model that is quantized for MLX"

ANY = "any"
"""Bits that the shapes tell."""

FLOATS = ("bfloat16", "float16", "float32")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Dequantized(LazyTensor):
    """What `mx.dequantize` makes of a weight."""

    PARENTS: ClassVar[tuple[str, ...]] = ("weight", "scales", "biases")

    weight: LazyTensor
    scales: LazyTensor
    biases: LazyTensor | None
    how: Quantization
    dtype: DType

    @property
    def shape(self) -> Shape:  # type: ignore[override]
        return (*self.weight.shape[:-1], self.weight.shape[-1] * 32 // self.how.bits)

    @property
    def block_size(self) -> int:
        return self.how.group_size

    def read_into(self, start: int, stop: int, out: Array) -> None:
        by_blocks(start, stop, out, self.how.group_size, self._groups)

    def _groups(self, first: int, last: int, out: Array) -> None:
        words = self.how.row_bytes(self.how.group_size) // 4
        packed = self.weight.read_range(first * words, last * words)
        scales = self.scales.read_range(first, last)
        biases = None if self.biases is None else self.biases.read_range(first, last)
        dequantize(packed.view(np.uint8), scales, biases, self.how, self.dtype.numpy, out)


def read(tensors: Tensors, config: Mapping[str, Any], metadata: Mapping[str, Any]) -> Iterator[StoredWeight]:
    """The weights that have `scales` as MLX keeps them.

    Args:
        config: config.json, whose `quantization` says bits and groups.
        metadata: the header's strings; with `LEVEL` among them, groups are of 64, whatever the bits.
    """
    said = config.get("quantization")
    settings = said if isinstance(said, Mapping) else config.get("quantization_config")
    settings = settings if isinstance(settings, Mapping) else {}
    if not settings and LEVEL in metadata:
        settings = {"group_size": 64, "bits": ANY}
    for name, weight in tensors.items():
        stem = name.removesuffix(".weight")
        if weight.dtype.name == "uint32" and stem != name and f"{stem}.scales" in tensors:
            yield _weight(stem, tensors, settings)


def _weight(stem: str, tensors: Tensors, settings: Mapping[str, Any]) -> StoredWeight:
    name = f"{stem}.weight"
    weight, scales = tensors[name], tensors[f"{stem}.scales"]
    biases = tensors.get(f"{stem}.biases")
    check_some(name, weight)
    check_some(f"{stem}.scales", scales)
    if f"{stem}.global_scale" in tensors:
        raise FormatError(f"{stem}.global_scale belongs to a form of nvfp4 that is not dequantized")
    if weight.ndim < 2 or scales.shape[:-1] != weight.shape[:-1]:
        raise misfit(f"{stem}.scales", scales, name, weight)
    how = _how(stem, weight, scales, biases, settings)
    parts = [name, f"{stem}.scales"]
    to = dtypes.by_name("bfloat16")
    if how.has_biases:
        assert biases is not None
        check_dtype(f"{stem}.scales", scales, *FLOATS)
        check_dtype(f"{stem}.biases", biases, scales.dtype.name)
        check_shape(f"{stem}.biases", biases, scales.shape, f"{stem}.scales", scales)
        parts.append(f"{stem}.biases")
        to = scales.dtype
    return StoredWeight(name, tuple(parts), Dequantized(weight, scales, biases, how, to))


def _how(
    stem: str,
    weight: LazyTensor,
    scales: LazyTensor,
    biases: LazyTensor | None,
    settings: Mapping[str, Any],
) -> Quantization:
    """Bits and groups: the layer's own, the model's, or the only ones that fit the shapes."""
    modes = ("affine",) if biases is not None else ("mxfp4", "mxfp8", "nvfp4")
    forms = [
        Quantization(mode, bits, size)
        for mode in modes
        for bits in MODES[mode].bits
        for size in MODES[mode].group_sizes
    ]
    fitting = [one for one in forms if weight.shape[-1] * 32 == scales.shape[-1] * one.group_size * one.bits]
    for said in (settings.get(stem), settings):
        if isinstance(said, Mapping) and (said.get("bits") or said.get("group_size")):
            for one in fitting:
                # what is null or not there is the mode's own: mlx-lm's mixed recipes say no group size
                bits = one.bits if said.get("bits") == ANY else said.get("bits") or MODES[one.mode].bits[0]
                size = said.get("group_size") or MODES[one.mode].group_sizes[0]
                if (one.bits, one.group_size) == (bits, size):
                    return one
    if len(fitting) == 1:
        return fitting[0]
    raise misfit(
        f"{stem}.scales", scales, f"{stem}.weight", weight, "a quantization in config.json that fits"
    )
