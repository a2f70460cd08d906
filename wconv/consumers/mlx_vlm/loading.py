"""Loads a model with mlx-vlm itself, without its processor; its language model computes some logits."""

from __future__ import annotations

import json
from pathlib import Path

from wconv.consumers.mlx.loading import LoadedModel, examined, tokens


def load(path: Path) -> LoadedModel:
    """The model as `mlx_vlm.load` makes it. Raises whatever mlx-vlm does."""
    import mlx.core as mx
    from mlx_vlm.utils import load_model

    model = load_model(path)
    given = mx.array([tokens(json.loads((path / "config.json").read_bytes()))])
    output = getattr(model, "language_model", model)(given)
    return examined(model, getattr(output, "logits", output))
