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
from dataclasses import dataclass, replace
from typing import Literal

Modules = Literal["diffusers", "original", "mflux"]
Alpha = Literal["always", "scaled", "metadata", "config", "none"]

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


@dataclass(frozen=True, slots=True)
class Keys:
    """What follows a module's name; "" for what cannot be said."""

    down: str = ".lora_A.weight"
    up: str = ".lora_B.weight"
    magnitude: str = ""
    diff: str = ""
    diff_b: str = ""
    column: bool = False
    """Whether magnitudes are a matrix of one column."""


KOHYA = Keys(".lora_down.weight", ".lora_up.weight", ".dora_scale", ".diff", ".diff_b", column=True)
PEFT = Keys(magnitude=".lora_magnitude_vector")
COMFYUI = Keys(magnitude=".dora_scale", diff=".diff", diff_b=".diff_b", column=True)


@dataclass(frozen=True, slots=True)
class Naming:
    """How the tensors of an adapter are called.

    Attributes:
        whom: the program, for messages.
        modules: whose names of modules.
        prefixes: "main" or a kind of text encoder → what comes first, `{}` for the component's name; a kind
            that is not there cannot be said.
        linear: whether the program adapts matrices alone.
        flat: whether dots within a module's name become underscores.
        alpha: a tensor for each module, the same where the scale is not 1, settings in the header or in a
            file beside it, or nothing.
        filename: of an adapter in a directory.
        command: loads the result; `{model}` stands for its path.
    """

    whom: str
    modules: Modules
    keys: Keys
    prefixes: Mapping[str, str]
    alpha: Alpha
    linear: bool = False
    flat: bool = False
    filename: str = "adapter.safetensors"
    command: str = ""


NAMINGS: Mapping[str, Naming] = {
    "mflux": Naming(
        "mflux",
        "mflux",
        Keys(".lora_down.weight", ".lora_up.weight"),
        {"main": ""},
        "scaled",
        linear=True,
        command="mflux-generate --lora-paths {model} --prompt 'A cat'",
    ),
    "diffusers": Naming(
        "diffusers",
        "diffusers",
        PEFT,
        dict.fromkeys(("main", "clip", "clip_l", "t5xxl"), "{}."),
        "metadata",
        filename="pytorch_lora_weights.safetensors",
        command="pipeline.load_lora_weights('{model}')",
    ),
    "peft": Naming(
        "PEFT",
        "diffusers",
        PEFT,
        {"main": "base_model.model."},
        "config",
        filename="adapter_model.safetensors",
        command="peft.PeftModel.from_pretrained(MODEL, '{model}')",
    ),
    "kohya": Naming(
        "kohya's scripts",
        "original",
        KOHYA,
        {"main": "lora_unet_", "clip": "lora_te_", "clip_l": "lora_te1_", "t5xxl": "lora_te3_"},
        "always",
        flat=True,
    ),
    "comfyui": Naming(
        "ComfyUI",
        "original",
        COMFYUI,
        {
            "main": "diffusion_model.",
            "clip_l": "text_encoders.clip_l.transformer.",
            "t5xxl": "text_encoders.t5xxl.transformer.",
        },
        "scaled",
    ),
    "bfl": Naming("Black Forest Labs' programs", "original", Keys(), {"main": ""}, "none", linear=True),
}


def _by(program: str) -> Naming:
    """mflux has a program for each family."""
    return replace(NAMINGS["mflux"], command=f"{program} --lora-paths {{model}} --prompt 'A cat'")


SPECIAL: Mapping[tuple[str, str], Naming] = {
    ("mflux", "flux2"): _by("mflux-generate-flux2"),
    ("mflux", "qwen"): _by("mflux-generate-qwen"),
    ("mflux", "z_image"): replace(
        _by("mflux-generate-z-image"), keys=Keys(), prefixes={"main": "transformer."}
    ),
    ("comfyui", "flux"): replace(NAMINGS["comfyui"], keys=KOHYA),
    ("comfyui", "z_image"): replace(NAMINGS["comfyui"], modules="diffusers"),
}
"""Naming and family → where a program calls that model's adapters otherwise."""

COMMANDS = frozenset(one.command for one in (*NAMINGS.values(), *SPECIAL.values()) if one.command)
"""What loads an adapter, be it a file or a directory."""


def naming_of(name: str, family: str) -> Naming:
    """The naming as it is for the models of a family."""
    return SPECIAL.get((name, family), NAMINGS[name])
