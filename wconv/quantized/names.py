"""Weights that are stored with scales of their own: the names that tell them, and the schemes they tell.

Nothing is decoded here. A tensor that belongs to such a weight means nothing without it, and the weight means
something else without the tensor: both stay together, with the bytes that they have, until they are decoded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from wconv.errors import WconvError
from wconv.quantized.schemes import (
    AWQ,
    BY_METHOD,
    ENDINGS,
    FP8,
    GPTQ,
    INT8,
    MLX,
    MODELOPT,
    NVFP4,
    PARTS,
    SCHEMES,
    STATE,
    TELLING,
    UNKNOWN,
    Part,
    Scheme,
)
from wconv.tensors.dtypes import DType
from wconv.tensors.name_kinds import may_contain, may_end


class Described(Protocol):
    """What is asked of a tensor: its dtype and its shape."""

    @property
    def dtype(self) -> DType: ...

    @property
    def shape(self) -> tuple[int, ...]: ...


LEVEL = "quantization_level"
"""The header string of files that tell by it, not by a config.json, how many bits most weights have."""

UNCHANGED = "convert the model in 16 bits, or copy this one unchanged with --layout hf and without --dtype"
"""What to do about weights that are neither decoded nor taken as they are."""


@dataclass(frozen=True, slots=True)
class Recognised:
    """What a checkpoint's quantized weights are.

    Attributes:
        weights: the tensors that belong to weights in a scheme → the weight, or themselves where that is
            not there.
        example: one of them, for messages.
    """

    scheme: Scheme
    weights: Mapping[str, str]

    @property
    def members(self) -> frozenset[str]:
        """All names that must keep their bytes: the weights and what belongs to them."""
        return frozenset((*self.weights, *self.weights.values()))

    @property
    def example(self) -> str:
        return next(iter(self.weights))


def recognise(tensors: Mapping[str, Described], config: Mapping[str, Any] | None = None) -> Recognised | None:
    """The scheme in which some of a checkpoint's weights are stored; None where all are plain.

    Args:
        tensors: by name.
        config: config.json, whose `quantization_config` names the scheme.
    """
    weights: dict[str, str] = {}
    endings: set[str] = set()
    for name in _plausible(tensors):
        found = _part_of(name, tensors)
        if found is not None:
            weights[name] = found[0]
            endings.add(found[1])
    if not weights:
        return None
    return Recognised(_named(config) or _by_signs(weights, endings, tensors), weights)


def check_complete(tensors: Mapping[str, Described], picked: Collection[str]) -> None:
    """Refuses to leave out what belongs to weights that are picked.

    Raises:
        WconvError: a filter does.
    """
    found = recognise(tensors)
    for name, weight in found.weights.items() if found else ():
        if name not in picked and weight in picked:
            raise WconvError(
                f"--include and --exclude leave out {name}, without which {weight} means nothing:"
                " leave out both or none"
            )


def is_part(name: str) -> bool:
    """Whether a name is spelled like what belongs to a weight in a scheme, and like nothing else."""
    return any(_ending(name, part) for part in TELLING)


def companions(name: str, names: Collection[str]) -> Iterator[str]:
    """Scales of a weight, by the plain spellings, that are among `names`."""
    stem = name.removesuffix(".weight")
    tried = (f"{name}_scale_inv", f"{name}_scale", f"{name}_scale_2", f"{name}_scales")
    dotted = ("scale", "scales", "scale_weight", "weight_scale", "weight_scale_inv", "comfy_quant", "SCB")
    yield from (
        one for one in (*tried, *(f"{stem}.{end}" for end in dotted), f"{stem}_scale") if one in names
    )


def config_of(config: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """What config.json says of the quantization; empty where it says nothing."""
    for part in (config or {}, (config or {}).get("text_config")):
        found = part.get("quantization_config") if isinstance(part, Mapping) else None
        if isinstance(found, Mapping):
            return found
    return {}


def _plausible(names: Iterable[str]) -> list[str]:
    """The names that end like a part's; most models have none."""
    ends = tuple(ending for ending in ENDINGS if ending != STATE)
    names = tuple(names)
    if not may_end(names, ends) and not may_contain(names, (STATE,)):
        return []
    return [name for name in names if name.endswith(ends) or STATE in name]


def _part_of(name: str, tensors: Mapping[str, Described]) -> tuple[str, str] | None:
    """The weight that a tensor belongs to, or itself, and how its name ends; None where it is no part."""
    for part in PARTS:
        ending = _ending(name, part)
        if ending is None:
            continue
        stem = name.partition(STATE)[0] if ending == STATE else name.removesuffix(ending)
        weight = next((stem + end for end in part.weights if stem + end in tensors), None)
        if part.certain or (weight is not None and is_narrow(tensors[weight].dtype)):
            return weight or name, ending
    return None


def _ending(name: str, part: Part) -> str | None:
    return next((one for one in part.endings if name.endswith(one) or (one == STATE and one in name)), None)


def is_narrow(dtype: DType) -> bool:
    """Whether a dtype holds codes, or numbers of few bits, rather than weights as they are."""
    return dtype.kind == "int" or (dtype.is_floating and dtype.bits < 16)


def _named(config: Mapping[str, Any] | None) -> Scheme | None:
    """The scheme that the config names."""
    if isinstance((config or {}).get("quantization"), Mapping) and not config_of(config).get("quant_method"):
        return MLX
    said = config_of(config)
    inner = said.get("quantization")
    settings = inner if isinstance(inner, Mapping) else said
    method = str(said.get("quant_method") or ("modelopt" if "quant_algo" in settings else "")).lower()
    if method == "bitsandbytes":
        form = "4" if settings.get("load_in_4bit") or settings.get("_load_in_4bit") else "8"
    elif method == "fp8":
        form = "ue8m0" if settings.get("weight_block_size") == [32, 32] else ""
    else:
        form = str(settings.get("quant_algo") or settings.get("format") or "")
    if not method and settings.get("bits") and settings.get("group_size"):
        return MLX
    return BY_METHOD.get(f"{method}:{form}") or BY_METHOD.get(method)


def _by_signs(
    weights: Mapping[str, str], endings: frozenset[str] | set[str], tensors: Mapping[str, Described]
) -> Scheme:
    """The scheme that names, dtypes and shapes tell."""
    scheme = next((one for one in SCHEMES if not endings.isdisjoint(one.signs)), None)
    if scheme is MODELOPT and any(tensors[weight].dtype.name == "uint8" for weight in weights.values()):
        return NVFP4
    if scheme is not None:
        return scheme
    codes = next((one for one in weights if one.endswith(".qweight")), None)
    if codes is not None:
        return _packed_on(tensors, codes)
    name, weight = next(iter(weights.items()))
    dtype = tensors[weight].dtype.name
    if name.endswith((".scales", ".biases", ".global_scale")) and dtype == "uint32":
        return MLX
    if dtype.startswith("float8"):
        return FP8
    return INT8 if dtype == "int8" else UNKNOWN


def _packed_on(tensors: Mapping[str, Described], codes: str) -> Scheme:
    """AWQ packs its words along the outputs, GPTQ along the inputs."""
    scales = tensors.get(codes.removesuffix("qweight") + "scales")
    shape = tensors[codes].shape
    if scales is None or len(shape) != 2 or len(scales.shape) != 2:
        return GPTQ
    return GPTQ if shape[1] == scales.shape[1] else AWQ
