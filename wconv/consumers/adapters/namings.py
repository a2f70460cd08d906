"""By what adapters are recognised: names of files, and what the names of their tensors have in them.

What each program calls the tensors of an adapter stands in that program's `consumer.py`, as a `Naming`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

FILES = re.compile(r"(adapter_model|(\d+_)?adapters)(-\d+-of-\d+)?\.(safetensors|bin)")
"""What PEFT and mlx-lm call an adapter's weights, whatever kind it is of."""

KINDS: Mapping[str, str] = {
    "lokr_": "is of a LoKr, a Kronecker product",
    "hada_": "is of a LoHa, a Hadamard product",
    "oft_": "is of an OFT, an orthogonal turn",
    "boft_": "is of an OFT, an orthogonal turn",
    "on_input": "is of an (IA)³",
    "ia3_l": "is of an (IA)³",
    "vera_": "is of a VeRA",
    "lora_E": "is of an AdaLoRA",
    "lora_mid": "is the core of a convolution in three parts",
    "prompt_embeddings": "is of a prompt tuning",
    "prompt_encoder": "is of a prompt tuning",
    "adaption_prompt": "is of an adaption prompt",
    "adaption_gate": "is of an adaption prompt",
    "trainable_tokens": "is of single tokens",
    "fourierft_spectrum": "is of a FourierFT",
    "vblora_": "is of a VB-LoRA",
    "randlora_": "is of a RandLoRA",
    "hra_u": "is of an HRA",
    "bone_block": "is of a Bone",
    "miss_block": "is of a MiSS",
    "shira_weight": "is of a SHiRA",
    "c3a_kernel": "is of a C3A",
    "road_theta": "is of a RoAd",
    "waveft_spectrum": "is of a WaveFT",
    "delora_": "is of a DeLoRA",
    "gralora_": "is of a GraLoRA",
    "internal_xlora": "is of an X-LoRA",
}
"""How a part of the name of an adapter's tensor begins that is no matrix of a LoRA, and what it is.

Facts: PEFT 0.21.2, `prefix` of the tuners; LyCORIS, `modules`.
"""

TOGETHER = frozenset({"prompt_encoder", "lora_mid", "on_input"})
"""Beginnings that models without adapters have, too."""

MARKS = ("lora", *(kind for kind in KINDS if kind not in TOGETHER))
"""What names of an adapter's tensors have in them, of one kind or another."""

METADATA = "lora_adapter_metadata"
"""Where diffusers keeps PEFT's settings in a file's header."""
