"""Names of tensors that several models of mlx-lm and mlx-vlm keep from a cast, or compute with at loading.

A consumer's conversion casts every floating parameter that its model's `cast_predicate` does not exclude,
after its `sanitize`. Names here are those of published checkpoints and those that sanitize makes of them.
"""

from __future__ import annotations

from wconv.consumers.cast_rules import Patterns

CORRECTION: Patterns = ("**e_score_correction_bias**",)
EXPERT: Patterns = ("**expert_bias**",)
ROUTER: Patterns = ("**router_bias**",)
DECAY: Patterns = ("**A_log",)
RECURRENT: Patterns = (*CORRECTION, "**A_log", "**dt_bias")
HYBRID: Patterns = (*CORRECTION, "**A_log**")
HYPER: Patterns = ("**.(attn|ffn)_hc.**", "**.hc_(attn|ffn)_(fn|base|scale)")
"""Hyper-connections; the second is what published checkpoints call them."""

GATES: Patterns = ("**_(alpha|beta)", "**_residual_gate.gate")
"""The second is what sanitize computes the first from."""

QWEN_NORMS: Patterns = (
    "**.(input_layernorm|post_attention_layernorm|q_norm|k_norm).weight",
    "**(model|model.language_model).norm.weight",
)
HEAD: Patterns = ("lm_head.weight",)
FALCON: Patterns = (
    "**(embed_tokens|lm_head|q_proj|k_proj|key_proj|o_proj|out_proj|gate_proj|down_proj|in_proj).weight",
)
MUSE: Patterns = (
    "**.(input|pre_feedforward|post_feedforward)_layernorm.weight",
    "**.mlp.(pre_expert_norm|experts.post_expert_norm).weight",
)
