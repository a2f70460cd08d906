"""mlx-lm's layouts of Llama, Mistral and Mixtral as their makers publish them: `consolidated` files."""

from __future__ import annotations

from wconv.consumers.mlx_lm.common import BLOCK, BOTH, COMMAND
from wconv.consumers.mlx_lm.mixtures import W123
from wconv.layouts.apply import Layout
from wconv.layouts.computed.rotary import rotary
from wconv.layouts.conditions import setting
from wconv.layouts.rules import drop, rename, reshape, stack, transpose

HEADS, KV_HEADS = setting("n_heads"), setting("n_kv_heads|n_heads")
EXPERTS = setting("moe.num_experts")
MOE = "model.layers.#.block_sparse_moe"

COMMON = (
    drop("**rope.freqs", "recomputed by the consumer"),
    rotary("layers.#.attention.wq.weight", HEADS),
    rotary("layers.#.attention.wk.weight", KV_HEADS),
    rename("(tok_embeddings|output).weight", "(model.embed_tokens|lm_head).weight"),
    rename("norm.weight", "model.norm.weight"),
    rename("layers.#.attention.(wq|wk|wv|wo).weight", "model.layers.#.self_attn.(q|k|v|o)_proj.weight"),
    rename(
        "layers.#.(attention_norm|ffn_norm).weight",
        "model.layers.#.(input_layernorm|post_attention_layernorm).weight",
    ),
)

LLAMA = Layout(
    BOTH,
    ("llama_consolidated",),
    BLOCK,
    (
        *COMMON,
        rename(
            "layers.#.feed_forward.(w1|w2|w3).weight",
            "model.layers.#.mlp.(gate_proj|down_proj|up_proj).weight",
        ),
    ),
    recognised_by=(
        "tok_embeddings.weight",
        "layers.0.attention.wq.weight",
        "layers.0.feed_forward.w1.weight",
    ),
    command=COMMAND,
    config="llama",
)

EXPERTS_APART = Layout(
    BOTH,
    ("mixtral_consolidated",),
    W123,
    (
        *COMMON,
        rename("layers.#.feed_forward.gate.weight", f"{MOE}.gate.weight"),
        stack(
            "layers.#.feed_forward.experts.{e}.(w1|w2|w3).weight",
            f"{MOE}.switch_mlp.(gate_proj|down_proj|up_proj).weight",
            count=EXPERTS,
        ),
    ),
    recognised_by=(
        "tok_embeddings.weight",
        "layers.0.attention.wq.weight",
        "layers.0.feed_forward.experts.0.w1.weight",
    ),
    command=COMMAND,
    config="mixtral",
)

EXPERTS_FUSED = Layout(
    BOTH,
    ("mixtral_consolidated_fused",),
    W123,
    (
        *COMMON,
        rename("layers.#.block_sparse_moe.gate.weight", f"{MOE}.gate.weight"),
        reshape(
            "layers.#.block_sparse_moe.(w1|w2|w3)",
            (EXPERTS, -1, setting("dim")),
            back=(-1, setting("dim")),
        ),
        transpose("layers.#.block_sparse_moe.w2", "swap_last"),
        rename(
            "layers.#.block_sparse_moe.(w1|w2|w3)",
            f"{MOE}.switch_mlp.(gate_proj|down_proj|up_proj).weight",
        ),
    ),
    recognised_by=("tok_embeddings.weight", "layers.0.attention.wq.weight", "layers.0.block_sparse_moe.w1"),
    command=COMMAND,
    config="mixtral",
)

LAYOUTS = (LLAMA, EXPERTS_APART, EXPERTS_FUSED)
