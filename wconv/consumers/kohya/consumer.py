"""kohya's scripts as a consumer: sd-scripts train adapters, which ComfyUI and diffusers read too.

Facts: sd-scripts, `networks/lora_flux.py`; diffusers, `loaders/lora_conversion_utils.py`. The scripts write
an alpha for each module, and diffusers and ComfyUI take it from there. T5's adapter is `lora_te3_` in FLUX.1
too. Of FLUX.1's modules outside the blocks (`img_in`, `final_layer`, …) diffusers reads none by kohya's
names; ComfyUI does.
"""

from __future__ import annotations

from wconv.consumers.adapters.naming import Keys, Naming
from wconv.consumers.consumer import Consumer

KEYS = Keys(".lora_down.weight", ".lora_up.weight", ".dora_scale", ".diff", ".diff_b", column=True)

KOHYA = Consumer(
    "kohya",
    "kohya",
    "adapters",
    output_suffix="kohya",
    format="pt",
    adapter_naming=Naming(
        "kohya's scripts",
        "original",
        KEYS,
        {"main": "lora_unet_", "clip": "lora_te_", "clip_l": "lora_te1_", "t5xxl": "lora_te3_"},
        "always",
        flat=True,
    ),
)
