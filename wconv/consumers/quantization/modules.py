"""What the consumers' models are built of: which modules have a quantized form."""

from __future__ import annotations

STACKS = frozenset(
    (
        "gate_proj",
        "up_proj",
        "down_proj",
        "gate_up_proj",
        "fc1",
        "fc2",
        "linear_fc1",
        "linear_fc2",
        "lora_fc1",
        "lora_fc2",
        "embed_q",
        "unembed_out",
        "o_a_proj",
        "wo_a",
    )
)
"""Modules whose weight of three dimensions is a stack of matrices; other such weights are convolutions'."""
