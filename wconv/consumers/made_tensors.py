"""Tensors that a consumer keeps among its weights and the source among its settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from wconv.errors import LayoutError
from wconv.tensors.lazy import LazyTensor, from_array

SETTINGS = "generation_config.json"


def alignment_heads(settings: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, LazyTensor]:
    """Which heads of Whisper's decoder tell when a word was spoken: pairs of a layer and a head.

    Raises:
        LayoutError: they are no pairs of the model's layers and heads.
    """
    pairs = settings.get("alignment_heads")
    if pairs is None:
        return {}
    layers, heads = config.get("n_text_layer", 0), config.get("n_text_head", 0)
    if not isinstance(pairs, list) or not pairs or not all(_is_pair(one, layers, heads) for one in pairs):
        raise LayoutError(
            f"{SETTINGS}: alignment_heads is {pairs!r:.60}, expected pairs of a layer below {layers} and a"
            f" head below {heads}; download the file again"
        )
    return {"alignment_heads": from_array(np.array(pairs, np.int64))}


def _is_pair(value: Any, layers: int, heads: int) -> bool:
    if not isinstance(value, list) or len(value) != 2 or any(type(one) is not int for one in value):
        return False
    return bool(0 <= value[0] < layers and 0 <= value[1] < heads)


MAKERS: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, LazyTensor]]] = {
    "whisper": alignment_heads,
}
"""By a layout's `config`: out of the settings of the source and the config that was made."""
