"""What every scheme says of a checkpoint: which weights it has, their dense values, their form in MLX.

The functions below the classes are the checks that the schemes' files share.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from wconv.errors import FormatError
from wconv.tensors.dtypes import DType
from wconv.tensors.lazy import LazyTensor
from wconv.tensors.quantize import Quantization
from wconv.wording import plural

Tensors = Mapping[str, LazyTensor]


@dataclass(frozen=True, slots=True)
class MlxForm:
    """A weight as MLX keeps it: the same values when MLX dequantizes it.

    Attributes:
        weight: uint32.
        biases: None where the mode has none.
        turned: the last two axes are those of the dense weight exchanged.
    """

    how: Quantization
    weight: LazyTensor
    scales: LazyTensor
    biases: LazyTensor | None = None
    turned: bool = False


@dataclass(frozen=True, slots=True)
class StoredWeight:
    """One weight of a checkpoint that is stored in a scheme.

    Attributes:
        name: what the dense weight is called.
        parts: the tensors it is stored in.
        dense: its values, in the dtype that the scheme's own library computes in.
        packed: gives the form in MLX that holds every value; None where none does. It may read scales.
        unused: tensors that belong to it and that only the scheme's own programs use → why they are dropped.
    """

    name: str
    parts: tuple[str, ...]
    dense: LazyTensor
    packed: Callable[[], MlxForm | None] | None = None
    unused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Dense:
    """A state dict without scales.

    Attributes:
        tensors: under the model's own names, in the order of the source.
        sources: of each decoded weight, what it was made of.
        dropped: what was left out, with the reason.
        notes: what the user should know.
    """

    tensors: dict[str, LazyTensor]
    sources: Mapping[str, tuple[str, ...]]
    dropped: Mapping[str, str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredWeights:
    """All of a checkpoint's weights that are stored in schemes.

    Attributes:
        name: of the scheme that most of them have.
        title: for messages: "a GPTQ checkpoint".
        weights: by the names of their dense forms.
        notes: where the config contradicts the tensors, what is assumed.
    """

    name: str
    title: str
    weights: Mapping[str, StoredWeight]
    notes: tuple[str, ...] = ()

    def decode(self, tensors: Tensors) -> Dense:
        """All weights dense, each in the dtype that the scheme's own library computes in.

        Args:
            tensors: the checkpoint's, by name.

        Raises:
            FormatError: a weight stands there both stored and dense.
        """
        owner = {part: one for one in self.weights.values() for part in (*one.parts, *one.unused)}
        made: dict[str, LazyTensor] = {}
        sources: dict[str, tuple[str, ...]] = {}
        for name, tensor in tensors.items():
            weight = owner.get(name)
            if weight is None:
                made[name] = tensor
            elif weight.name not in sources:
                made[weight.name] = weight.dense
                sources[weight.name] = weight.parts
        clash = next((name for name in self.weights if name in tensors and name not in owner), None)
        if clash is not None:
            raise FormatError(f"{clash} stands in the file both dense and in {self.title}: keep one of them")
        dropped = {name: why for one in self.weights.values() for name, why in one.unused.items()}
        count = len(self.weights)
        note = f"{plural(count, 'weight')} of {self.title} {'is' if count == 1 else 'are'} decoded"
        return Dense(made, sources, dropped, (*self.notes, note))


SETTINGS_FILES = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")
"""Files beside the weights that only tell how those are quantized."""


def settings_of(config: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """What a config says of the quantization; empty where it says nothing."""
    for part in (config or {}, (config or {}).get("text_config")):
        found = part.get("quantization_config") if isinstance(part, Mapping) else None
        if isinstance(found, Mapping):
            inner = found.get("quantization")
            return {**found, **inner} if isinstance(inner, Mapping) else found
    return {}


def need(tensors: Tensors, name: str, weight: str) -> LazyTensor:
    """A tensor without which a weight means nothing.

    Raises:
        FormatError: it is not there.
    """
    found = tensors.get(name)
    if found is None:
        raise FormatError(f"{weight} has no {name}, without which it means nothing: download the file again")
    return found


def misfit(name: str, tensor: LazyTensor, weight: str, other: LazyTensor, wanted: str = "") -> FormatError:
    """Says that a tensor does not fit the weight it belongs to."""
    return FormatError(
        f"{name} is {tensor.dtype.name} {tensor.shape}, which does not fit {weight},"
        f" {other.dtype.name} {other.shape}{f': {wanted} is needed' if wanted else ''}"
    )


def check_shape(
    name: str, tensor: LazyTensor, wanted: tuple[int, ...], weight: str, other: LazyTensor
) -> None:
    """Raises FormatError where a tensor has another shape than it must have."""
    if tensor.shape != wanted:
        raise misfit(name, tensor, weight, other, f"the shape {wanted}")


def check_dtype(name: str, tensor: LazyTensor, *allowed: str) -> None:
    """Raises FormatError where a tensor has another dtype than it can have."""
    if tensor.dtype.name not in allowed:
        raise FormatError(f"{name} is {tensor.dtype.name}; in this scheme it can be {', '.join(allowed)}")


def check_some(name: str, tensor: LazyTensor) -> None:
    """Raises FormatError where a tensor is empty."""
    if tensor.size == 0:
        raise FormatError(f"{name} has the shape {tensor.shape} and holds nothing: download the file again")


TEXT_LIMIT = 64 << 10
"""Bytes of settings that a tensor may hold."""


def text_of(name: str, tensor: LazyTensor) -> dict[str, Any]:
    """The JSON object whose text a tensor of bytes holds.

    Raises:
        FormatError: it holds none.
    """
    if tensor.dtype.itemsize == 1 and 0 < tensor.size <= TEXT_LIMIT:
        raw = tensor.read_range().view("uint8").tobytes().rstrip(b"\0 ")
        try:
            found = json.loads(raw)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict):
            return found
    raise FormatError(f"{name} holds no settings: the file is damaged")


def sixteen(dtype: DType) -> bool:
    """Whether a dtype is one of MLX's of 16 bits."""
    return dtype.name in ("float16", "bfloat16")
