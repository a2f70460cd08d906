"""How strongly an adapter is applied: what its file, its header and `adapter_config.json` say."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wconv.checkpoints import weights_files
from wconv.checkpoints.checkpoint import Checkpoint
from wconv.consumers.adapters.modules import MAIN, place
from wconv.consumers.adapters.namings import METADATA
from wconv.errors import FormatError
from wconv.formats import json_text, side_files
from wconv.tensors.lazy import LazyTensor

CONFIG = "adapter_config.json"

DEFAULT_ALPHA = 8
"""PEFT's, whatever the rank is, where its settings do not say."""

SMALLEST, LARGEST = 1e-12, 1e12
"""Between which alphas lie that are meant: their quotients and products have room in float32."""


def config_path(opened: Checkpoint) -> Path | None:
    """The `adapter_config.json` beside an adapter's weights."""
    settings = opened.files[0].parent / CONFIG
    name = opened.files[0].name
    own = name in ("adapter_model.safetensors", "adapter_model.bin", weights_files.ADAPTERS)
    own = own or weights_files.EARLIER.fullmatch(name) is not None
    return settings if (opened.path.is_dir() or own) and settings.is_file() else None


class Scales:
    """The scale of each module: from its own alpha, the file's metadata, or `adapter_config.json`.

    Attributes:
        config_path: of `adapter_config.json`; None where there is none.
        config: what that says; None likewise.
        components: what the file's header says, by component.
    """

    def __init__(self, opened: Checkpoint) -> None:
        self._path = opened.path
        self._metadata = opened.metadata
        self.config_path = config_path(opened)
        self.config: Mapping[str, Any] | None = (
            side_files.read_json(self.config_path) if self.config_path is not None else None
        )
        self.components = _metadata_configs(opened)

    @property
    def is_mlx_lm(self) -> bool:
        """Whether `adapter_config.json` has mlx-lm's settings."""
        return isinstance((self.config or {}).get("lora_parameters"), Mapping)

    def of(self, module: str, alpha: LazyTensor | None, rank: int) -> float:
        """What `up @ down` is multiplied by."""
        own = self._metadata.get(f"{module}.alpha")
        if alpha is not None:
            if alpha.size != 1:
                raise FormatError(f"{self._path}: {module}.alpha has shape {alpha.shape}, not one number")
            return self._checked(alpha.read_range()[0], module) / rank
        if isinstance(own, int | float):
            return self._checked(own, module) / rank
        if self.config is not None:
            parameters = self.config.get("lora_parameters")
            if isinstance(parameters, Mapping):
                return self._checked(parameters.get("scale"), module)
            return self._by_config(self.config, place(module).full, rank)
        for component, config in self.components.items():
            if component and module.startswith(f"{component}."):
                return self._by_config(config, module.removeprefix(f"{component}."), rank)
        if "" in self.components:
            return self._by_config(self.components[""], place(module).full, rank)
        meant = place(module)
        for component, config in self.components.items():
            if component in (meant.components or MAIN):
                return self._by_config(config, meant.module, rank)
        return 1.0

    def _by_config(self, config: Mapping[str, Any], module: str, rank: int) -> float:
        alpha = config.get("lora_alpha", DEFAULT_ALPHA)
        patterns = config.get("alpha_pattern") or {}
        if not isinstance(patterns, Mapping):
            raise FormatError(f"{self._path}: alpha_pattern is {patterns!r:.40}, no object")
        alpha = next((value for one, value in patterns.items() if _suits(one, module)), alpha)
        root = bool(config.get("use_rslora"))
        return self._checked(alpha, module) / (math.sqrt(rank) if root else rank)

    def _checked(self, value: Any, module: str) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            raise FormatError(f"{self._path}: the alpha of {module} is {value!r:.40}, no number") from None
        if not math.isfinite(number) or (number and not SMALLEST <= abs(number) <= LARGEST):
            raise FormatError(f"{self._path}: the alpha of {module} is {number:g}")
        return number


def _suits(pattern: str, module: str) -> bool:
    """PEFT's patterns are expressions; those of plain names, which all known ones are, are matched here."""
    plain = pattern.removeprefix("^").removesuffix("$").replace("\\.", ".")
    if re.fullmatch(r"[\w.-]+", plain) is None:
        raise FormatError(f"alpha_pattern {pattern!r:.80} is no module's name: expressions are not evaluated")
    return module == plain or (not pattern.startswith("^") and module.endswith(f".{plain}"))


def _metadata_configs(opened: Checkpoint) -> dict[str, dict[str, Any]]:
    """diffusers' own metadata: PEFT's settings, by component."""
    text = opened.metadata.get(METADATA)
    if not isinstance(text, str):
        return {}
    flat = json_text.read(text.encode(errors="replace"), f"{opened.path}'s {METADATA}")
    if not isinstance(flat, dict):
        raise FormatError(f"{opened.path}: lora_adapter_metadata is no JSON object, so alpha is unknown")
    configs: dict[str, dict[str, Any]] = {}
    for key, value in flat.items():
        component, _, name = key.rpartition(".")
        configs.setdefault(component, {})[name] = value
    return {component: config for component, config in configs.items() if "lora_alpha" in config}
