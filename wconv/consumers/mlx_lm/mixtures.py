"""mlx-lm's layouts of mixtures of experts: each layer's experts become one tensor."""

from __future__ import annotations

from wconv.consumers.mlx_lm.common import ALONE, BLOCK, BOTH, COMMAND, FP8, ROTARY, head, qk_norm
from wconv.layouts.apply import Layout
from wconv.layouts.computed.scaled import dequantized_of_padded
from wconv.layouts.conditions import When, setting
from wconv.layouts.reverse_rules import unstack
from wconv.layouts.rules import (
    Rule,
    add_one,
    compute,
    drop,
    keep_dtype,
    rename,
    reshape,
    split,
    stack,
    transpose,
    view_flat,
)

EXPERT_COUNT = setting("num_experts|num_local_experts|n_routed_experts")
LAYERS = setting("num_hidden_layers")

STACK = stack(
    "model.layers.#.mlp.experts.{e}.(gate|up|down)_proj.(weight|scales|biases)",
    "model.layers.#.mlp.switch_mlp.(gate|up|down)_proj.(weight|scales|biases)",
    count=EXPERT_COUNT,
)
STACK_W123 = stack(
    "model.layers.#.block_sparse_moe.experts.{e}.(w1|w2|w3).(weight|scales|biases)",
    "model.layers.#.block_sparse_moe.switch_mlp.(gate_proj|down_proj|up_proj).(weight|scales|biases)",
    count=EXPERT_COUNT,
)


def single_experts(experts: str, words: tuple[str, str, str]) -> tuple[Rule, ...]:
    """Each expert by itself, as the hub has them, where transformers 5 saved all of a layer as it holds them.

    Gate and up are one tensor then: (experts, twice the outputs, inputs).
    """
    gate, up, down = words
    each = "|".join(words)
    return (
        split(f"{experts}.gate_up_proj", (f"{experts}.{gate}", f"{experts}.{up}"), -2),
        rename(f"{experts}.down_proj", f"{experts}.{down}"),
        unstack(f"{experts}.({each})", f"{experts}.{{e}}.({each}).weight", count=EXPERT_COUNT),
    )


FUSED = single_experts("model.layers.#.mlp.experts", ("gate_proj", "up_proj", "down_proj"))
SPARSE = "model.layers.#.block_sparse_moe"
FUSED_W123 = (
    rename("model.layers.#.mlp.(router|gate).weight", f"{SPARSE}.(gate|gate).weight"),
    rename("model.layers.#.mlp.e_score_correction_bias", f"{SPARSE}.e_score_correction_bias"),
    rename("model.layers.#.mlp.experts.(gate_up|down)_proj", f"{SPARSE}.experts.(gate_up|down)_proj"),
    *single_experts(f"{SPARSE}.experts", ("w1", "w3", "w2")),
)
CORRECTION = keep_dtype("**e_score_correction_bias**")
PREDICTION = drop("model.layers.#.**", "predicts further tokens, which mlx-lm does not use", beyond=LAYERS)

ROUTED = (
    *BLOCK,
    "model.layers.#.mlp.gate.(weight|bias|e_score_correction_bias)",
    "model.layers.#.mlp.switch_mlp.(gate|up|down)_proj.weight",
    "model.layers.#.mlp.(shared_expert|shared_experts).(gate|up|down)_proj.weight",
    "model.layers.#.mlp.shared_expert_gate.weight",
)
W123 = (
    *BLOCK,
    "model.layers.#.block_sparse_moe.gate.weight",
    "model.layers.#.block_sparse_moe.switch_mlp.(gate|up|down)_proj.weight",
)

KV_B: tuple[Rule, ...] = (
    reshape(
        "model.layers.#.self_attn.kv_b_proj.weight",
        (setting("num_attention_heads"), -1, setting("kv_lora_rank")),
        back=(-1, setting("kv_lora_rank")),
    ),
    split(
        "model.layers.#.self_attn.kv_b_proj.weight",
        ("model.layers.#.self_attn.embed_q.weight", "model.layers.#.self_attn.unembed_out.weight"),
        1,
        sizes=(setting("qk_nope_head_dim"), setting("v_head_dim")),
    ),
    transpose("model.layers.#.self_attn.embed_q.weight", "swap_last"),
)
"""Multi-head latent attention keeps the two halves of `kv_b_proj` apart, one of them transposed."""

LATENT = (
    *ROUTED,
    "model.layers.#.self_attn.(q_a|q_b)_proj.(weight|bias)",
    "model.layers.#.self_attn.(q_a|kv_a)_layernorm.weight",
    "model.layers.#.self_attn.kv_a_proj_with_mqa.(weight|bias)",
)
EXPERTS_IN_4_BITS = "model.layers.#.mlp.experts.#.(gate|up|down)_proj.weight_(packed|scale|shape)"
"""Kimi K2's, which mlx-lm takes as published and stacks itself."""

LATENT_SPLIT = (*LATENT, EXPERTS_IN_4_BITS, "model.layers.#.self_attn.(embed_q|unembed_out).weight")
INDEXER = (
    "model.layers.#.self_attn.indexer.(wq_b|wk|weights_proj).weight",
    "model.layers.#.self_attn.indexer.k_norm.(weight|bias)",
)

