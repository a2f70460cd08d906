"""How others store weights in few bits: recognised, decoded by ranges, or taken over as MLX's own forms.

    scheme = find_weights(tensors, config)
    if scheme is not None:
        dense = scheme.decode(tensors)

The tensors decide, by their names, dtypes and shapes; a config that contradicts them is told of. Nothing is
read but settings and, for the first GPTQ weight, some zeros; `StoredWeight.packed` reads scales, to
see whether MLX's form holds every value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from wconv.errors import FormatError
from wconv.quantized import (
    awq,
    bitnet,
    bitsandbytes,
    comfyui,
    compressed_tensors,
    float4,
    fp8,
    gptq,
    mlx,
    modelopt,
    refused,
    torchao,
)
from wconv.quantized.columns import scaled_columns
from wconv.quantized.stored import Dense, MlxForm, StoredWeight, StoredWeights, Tensors, settings_of

Reader = Callable[[Tensors, Mapping[str, Any], Mapping[str, Any]], Iterator[StoredWeight]]

READERS: Mapping[tuple[str, str], Reader] = {
    (module.NAME, module.TITLE): module.read
    for module in (
        comfyui,
        fp8,
        gptq,
        awq,
        compressed_tensors,
        bitsandbytes,
        float4,
        modelopt,
        bitnet,
        torchao,
    )
}
"""Each scheme's name and title, and what finds its weights."""

METHODS = {
    "fp8": ("fp8", "float4"),
    "fbgemm_fp8": ("fp8",),
    "mxfp8": ("fp8",),
    "gptq": ("gptq",),
    "gptqmodel": ("gptq",),
    "auto-round": ("gptq", "awq", "compressed-tensors", "fp8"),
    "intel/auto-round": ("gptq", "awq"),
    "awq": ("awq",),
    "bitsandbytes": ("bitsandbytes",),
    "mxfp4": ("float4",),
    "bitnet": ("bitnet",),
    "torchao": ("torchao",),
    "compressed-tensors": ("compressed-tensors", "fp8"),
    "modelopt": ("fp8", "float4", "modelopt", "compressed-tensors"),
    "quark": ("fp8", "float4", "compressed-tensors"),
}
"""`quant_method` of a config → the schemes that it may mean."""

ALGORITHMS = {
    "NVFP4": "float4",
    "NVFP4_AWQ": "float4",
    "W4A16_NVFP4": "float4",
    "W4A8_NVFP4_FP8": "float4",
    "W4A8_MXFP4_FP8": "float4",
    "mxfp4": "float4",
    "W4A16_AWQ": "modelopt",
    "W4A8_AWQ": "modelopt",
    "FP8": "fp8",
    "FP8_PER_CHANNEL_PER_TOKEN": "fp8",
    "FP8_PB_WO": "fp8",
    "fp8_pb_wo": "fp8",
    "MXFP8": "fp8",
    "W8A16": "compressed-tensors",
    "W8A8_SQ_PER_CHANNEL": "compressed-tensors",
}
"""`quant_algo` of ModelOpt → the scheme that it means."""

AT_ONCE = 1 << 24
"""Elements that a weight may take in memory at once, whatever its file says."""

ORPHANS = (
    "_scale_inv",
    ".scale_weight",
    ".weight_scale",
    ".weight_scale_2",
    "_weight_scale",
    "_weight_scale_2",
    ".weight_zero_point",
    ".weight_g_idx",
    ".weight_shape",
    ".weight_global_scale",
    ".pre_quant_scale",
    ".comfy_quant",
    ".qzeros",
    ".g_idx",
    ".SCB",
    ".absmax",
    ".quant_map",
    "._weight_scale",
    "._weight_zero_point",
)
"""Endings of names that mean nothing without a weight."""

__all__ = ["Dense", "MlxForm", "StoredWeight", "StoredWeights", "find_weights"]


