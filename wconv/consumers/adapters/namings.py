"""What adapters are called by those who write and read them, as a table.

| naming | who reads it | where the facts are |
|---|---|---|
| mflux | mflux | 0.24, `*_lora_mapping.py` and `lora_loader.py`: whole names, `.alpha` |
| diffusers | `pipeline.load_lora_weights` | 0.42.1, `loaders/lora_pipeline.py`, `utils/peft_utils.py` |
| peft | `PeftModel.from_pretrained` | 0.21.2, `utils/save_and_load.py`, `config.py` |
| kohya | sd-scripts, ComfyUI, diffusers | `networks/lora_flux.py`; `loaders/lora_conversion_utils.py` |
| comfyui | ComfyUI, diffusers | `comfy/lora.py`, `comfy/weight_adapter/lora.py` |
| bfl | Black Forest Labs' own programs | flux, `modules/lora.py` |

Alpha: kohya's scripts write one for each module, and diffusers and ComfyUI take it from there. diffusers' own
files keep PEFT's settings in the header, under `lora_adapter_metadata`; an `.alpha` beside its own names is
heeded for FLUX.1 and spoils the names of others. In ComfyUI's names it stands only where the scale is not 1:
diffusers refuses it for FLUX.2 (it raises). Black Forest Labs' programs know no alpha: the scale goes into
the matrix.

ComfyUI takes `lora_down`, `lora_up` and `lora_A`, `lora_B` alike. diffusers takes, after `diffusion_model.`,
the former for FLUX.1 only and the latter for the others only, and of Z-Image there diffusers' modules only.
T5's adapter is `lora_te3_` in FLUX.1 too. Of FLUX.1's modules outside the blocks (`img_in`, `final_layer`, …)
diffusers reads none by kohya's names; ComfyUI does.
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
