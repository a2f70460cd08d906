"""The kinds of adapters: what PEFT's settings and the names of tensors tell of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from wconv.consumers.adapters.namings import KINDS

LORA = "LORA"
"""PEFT's word for the kind that can be applied."""

LONGEST = 4096
"""Signs of the longest name that can be an adapter's."""

REFUSED = (
    (re.compile(r"\.[ab][12]\.weight\Z"), "is of a GLoRA"),
    (re.compile(r"_lora_mid(\.weight)?\Z"), "is the core of a convolution in three parts"),
    (re.compile(r"[._]lora_(B|up)(\.\w+)?\.bias\Z"), "is a bias of its own"),
)
"""Further ends of names of what is no matrix of a LoRA, and what it is."""


def kind_of(config: Mapping[str, Any]) -> str | None:
    """The kind of adapter that an `adapter_config.json` describes: PEFT's word; None where it says none."""
    kind = config.get("peft_type")
    if kind is None and (config.get("fine_tune_type") or "lora_parameters" in config):
        return "full fine-tuning" if config.get("fine_tune_type") == "full" else LORA
    return None if kind is None else str(kind)[:40]


def other_kind(key: str) -> str | None:
    """What a tensor is that belongs to an adapter of another kind, or to none that is applied."""
    if len(key) > LONGEST:
        return None
    for part in key.split("."):
        for start, why in KINDS.items():
            if part.startswith(start):
                return why
    return next((why for expression, why in REFUSED if expression.search(key)), None)
