"""PEFT's settings of an adapter, as its `adapter_config.json` and diffusers' headers hold them.

Facts: PEFT 0.21.2, `tuners/lora/config.py` and `utils/other.py`: patterns match as `(.*\\.)?(pattern)$`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from wconv.errors import LayoutError
from wconv.lora.read import Adapter


def alpha_of(adapter: Adapter) -> float:
    """The alpha of which the file's scale was made: of the numbers that give it, the plainest."""
    exact = adapter.scale * adapter.rank
    choices = (float(f"{exact:.12g}"), float(np.float32(exact)), exact)
    return next((one for one in choices if one / adapter.rank == adapter.scale), exact)


def config(adapters: Mapping[str, Adapter], task: str | None) -> dict[str, Any]:
    """The whole of `adapter_config.json`; raises as `settings` does.

    Args:
        task: what PEFT calls the model's ("CAUSAL_LM"), where it has a word for it.
    """
    return {
        "peft_type": "LORA",
        "task_type": task,
        "base_model_name_or_path": None,
        "inference_mode": True,
        **settings(adapters),
    }


def settings(adapters: Mapping[str, Adapter], *, whole: bool = True) -> dict[str, Any]:
    """Rank and alpha of most modules and of those that differ, and the modules' names.

    Args:
        whole: whether the modules' names begin where the model's do; else they may be the ends of names.

    Raises:
        LayoutError: some modules are decomposed into lengths and directions and some are not.
    """
    plain = next((one for one in adapters.values() if one.magnitude is None), None)
    decomposed = next((one for one in adapters.values() if one.magnitude is not None), None)
    if plain is not None and decomposed is not None:
        raise LayoutError(f"{decomposed.name} is a DoRA and {plain.name} is not: PEFT wants all or none")
    ranks = {module: one.rank for module, one in adapters.items()}
    alphas = {module: _number(alpha_of(one)) for module, one in adapters.items()}
    rank, alpha = _most_common(ranks), _most_common(alphas)
    start = "^" if whole else ""
    return {
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {start + module: one for module, one in ranks.items() if one != rank},
        "alpha_pattern": {start + module: one for module, one in alphas.items() if one != alpha},
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_dora": decomposed is not None,
        "use_rslora": False,
        "target_modules": _targets(sorted(adapters)),
    }


def _most_common(values: Mapping[str, float]) -> float:
    """The value that most have, the smallest where several are as common."""
    counts = Counter(values.values())
    return min(counts, key=lambda value: (-counts[value], value))


def _number(value: float) -> float:
    return int(value) if value == int(value) else value


def _targets(modules: list[str]) -> list[str] | str:
    """Names that PEFT takes for the ends of others too are given as one expression, which it takes whole."""
    if all(any(part.isdigit() for part in module.split(".")) for module in modules):
        return modules
    return "|".join(map(re.escape, modules))
