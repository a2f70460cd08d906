"""A model in MLX's quantized form as the dense one that it stands for, before it is laid out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wconv.errors import FormatError, WconvError
from wconv.tensors.lazy import LazyTensor
from wconv.tensors.quantize import MODES, Quantization
from wconv.tensors.quantized import dequantized

SETTINGS = ("quantization", "quantization_config", "quantized_as")
"""Fields of config.json that tell how the weights are stored, for MLX's programs."""


def is_quantized(tensors: Mapping[str, LazyTensor], config: Mapping[str, Any] | None) -> bool:
    """Whether a model is in MLX's quantized form: config.json says so, or names and dtypes do."""
    said = isinstance((config or {}).get("quantization"), Mapping)
    return any(
        name.endswith(".scales")
        and (weight := tensors.get(_weight(name))) is not None
        and weight.dtype.name == "uint32"
        and (said or tensor.dtype.is_floating)
        for name, tensor in tensors.items()
    )


def dense(tensors: Mapping[str, LazyTensor], config: Mapping[str, Any] | None) -> dict[str, LazyTensor]:
    """The tensors with every quantized weight decoded, lazily.

    Args:
        config: config.json, whose `quantization` tells modes, bits and groups; where it does not, shapes do.

    Raises:
        FormatError: a weight does not have its scales or biases, or its shapes fit no way of storing it.
    """
    settings = (config or {}).get("quantization")
    settings = settings if isinstance(settings, Mapping) else {}
    found: dict[str, LazyTensor] = {}
    for name, tensor in tensors.items():
        path, _, part = name.rpartition(".")
        weight = f"{path}.weight"
        coded = tensors.get(weight)
        if part in ("scales", "biases") and coded is not None and coded.dtype.name == "uint32":
            if part == "biases" and f"{path}.scales" not in tensors:
                raise FormatError(f"{weight} has biases but no scales: the checkpoint is incomplete")
            continue
        if part != "weight" or tensor.dtype.name != "uint32" or f"{path}.scales" not in tensors:
            found[name] = tensor
            continue
        scales, biases = tensors[f"{path}.scales"], tensors.get(f"{path}.biases")
        try:
            found[name] = dequantized(tensor, scales, biases, _how(path, tensor, scales, biases, settings))
        except WconvError as error:
            raise FormatError(f"{name}: {error}") from None
    return found


def without_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """`config` of the model once it is dense."""
    return {name: value for name, value in config.items() if name not in SETTINGS}


def _weight(scales: str) -> str:
    return scales.removesuffix(".scales") + ".weight"


def _how(
    path: str,
    codes: LazyTensor,
    scales: LazyTensor,
    biases: LazyTensor | None,
    settings: Mapping[str, Any],
) -> Quantization:
    """How one weight is stored: by its own entry or the model's, where shapes agree; else by them."""
    for said in (settings.get(path), settings):
        if isinstance(said, Mapping):
            how = _said(said, scales)
            if how is not None and _fits(how, codes, scales, biases):
                return how
    ways = [
        Quantization(mode, bits, size)
        for mode, limits in MODES.items()
        for size in limits.group_sizes
        for bits in limits.bits
        if _fits(Quantization(mode, bits, size), codes, scales, biases)
    ]
    if len(ways) != 1:
        raise FormatError(
            f"codes of shape {codes.shape} and scales of shape {scales.shape} fit"
            f" {'several ways' if ways else 'no way'} of storing a weight, and config.json does not say which"
        )
    return ways[0]


def _said(said: Mapping[str, Any], scales: LazyTensor) -> Quantization | None:
    bits, size, mode = said.get("bits"), said.get("group_size"), said.get("mode")
    if mode is None and scales.dtype.name == "uint8":
        return None
    try:
        return Quantization.of(str(mode or "affine"), bits, size)
    except (WconvError, TypeError):
        return None


def _fits(how: Quantization, codes: LazyTensor, scales: LazyTensor, biases: LazyTensor | None) -> bool:
    if not codes.shape or not scales.shape or how.has_biases != (biases is not None):
        return False
    if (scales.dtype.name == "uint8") == how.has_biases:
        return False
    return codes.shape[:-1] == scales.shape[:-1] and codes.shape[-1] * 32 == (
        scales.shape[-1] * how.group_size * how.bits
    )
