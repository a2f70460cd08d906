"""Which weights of a model that is laid out for a consumer its own converter would quantize, and how."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wconv.consumers.quantization.mixed import Mixed
from wconv.consumers.quantization.modules import (
    MODULES,
    PLAIN_GATES,
    PLAIN_MODULES,
    SKIPPED_BY_MLX_VLM,
    STACKS,
)
from wconv.consumers.quantization.recipes import Quantize, Rules, base_of
from wconv.consumers.quantization.tables import CASES, SMALLER_GROUPS, Answer, Row, exceptions
from wconv.errors import WconvError
from wconv.tensors import dtypes
from wconv.tensors.quantize import Quantization

Tensors = Mapping[str, tuple[Sequence[int], str]]
"""Names to shapes and dtypes."""

FLOATS = ("float32", "float16", "bfloat16")
NORM = re.compile(r"(^|_)(norm|ln)\d*$|norm$")
MFLUX_BITS = (3, 4, 5, 6, 8)


@dataclass(slots=True)
class LayerChoice:
    """What becomes of each tensor.

    Attributes:
        quantized: how a weight is stored, by its name (with `.weight`).
        left: why a tensor stays as it is, by name: one entry for all others.
        config: what goes into config.json: `quantization` and `quantization_config`, as the consumer's
            converter writes them; empty for mflux, which reads all from the files.
        unmatched: the user's rules that found no layer.
        overruled: the user's rules of which later rules took every layer.
        bytes: of all tensors when they are quantized so.
        elements: of all tensors.
    """

    quantized: dict[str, Quantization] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    unmatched: tuple[str, ...] = ()
    overruled: tuple[str, ...] = ()
    bytes: int = 0
    elements: int = 0

    @property
    def bits_per_weight(self) -> float:
        """Bits that one element takes on average, dense ones included."""
        return self.bytes * 8 / self.elements if self.elements else 0.0

    def undivided(self) -> tuple[str, ...]:
        """The weights that stay dense only because no group divides their rows."""
        return tuple(name for name, why in self.left.items() if why.startswith(UNDIVIDED))


UNDIVIDED = "no group of "


def choose_layers(
    consumer: str, model_type: str, config: Mapping[str, Any], tensors: Tensors, recipe: Quantize
) -> LayerChoice:
    """The choice of a consumer's converter, without a model and without arrays.

    Args:
        consumer: "mlx-lm", "mlx-vlm" or "mflux".
        model_type: config.json's; for mflux "<family>" or "<family>/<component>".
        config: config.json's content.
        tensors: as the dense conversion would write them, in the dtypes that it would give them.
        recipe: what the user asks for.

    Raises:
        WconvError: the recipe asks for what the mode or the consumer does not have.
    """
    chooser = _Chooser(consumer, model_type, config, tensors, recipe)
    choice = LayerChoice()
    entries: dict[str, Any] = {}
    for name, (shape, dtype) in tensors.items():
        answer = chooser.answer(name, tuple(shape), dtype)
        size = math.prod(shape)
        choice.elements += size
        if isinstance(answer, str):
            choice.left[name] = answer
            choice.bytes += (size * dtypes.by_name(dtype).bits + 7) // 8
            continue
        how, entry = answer
        choice.quantized[name] = how
        choice.bytes += _bytes(size, dtype, how)
        if entry is not None:
            entries[name.removesuffix(".weight")] = entry
    if consumer != "mflux":
        written = {**chooser.head, **entries}
        choice.config = {"quantization": written, "quantization_config": written}
    choice.unmatched, choice.overruled = chooser.rules.unmatched(), chooser.rules.overruled()
    return choice


def _bytes(size: int, dtype: str, how: Quantization) -> int:
    scale = dtypes.by_name(how.scale_dtype(dtype)).bits * (2 if how.has_biases else 1)
    return (size * how.bits + size // how.group_size * scale) // 8


class _Chooser:
    """All that is the same for every weight of one model."""

    def __init__(
        self, consumer: str, model_type: str, config: Mapping[str, Any], tensors: Tensors, recipe: Quantize
    ) -> None:
        if consumer not in CASES:
            raise WconvError(f"{consumer!r} does not read quantized models: {', '.join(CASES)} do")
        family, _, component = model_type.partition("/")
        if consumer == "mflux":
            recipe = _for_mflux(recipe, family)
            self.prefix = f"{component}/" if component else ""
        else:
            family, self.prefix = model_type, ""
        self.consumer = consumer
        self.module = _module(consumer, family, config)
        self.base = base_of(consumer, recipe)
        self.rules = Rules(recipe, self.base)
        self.paths = {name.removesuffix(".weight") for name in tensors if name.endswith(".weight")}
        self.tensors = tensors
        self.mixed = Mixed.of(consumer, self.module, recipe, self.paths)
        before = config.get("quantization")
        self.fine = isinstance(before, dict)
        self.head: dict[str, Any] = dict(before) if isinstance(before, dict) else _entry(self.base)
        last = _layers(config) - 1
        self.exceptions = [
            (row, re.compile(row.pattern.replace("LAST", str(last))))
            for row in exceptions(consumer, self.module)
        ]
        self.plain = re.compile("|".join(_plain(consumer, self.module)) or "(?!)")

    def answer(
        self, name: str, shape: tuple[int, ...], dtype: str
    ) -> tuple[Quantization, dict[str, Any] | None] | str:
        """How a weight is stored and its entry in config.json, or why it stays as it is."""
        path = name.removesuffix(".weight")
        asked = self.rules.of(self.prefix + path) if path in self.paths and path != name else None
        why = self._unfit(name, path, shape, dtype)
        if why:
            return why
        if asked is not None:
            rule, wanted = asked
            if wanted is None:
                return f"the rule {rule} keeps it dense"
            given = self._consumer(path, shape) if self.consumer == "mflux" else True
            if isinstance(given, str):
                return given  # mflux asks the same on loading, and would find a weight of another shape
            entry: Answer = _entry(wanted)
        else:
            given = self._consumer(path, shape)
            if isinstance(given, str):
                return given
            entry = given
        how = self.base if isinstance(entry, bool) else _read(entry, self.base)
        if shape[-1] % how.group_size:
            return _undivided(shape, how.group_size)
        if isinstance(entry, bool):
            return how, _entry(self.base) if self.fine else None
        return how, dict(entry)

    def _unfit(self, name: str, path: str, shape: tuple[int, ...], dtype: str) -> str | None:
        """Why no program could quantize this tensor."""
        last = path.rpartition(".")[2]
        if path == name or len(shape) < 2:
            return "not a matrix of weights"
        if dtype not in FLOATS:
            return f"its numbers are {dtype}, which is not quantized"
        if f"{path}.scales" in self.tensors:
            return "quantized already"
        if len(shape) > 3 or (len(shape) == 3 and last not in STACKS):
            return "not a matrix: the weight of a convolution"
        if NORM.search(last):
            return "the weight of a normalization"
        if 0 in shape:
            return "empty"
        if self.plain.search(path):
            return f"{self.consumer} has no quantized form of it: a bare matrix in its model"
        return None

    def _consumer(self, path: str, shape: tuple[int, ...]) -> Answer | str:
        """What the consumer's converter says where the user has no rule."""
        group_size = self.base.group_size
        if self.consumer != "mlx-vlm" and shape[-1] % group_size:
            return _undivided(shape, group_size)
        if self.consumer == "mlx-vlm" and any(part in path for part in SKIPPED_BY_MLX_VLM):
            return "mlx-vlm keeps the parts for images and sound dense"
        if self.mixed is not None:
            if shape[-1] % group_size:
                return _undivided(shape, group_size)
            return self.mixed.answer(path, shape)
        answer = self._exception(path, shape)
        if answer is False:
            return f"{self.consumer} keeps it dense in this kind of model"
        if isinstance(answer, Mapping) and "fallback_group_size" in answer:
            fallback = answer["fallback_group_size"]
            fits = shape[-1] % group_size == 0 or shape[-1] % fallback
            return {**_entry(self.base), "group_size": group_size if fits else fallback}
        if self.consumer == "mlx-vlm" and shape[-1] % group_size:
            return _undivided(shape, group_size)
        return answer

    def _exception(self, path: str, shape: tuple[int, ...]) -> Answer:
        for row, pattern in self.exceptions:
            if pattern.search(self.prefix + path) and self._holds(row, path, shape):
                return row.answer
        return True

    def _holds(self, row: Row, path: str, shape: tuple[int, ...]) -> bool:
        return (
            (row.beside is None or f"{path.rpartition('.')[0]}.{row.beside}" in self.paths)
            and (row.multiple is None or any(side % row.multiple for side in shape))
            and (not row.at_bits or self.base.bits in row.at_bits)
        )


