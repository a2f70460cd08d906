"""How the tensors of models are cut whose checkpoints have a file for each rank of a parallel run."""

from __future__ import annotations

PIECES: tuple[tuple[str, str], ...] = (
    (r"output\.(weight|bias)", "columns"),
    (r"layers\.\d+\.attention\.w[qkv]\.(weight|bias)", "columns"),
    (r"layers\.\d+\.attention\.wo\.weight", "rows"),
    (r"layers\.\d+\.feed_forward\.w[13]\.weight", "columns"),
    (r"layers\.\d+\.feed_forward\.w2\.weight", "rows"),
    (r"tok_embeddings\.weight", "embedding"),
    (r"norm\.weight", "features"),
    (r"layers\.\d+\.(attention_norm|ffn_norm|norm)\.weight|(attention_norm|ffn_norm)\.weight", "whole"),
    (r"(layers\.\d+\.attention\.inner_attention\.)?rope\.freqs", "whole"),
)
"""Names of Llama's own checkpoints, and how such a tensor is cut (`model.py` of meta-llama's repositories):
what `wconv.checkpoints.open` is given as `pieces`. A name is a regular expression; the first match counts."""