QWEN3_NEXT_NORMS = (
    add_one("model.layers.#.(input|post_attention)_layernorm.weight"),
    add_one("model.layers.#.self_attn.(q|k)_norm.weight"),
    add_one("model.norm.weight"),
)

IN_16_BITS = When(setting("quantization_config.quant_method", "none"), "mxfp4", negated=True)

GPT_OSS: tuple[Rule, ...] = (
    view_flat("model.layers.#.mlp.experts.(gate_up|down)_proj_blocks", "uint32", back=("uint8", 16)),
    split(
        "model.layers.#.mlp.experts.gate_up_proj_(blocks|scales)",
        (
            "model.layers.#.mlp.experts.gate_proj.(weight|scales)",
            "model.layers.#.mlp.experts.up_proj.(weight|scales)",
        ),
        -2,
        interleaved=True,
    ),
    split(
        "model.layers.#.mlp.experts.gate_up_proj_bias",
        ("model.layers.#.mlp.experts.gate_proj.bias", "model.layers.#.mlp.experts.up_proj.bias"),
        -1,
        interleaved=True,
    ),
    rename(
        "model.layers.#.mlp.experts.down_proj_(blocks|scales|bias)",
        "model.layers.#.mlp.experts.down_proj.(weight|scales|bias)",
    ),
    # The same model in 16 bits, as transformers holds it: inputs before outputs.
    transpose("model.layers.#.mlp.experts.(gate_up_proj|down_proj)", "swap_last", when=IN_16_BITS),
    split(
        "model.layers.#.mlp.experts.gate_up_proj",
        ("model.layers.#.mlp.experts.gate_proj.weight", "model.layers.#.mlp.experts.up_proj.weight"),
        -2,
        interleaved=True,
        when=IN_16_BITS,
    ),
    rename(
        "model.layers.#.mlp.experts.down_proj",
        "model.layers.#.mlp.experts.down_proj.weight",
        when=IN_16_BITS,
    ),
)


def mixture(
    *model_types: str,
    rules: tuple[Rule, ...],
    names: tuple[str, ...] = ROUTED,
    consumers: tuple[str, ...] = BOTH,
    fp8: Rule = FP8,
) -> Layout:
    """A model with routed experts."""
    fused = FUSED if STACK in rules else FUSED_W123 if STACK_W123 in rules else ()
    return Layout(consumers, model_types, names, (ROTARY, fp8, *rules), fused, command=COMMAND)


LAYOUTS = (
    mixture("qwen2_moe", rules=(head(False), STACK)),
    mixture("olmoe", rules=(head(True), STACK), names=(*ROUTED, *qk_norm())),
    mixture("qwen3_moe", rules=(head(False), STACK), names=(*ROUTED, *qk_norm())),
    mixture("mixtral", rules=(head(False), STACK_W123), names=W123),
    mixture("phimoe", rules=(STACK_W123,), names=W123, consumers=ALONE),
    mixture(
        "qwen3_next",
        consumers=ALONE,
        rules=(
            drop("mtp.**", "predicts further tokens, which mlx-lm does not use"),
            head(False),
            STACK,
            transpose("model.layers.#.linear_attn.conv1d.weight", "conv1d", last=1),
            *QWEN3_NEXT_NORMS,
        ),
        names=(
            *ROUTED,
            *qk_norm(),
            "model.layers.#.linear_attn.(A_log|dt_bias)",
            "model.layers.#.linear_attn.(conv1d|in_proj_ba|in_proj_qkvz|norm|out_proj).(weight|bias)",
        ),
    ),
    mixture("deepseek_v2", rules=(STACK,), names=(*LATENT, "model.layers.#.self_attn.kv_b_proj.weight")),
    mixture(
        "deepseek_v3",
        "kimi_k2",
        "joyai_llm_flash",
        rules=(PREDICTION, STACK, *KV_B, CORRECTION),
        names=LATENT_SPLIT,
    ),
    mixture(
        "deepseek_v32",
        rules=(PREDICTION, STACK, *KV_B, CORRECTION),
        names=(*LATENT_SPLIT, *INDEXER),
    ),
    mixture(
        "minimax",
        "minimax_m2",
        rules=(head(False), STACK_W123, CORRECTION),
        names=(*W123, *qk_norm(), "model.layers.#.block_sparse_moe.e_score_correction_bias"),
    ),
    mixture(
        "mimo_v2_flash",
        rules=(
            drop("model.mtp**", "predicts further tokens, which mlx-lm does not use"),
            STACK,
            CORRECTION,
        ),
        names=(*ROUTED, "model.layers.#.self_attn.attention_sink_bias"),
        fp8=compute(
            "**.weight", "**.weight_scale_inv", "dequantized, of padded blocks", dequantized_of_padded
        ),
    ),
    mixture("glm4_moe", rules=(PREDICTION, STACK, CORRECTION), names=(*ROUTED, *qk_norm())),
    mixture("glm4_moe_lite", rules=(PREDICTION, STACK, *KV_B, CORRECTION), names=LATENT_SPLIT),
    mixture(
        "gpt_oss",
        rules=GPT_OSS,
        names=(
            *BLOCK,
            "model.layers.#.self_attn.sinks",
            "model.layers.#.mlp.router.(weight|bias)",
            "model.layers.#.mlp.experts.(gate|up|down)_proj.(weight|bias|scales)",
        ),
    ),
)