def _for_mflux(recipe: Quantize, family: str) -> Quantize:
    """The recipe with the only mode and groups that mflux writes.

    Raises:
        WconvError: it asks for others.
    """
    size = SMALLER_GROUPS.get(family, 64)
    bits = recipe.bits or 4
    if recipe.mode != "affine":
        raise WconvError(f"mflux stores affine quantization alone, not {recipe.mode}")
    if bits not in MFLUX_BITS:
        raise WconvError(f"mflux does not have bits {bits}: it has {', '.join(map(str, MFLUX_BITS))}")
    if recipe.group_size not in (None, size):
        raise WconvError(f"mflux stores groups of {size}, not of {recipe.group_size}")
    return Quantize("affine", bits, size, recipe.predicate, recipe.rules)


def _module(consumer: str, model_type: str, config: Mapping[str, Any]) -> str:
    """The consumer's own name of a kind of model."""
    if consumer == "mlx-lm" and "BailingMoeV3ForCausalLM" in (config.get("architectures") or ()):
        return "bailing_moe_v3"
    if consumer == "mlx-vlm":
        model_type = model_type.lower()
    return MODULES[consumer].get(model_type, model_type)


def _plain(consumer: str, module: str) -> Iterator[str]:
    if module in PLAIN_GATES[consumer]:
        yield r"(^|\.)gate$"
    if (consumer, module) in PLAIN_MODULES:
        yield PLAIN_MODULES[consumer, module]


def _layers(config: Mapping[str, Any]) -> int:
    """The number of layers that a config says, 0 when it does not."""
    for part in (config.get("text_config"), config):
        count = part.get("num_hidden_layers") if isinstance(part, Mapping) else None
        if isinstance(count, int):
            return count
    return 0


def _entry(how: Quantization) -> dict[str, Any]:
    return {"group_size": how.group_size, "bits": how.bits, "mode": how.mode}


def _read(entry: Mapping[str, Any], base: Quantization) -> Quantization:
    """What a consumer makes of a layer's entry: a mode that is not said is affine, with its own defaults."""
    return Quantization.of(entry.get("mode", "affine"), entry.get("bits"), entry.get("group_size"))


def _undivided(shape: tuple[int, ...], group_size: int) -> str:
    return f"{UNDIVIDED}{group_size} divides its rows of {shape[-1]}"
