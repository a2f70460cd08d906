"""config.json as mlx-whisper reads it, and the tensor that it keeps among its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wconv.errors import LayoutError
from wconv.tensors.lazy import LazyTensor, from_array

Config = dict[str, Any]

DIMENSIONS = {
    "n_mels": "num_mel_bins",
    "n_audio_ctx": "max_source_positions",
    "n_audio_state": "d_model",
    "n_audio_head": "encoder_attention_heads",
    "n_audio_layer": "encoder_layers",
    "n_vocab": "vocab_size",
    "n_text_ctx": "max_target_positions",
    "n_text_state": "d_model",
    "n_text_head": "decoder_attention_heads",
    "n_text_layer": "decoder_layers",
}
"""A field of OpenAI's `dims`, which mlx-whisper reads, and transformers' name for it."""


def dimensions(config: Mapping[str, Any], tensors: Mapping[str, LazyTensor]) -> Config:
    """mlx-whisper's dimensions, of OpenAI's `dims` or of transformers' config.

    Raises:
        LayoutError: one of them is not there.
    """
    dims = config.get("dims", config)
    dims = dims if isinstance(dims, Mapping) else {}
    made = {name: dims.get(name, dims.get(hub_name)) for name, hub_name in DIMENSIONS.items()}
    for name, value in made.items():
        if type(value) is not int or value <= 0:
            raise LayoutError(
                f"{name} ({DIMENSIONS[name]} in config.json) is {value!r:.60}: the dimensions of a"
                " Whisper model are in OpenAI's own file or in transformers' config.json"
            )
    return {**made, "model_type": "whisper"}


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
            f"generation_config.json: alignment_heads is {pairs!r:.60}, expected pairs of a layer below"
            f" {layers} and a head below {heads}; download the file again"
        )
    return {"alignment_heads": from_array(np.array(pairs, np.int64))}


def _is_pair(value: Any, layers: int, heads: int) -> bool:
    if not isinstance(value, list) or len(value) != 2 or any(type(one) is not int for one in value):
        return False
    return bool(0 <= value[0] < layers and 0 <= value[1] < heads)
