"""What is found of a model that a program for MLX has loaded: its parameters, and one forward pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOKENS = (3, 17, 200, 45, 5, 120, 9, 31)
"""What the forward pass is of, as far as the vocabulary reaches."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in a program's memory.

    Attributes:
        parameters: elements of all of them, in whatever packing.
        logits: the shape of what one forward pass gave.
        not_finite: how many of the logits are NaN or infinite.
    """

    parameters: int
    logits: tuple[int, ...]
    not_finite: int


Loader = Callable[[Path], LoadedModel]
"""Loads a model directory. Raises whatever the program does."""


def tokens(config: Mapping[str, Any]) -> list[int]:
    """Some tokens of the vocabulary that a config says."""
    text = config.get("text_config")
    for part in (config, text if isinstance(text, Mapping) else {}):
        size = part.get("vocab_size")
        if type(size) is int and size > 0:
            return [token % size for token in TOKENS]
    return [token % 32 for token in TOKENS]


def examined(model: Any, logits: Any) -> LoadedModel:
    """What is said of a model (an `mlx.nn.Module`) and the array that it gave."""
    import mlx.core as mx
    from mlx.utils import tree_flatten

    arrays: Any = tree_flatten(model.parameters())
    wrong: Any = mx.sum(~mx.isfinite(logits.astype(mx.float32))).item()
    return LoadedModel(sum(math.prod(one.shape) for _, one in arrays), tuple(logits.shape), int(wrong))
