"""Loads a Whisper with mlx-whisper itself; of silence and a few tokens it computes the logits."""

from __future__ import annotations

from pathlib import Path

from wconv.consumers.mlx.loading import TOKENS, LoadedModel, examined


def load(path: Path) -> LoadedModel:
    """The model as `mlx_whisper` makes it. Raises whatever mlx-whisper does."""
    import mlx.core as mx
    from mlx_whisper.load_models import load_model

    model = load_model(str(path))
    dims = model.dims
    sound = mx.zeros((1, 2 * dims.n_audio_ctx, dims.n_mels))
    words = mx.array([[token % dims.n_vocab for token in TOKENS]])
    return examined(model, model(sound, words))
