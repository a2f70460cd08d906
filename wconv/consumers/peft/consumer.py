"""PEFT as a consumer: `PeftModel.from_pretrained` loads adapters.

Facts: PEFT 0.21.2, `utils/save_and_load.py`, `config.py`.
"""

from __future__ import annotations

from wconv.consumers.adapters.naming import Keys, Naming
from wconv.consumers.consumer import Consumer

KEYS = Keys(magnitude=".lora_magnitude_vector")

NAMING = Naming(
    "PEFT",
    "diffusers",
    KEYS,
    {"main": "base_model.model."},
    "config",
    filename="adapter_model.safetensors",
    command="peft.PeftModel.from_pretrained(MODEL, '{model}')",
)

PEFT = Consumer(
    "peft",
    "peft",
    "adapters",
    output_suffix="peft",
    format="pt",
    adapter_naming=NAMING,
)