def find_weights(
    tensors: Tensors,
    config: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> StoredWeights | None:
    """How some of a checkpoint's weights are stored; None where all are plain.

    Args:
        tensors: by name.
        config: config.json, for what the tensors do not show.
        metadata: the header's strings, where torchao describes its tensors.

    Raises:
        FormatError: a part of a weight is missing or does not fit it, or the scheme is not decoded.
    """
    settings = settings_of(config)
    refused.check(tensors, settings)
    found: dict[str, StoredWeight] = {}
    counts: Counter[tuple[str, str]] = Counter()
    left = tensors
    for scheme, read in READERS.items():
        for weight in read(left, settings, metadata or {}):
            if weight.name in found:
                raise FormatError(f"{weight.name} is stored in two schemes, {weight.parts[0]} shows: damaged")
            if weight.dense.block_size > AT_ONCE:
                raise FormatError(
                    f"{weight.parts[0]} has rows of {weight.dense.shape[-1]:,} elements, more than any layer:"
                    " it is not decoded"
                )
            found[weight.name] = _with_factors(weight, tensors)
            counts[scheme] += 1
        if scheme[0] == comfyui.NAME and found:
            # what ComfyUI tells of a layer counts, whatever its names look like
            told = {part for one in found.values() for part in (*one.parts, *one.unused)}
            left = {name: tensor for name, tensor in tensors.items() if name not in told}
    for weight in mlx.read(tensors, config or {}, metadata or {}):
        found[weight.name] = weight
        counts[mlx.NAME, mlx.TITLE] += 1
    if not found:
        _check_unrecognised(tensors, settings)
        return None
    refused.check_transforms(settings)
    found = _with_markers(found, tensors)
    claimed = {part for one in found.values() for part in (*one.parts, *one.unused)}
    _check_orphans(tensors, claimed, settings)
    _check_bare(tensors, claimed, {name.partition(".")[0] for name in claimed}, settings)
    (name, title), _ = counts.most_common(1)[0]
    contradiction = _contradiction(name, settings)
    notes = [contradiction] if contradiction else []
    if (gptq.NAME, gptq.TITLE) in counts:
        notes += gptq.notes(tensors, settings)
    if len(counts) > 1 and not {one for one, _ in counts} <= set(METHODS.get(_method(settings), ())):
        notes.append(f"weights in several schemes: {', '.join(scheme for scheme, _ in counts)}")
    return StoredWeights(name, title, found, tuple(notes))


def check_codes_have_scales(tensors: Tensors, config: Mapping[str, Any] | None) -> None:
    """Refuses codes without scales, and scales without codes, where the config names a scheme with both.

    Raises:
        FormatError: naming one.
    """
    settings = settings_of(config)
    if _method(settings) in METHODS:
        _check_unrecognised(tensors, settings)


def check_complete(
    tensors: Tensors, config: Mapping[str, Any] | None, metadata: Mapping[str, Any] | None
) -> None:
    """Looks at weights that stay as they are stored as at those that are decoded, where they could be.

    Raises:
        FormatError: a part of a weight is missing or does not fit it.
    """
    settings = settings_of(config)
    if refused.told_by(settings) is not None or _is_unknown(settings) or gptq.is_other_order(settings):
        return
    if settings.get("version") == "gemv_fast":
        return
    try:
        refused.check(tensors, settings)
        refused.check_transforms(settings)
    except FormatError:
        return
    find_weights(tensors, config, metadata)


def _with_factors(one: StoredWeight, tensors: Tensors) -> StoredWeight:
    """A weight with the factors of what goes into its layer, which are never left out."""
    name = f"{one.name.removesuffix('weight')}pre_quant_scale"
    factors = tensors.get(name)
    if factors is None or name in one.parts or not one.name.endswith(".weight"):
        return one
    unused = {part: why for part, why in one.unused.items() if part != name}
    dense = scaled_columns(one.dense, factors, name, one.name)
    return StoredWeight(one.name, (*one.parts, name), dense, None, unused)


def _with_markers(found: dict[str, StoredWeight], tensors: Tensors) -> dict[str, StoredWeight]:
    """The first weight takes what belongs to no single one: marks of the file, scales of a cache."""
    taken = {part for one in found.values() for part in (*one.parts, *one.unused)}
    more = {name: why for name, why in fp8.markers(tensors).items() if name not in taken}
    if not more:
        return found
    name, first = next(iter(found.items()))
    return {**found, name: replace(first, unused={**first.unused, **more})}


def _check_unrecognised(tensors: Tensors, settings: Mapping[str, Any]) -> None:
    """Refuses parts of weights where no weight was recognised. Raises `FormatError`, naming one."""
    _check_orphans(tensors, frozenset(), settings)
    if _method(settings) in METHODS:
        _check_bare(tensors, set(), {name.partition(".")[0] for name in tensors}, settings)


def _check_orphans(tensors: Tensors, claimed: frozenset[str] | set[str], settings: Mapping[str, Any]) -> None:
    """Refuses scales whose weight is not there.

    Raises:
        FormatError: naming one.
    """
    for name, tensor in tensors.items():
        if name.endswith(ORPHANS) and name not in claimed and tensor.size:
            base = name
            for end in ORPHANS:
                base = base.removesuffix(end)
            dense = tensors.get(f"{base}.weight", tensors.get(base))
            if dense is not None and dense.dtype.is_floating and dense.dtype.bits >= 16:
                continue
            if dense is not None or _is_unknown(settings):
                raise FormatError(f"{name} belongs to {_unknown(settings)}")
            raise FormatError(
                f"{name} belongs to a quantized weight that is not there: download the file again"
            )


def _is_unknown(settings: Mapping[str, Any]) -> bool:
    """Whether a config names a scheme that wconv does not know."""
    return bool(_method(settings)) and _method(settings) not in METHODS and refused.told_by(settings) is None


def _unknown(settings: Mapping[str, Any]) -> str:
    said = f"quant_method {_method(settings):.40}" if _method(settings) else "nothing of it"
    return f"a weight in a form that is not decoded (the config says {said}): {refused.ADVICE}"


def _check_bare(tensors: Tensors, claimed: set[str], models: set[str], settings: Mapping[str, Any]) -> None:
    """Refuses codes without scales where weights of the same model have them, or should have.

    Args:
        models: the first parts of names that count.

    Raises:
        FormatError: naming one.
    """
    for name, tensor in tensors.items():
        if name in claimed or tensor.ndim < 2 or name.partition(".")[0] not in models:
            continue
        # int8 is codes; a float8 may be a number by itself, but for weights and stacks of them
        coded = tensor.dtype.name == "int8"
        if coded or (tensor.dtype.bits == 8 and name.endswith((".weight", "_scales", "_blocks", "_proj"))):
            if _is_unknown(settings):
                raise FormatError(f"{name} is {_unknown(settings)}")
            raise FormatError(
                f"{name} is {tensor.dtype.name} without what it needs, which"
                f" {'the other weights have' if claimed else 'the config says'}: download the file again"
            )


def _method(settings: Mapping[str, Any]) -> str:
    return str(settings.get("quant_method") or "")


def _contradiction(name: str, settings: Mapping[str, Any]) -> str | None:
    """What the config says against what the tensors show."""
    method = _method(settings)
    other = refused.told_by(settings)
    meant = METHODS.get(method)
    algorithm = str(settings.get("quant_algo") or "")
    if method in ("modelopt", "") and algorithm in ALGORITHMS:
        meant = (ALGORITHMS[algorithm],)
    if other is None and (meant is None or name in meant):
        return None
    key = "quant_method" if method and not algorithm else "quant_algo" if algorithm else "format"
    said = algorithm or method or settings.get("format")
    return f"the config says {key} {said}, and the tensors are {name}: so read"
