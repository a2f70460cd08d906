"""Configs of real models made tiny: the same fields, with small numbers that differ from each other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

Config = dict[str, Any]

LAYERS = 4
"""Enough for a layer of each kind in models that mix them."""

NUMBERS: tuple[tuple[str, int], ...] = (
    (r"(.*_)?vocab(ulary)?_size(_.*)?|n_vocab|padded_vocab_size|num_embeddings|embedding_size", 272),
    (r"(.*_)?num_(hidden_)?layers|n_layers?|num_blocks|depth|num_dense_decoder_layers", LAYERS),
    (r"(.*_)?(encoder|decoder)_(hidden_)?layers|num_(encoder|decoder|transformer)_layers", LAYERS),
    (r"(num_experts|num_local_experts|n_routed_experts|moe_num_experts|n_experts|expert_num)", 6),
    (r"num_experts_per_(tok|token)|moe_(k|topk|top_k)|moe_router_topk|top_k_experts|num_experts_per_topk", 2),
    (r"(n|num)_shared_experts?|moe_num_shared_experts", 1),
    (r"(n|num)_(expert_)?groups?|topk_group|topk_groups|n_limited_groups", 1),
    (
        r"moe_(intermediate|ffn_hidden)_size|expert_ffn_(hidden_)?size|moe_ffn_hidden_size|ffn_hidden_size_expert",
        40,
    ),
    (r"(moe_)?shared_(expert_)?intermediate_size", 56),
    (r"first_k_dense_replace|num_dense_layers|moe_layer_start_index|n_dense_layers|first_last_k_dense", 1),
    (r"(.*_)?q_lora_rank", 24),
    (r"(.*_)?kv_lora_rank", 20),
    (r"qk_nope_head_dim", 16),
    (r"qk_rope_head_dim", 8),
    (r"qk_head_dim", 24),
    (r"v_head_dim", 12),
    (r"index_n_heads", 2),
    (r"index_head_dim", 16),
    (r"index_topk", 4),
    (
        r"(.*_)?num_(key_value|kv)_heads|(.*_)?num_key_value_heads(_.*)?|n_kv_heads|num_kv_heads|num_query_groups",
        2,
    ),
    (r"linear_num_key_heads", 2),
    (r"linear_num_value_heads", 4),
    (r"linear_(key|value)_head_dim", 16),
    (r"mamba_(n_heads|num_heads)|ssm_n_heads", 8),
    (r"mamba_(d_head|head_dim)", 16),
    (r"mamba_d_ssm", 128),
    (
        r"(.*_)?num_(attention_)?heads|n_heads?|num_attention_heads|num_heads|(encoder|decoder)_attention_heads",
        4,
    ),
    (
        r"(.*_)?(attention_)?head_dim|head_size|kv_channels|d_kv|d_head|global_head_dim|attention_head_size",
        16,
    ),
    (
        r"(.*_)?(intermediate|ffn_hidden|inner|ffn|mlp)_(size|dim)|n_inner|ffn_dim|d_ff|intermediate_dim|mlp_hidden_size",
        256,
    ),
    (r"(encoder|decoder)_ffn_dim|dim_feedforward|feed_forward_hidden_size|block_ff_dim|ffn_hidden_size", 256),
    (r"hidden_size_per_layer_input", 16),
    (
        r"(.*_)?(hidden_size|hidden_dim|d_model|n_embd|embed_dim|model_dim|dim|d_embed|lru_width|width|embed_size)",
        64,
    ),
    (r"(mamba_d|ssm|mamba|d)_?state(_size|_dim)?|state_size|mamba_d_state", 16),
    (r"mamba_n_groups|n_groups", 1),
    (r"time_step_rank|mamba_dt_rank|dt_rank", 4),
    (
        r"(max_)?(position_embeddings|n_positions|max_position_embeddings|max_sequence_length|n_positions|n_ctx)",
        128,
    ),
    (r"max_(source|target)_positions|model_max_length|max_seq_len(gth)?|seq_length", 128),
    (r"image_size|img_size|input_resolution|image_resolution|crop_size|max_image_size", 56),
    (r"patch_size", 14),
    (r"num_mel_bins|n_mels|input_feat_size|num_mel_filters", 16),
    (r"num_nextn_predict_layers|num_mtp_layers|mtp_num_hidden_layers|num_hash_layers", 0),
)
"""By the field's name, the first that fits: what it becomes."""

KEPT = re.compile(
    r".*conv.*(width|dim|kernel).*|.*token_id|.*_token_index|.*token|sliding_window.*|rope_theta|pad_.*|.*_idx|rms_norm_eps|model_type|.*_eps"
)
LENGTHS = re.compile(r"(num_hidden_layers|num_layers|n_layers?|depth)")


def shrunk(config: Mapping[str, Any], changes: Mapping[str, int] | None = None, part: str = "") -> Config:
    """The config with every size small; lists that have a member for each layer are cut to as many.

    Args:
        changes: other numbers for some fields, to tell fields from literal numbers.
        part: which part of a larger config this is.
    """
    changes = changes or {}
    layers = {value for key, value in config.items() if LENGTHS.fullmatch(key) and isinstance(value, int)}
    result: Config = {}
    for key, value in config.items():
        result[key] = _small(key, value, layers, changes, part)
    return result


def _small(key: str, value: Any, layers: set[int], changes: Mapping[str, int], part: str) -> Any:
    if isinstance(value, Mapping):
        return (
            shrunk(value, changes, key)
            if key.endswith(("config", "cfg")) or "hidden_size" in value
            else dict(value)
        )
    if isinstance(value, list | tuple):
        return _cut(key, list(value), layers, changes, part)
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    if key.endswith(("token_id", "token_index", "_token")):
        return min(value, 200 + value % 50)
    if KEPT.fullmatch(key):
        return value
    number = changes.get(key, number_for(key))
    return value if number is None else (number if value > 0 or key in changes else value)


def number_for(key: str) -> int | None:
    """What a field of this name becomes; None for one that is not a size."""
    return next((number for pattern, number in NUMBERS if re.fullmatch(pattern, key)), None)


def _cut(key: str, value: list[Any], layers: set[int], changes: Mapping[str, int], part: str) -> Any:
    if len(value) in layers or (
        len(value) > LAYERS and key.endswith(("types", "_type", "layers", "pattern"))
    ):
        if all(isinstance(one, str | bool) or (isinstance(one, int) and one < 2) for one in value):
            return _representative(value)
        return [_small(key, one, layers, changes, part) for one in value[:LAYERS]]
    if value and all(isinstance(one, Mapping) for one in value):
        return [shrunk(one, changes, key) for one in value[:LAYERS]]
    numbers = value and all(type(one) is int for one in value)
    if numbers and key.endswith(("indexes", "indices", "idxs", "layers", "layer_ids", "_layer_idx")):
        return sorted({min(one, LAYERS - 1) for one in value if one >= 0}) or value[:1]
    return value


def _representative(value: list[Any]) -> list[Any]:
    """As many members as there are layers, each kind among them."""
    kinds = list(dict.fromkeys(value))
    first = value[:LAYERS]
    if set(kinds) == set(first) or len(kinds) > LAYERS:
        return first
    return [*first[: LAYERS - len(kinds)], *kinds]
