"""ComfyUI as a consumer: it loads adapters by its own names.

Facts: `comfy/lora.py`, `comfy/weight_adapter/lora.py`. It takes `lora_down`, `lora_up` and `lora_A`, `lora_B`
alike. diffusers takes, after `diffusion_model.`, the former for FLUX.1 only and the latter for the others
only, and of Z-Image there diffusers' modules only. An alpha stands only where the scale is not 1: diffusers
refuses it for FLUX.2 (it raises).
"""

from __future__ import annotations

from dataclasses import replace

from wconv.consumers.adapters.naming import Keys, Naming
from wconv.consumers.consumer import Consumer
from wconv.consumers.kohya.consumer import KEYS as KOHYA_KEYS

NAMING = Naming(
    "ComfyUI",
    "original",
    Keys(magnitude=".dora_scale", diff=".diff", diff_b=".diff_b", column=True),
    {
        "main": "diffusion_model.",
        "clip_l": "text_encoders.clip_l.transformer.",
        "t5xxl": "text_encoders.t5xxl.transformer.",
    },
    "scaled",
    families=("flux", "qwen", "flux2", "z_image"),
)

COMFYUI = Consumer(
    "comfyui",
    "comfyui",
    "adapters",
    output_suffix="comfyui",
    format="pt",
    adapter_naming=NAMING,
    adapter_namings={
        "flux": replace(NAMING, keys=KOHYA_KEYS),
        "z_image": replace(NAMING, modules="diffusers"),
    },
)
