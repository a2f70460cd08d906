"""Loads a model with mlx-lm itself, without its tokenizer, and has it compute the logits of a few tokens."""

from __future__ import annotations

from pathlib import Path

from wconv.consumers.mlx.loading import LoadedModel, examined, tokens


def load(path: Path) -> LoadedModel:
    """The model as `mlx_lm.load` makes it. Raises whatever mlx-lm does."""
    import mlx.core as mx
    from mlx_lm.utils import load_model

    model, config = load_model(path)
    return examined(model, model(mx.array([tokens(config)])))
