"""Which fields of config.json say how large a language model is, and of which tensors they say it."""

from __future__ import annotations

import re

PARTS = ("text_config", "llm_config")
"""Where a config of several parts keeps the language model's fields."""

ROOT_FIRST = ("qwen2_vl", "qwen2_5_vl")
"""Model types whose consumers take the language model's fields from the root."""

LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
VOCABULARY = ("vocab_size",)
HIDDEN = ("hidden_size", "n_embd", "d_model")
TIED = "tie_word_embeddings"

PREFIX = r"(?:(?:model|language_model|transformer|backbone|gpt_neox|text_model)\.){0,3}"
"""Where a language model may lie in the whole; encoders lie elsewhere."""

LAYER = re.compile(PREFIX + r"(?:layers|h)\.(?P<number>\d{1,6})\.")
EMBEDDING = re.compile(PREFIX + r"(?:embed_tokens|wte|embed_in|tok_embeddings|embeddings)\.weight")
HEAD = re.compile(PREFIX + r"(?:lm_head|embed_out|output)\.weight")
NORM = re.compile(PREFIX + r"(?:norm|ln_f|final_layernorm|final_layer_norm|norm_f)\.weight")

EXTRA_ROWS = {"mllama": 8}
"""Rows that an embedding has beyond the vocabulary, by model type."""

SKIPPED = ("block_configs", "layer_sharing", "hybrid_override_pattern", "num_kv_reuse_layers")
"""Fields that tell of layers that have no tensors at all."""

SOMETIMES = (*SKIPPED, "num_kv_shared_layers", "cla_share_factor")
"""Fields that tell of layers that lack what others have."""
