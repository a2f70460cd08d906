"""The modules that mflux applies adapters to, by family, and how others call them.

mflux matches whole names. `module.lora_up.weight`, without a prefix, is read for FLUX.1, FLUX.2 and
Qwen-Image, `transformer.module.lora_B.weight` for Z-Image. Facts: mflux 0.24, `*_lora_mapping.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from wconv.layouts import black_forest_labs as bfl
from wconv.layouts.rules import Rule, rename, split

BLOCK, SINGLE = "transformer_blocks.#", "single_transformer_blocks.#"
LAYERS = "(noise_refiner|context_refiner|layers).#"
ADDED = "add_q_proj|add_k_proj|add_v_proj|to_add_out"


@dataclass(frozen=True, slots=True)
class Spelling:
    """How the keys of one module are written; `{}` stands for its name."""

    down: str = "{}.lora_down.weight"
    up: str = "{}.lora_up.weight"
    alpha: str = "{}.alpha"


@dataclass(frozen=True, slots=True)
class Family:
    """Models whose adapters are called alike.

    Attributes:
        modules: patterns of the modules that mflux applies an adapter to, each with `.weight`.
        rules: bring the names of other programs to these.
        ratios: pattern of a module, as others call it → rows for each column; tells the families apart.
    """

    name: str
    modules: tuple[str, ...]
    rules: tuple[Rule, ...] = ()
    ratios: Mapping[str, Fraction] = field(default_factory=dict)
    spelling: Spelling = Spelling()


def _ratios(first: int, second: int, wide: int, narrow: int) -> dict[str, Fraction]:
    return {
        "double_blocks.#.(img|txt)_mlp.0.weight": Fraction(first),
        "double_blocks.#.(img|txt)_mlp.2.weight": Fraction(1, second),
        "single_blocks.#.linear1.weight": Fraction(wide),
        "single_blocks.#.linear2.weight": Fraction(1, narrow),
    }


FLUX = Family(
    "flux",
    (
        f"{BLOCK}.attn.(to_q|to_k|to_v|to_out.0|{ADDED}).weight",
        f"{BLOCK}.(ff|ff_context).(net.0.proj|net.2).weight",
        f"{BLOCK}.(norm1|norm1_context).linear.weight",
        f"{SINGLE}.(attn.to_q|attn.to_k|attn.to_v|proj_mlp|proj_out|norm.linear).weight",
    ),
    bfl.FLUX_RULES,
    _ratios(4, 4, 7, 5),
)

FLUX2 = Family(
    "flux2",
    (
        "(x_embedder|context_embedder|norm_out.linear|proj_out).weight",
        "time_guidance_embed.(linear_1|linear_2|guidance_linear_1|guidance_linear_2).weight",
        "(double_stream_modulation_img|double_stream_modulation_txt|single_stream_modulation).linear.weight",
        f"{BLOCK}.attn.(to_q|to_k|to_v|to_out|{ADDED}).weight",
        f"{BLOCK}.(ff|ff_context).(linear_in|linear_out).weight",
        f"{SINGLE}.attn.(to_qkv_mlp_proj|to_out).weight",
    ),
    (
        *bfl.FLUX2_RULES,
        rename(
            "time_guidance_embed.timestep_embedder.(linear_1|linear_2).weight",
            "time_guidance_embed.(linear_1|linear_2).weight",
        ),
        rename(
            "time_guidance_embed.guidance_embedder.(linear_1|linear_2).weight",
            "time_guidance_embed.(guidance_linear_1|guidance_linear_2).weight",
        ),
        rename(f"{BLOCK}.attn.to_out.0.weight", f"{BLOCK}.attn.to_out.weight"),
    ),
    _ratios(6, 3, 9, 4),
)

QWEN = Family(
    "qwen",
    (
        f"{BLOCK}.attn.(to_q|to_k|to_v|to_out.0|{ADDED}).weight",
        f"{BLOCK}.(img_mlp|txt_mlp).(net.0.proj|net.2).weight",
    ),
)

Z_IMAGE = Family(
    "z_image",
    (
        f"{LAYERS}.adaLN_modulation.0.weight",
        f"{LAYERS}.attention.(to_q|to_k|to_v|to_out.0).weight",
        f"{LAYERS}.feed_forward.(w1|w2|w3).weight",
    ),
    (
        split(
            f"{LAYERS}.attention.qkv.weight",
            tuple(f"{LAYERS}.attention.to_{part}.weight" for part in "qkv"),
            0,
        ),
        rename(f"{LAYERS}.attention.out.weight", f"{LAYERS}.attention.to_out.0.weight"),
    ),
    spelling=Spelling("transformer.{}.lora_A.weight", "transformer.{}.lora_B.weight", "transformer.{}.alpha"),
)

FAMILIES = (FLUX, QWEN, FLUX2, Z_IMAGE)
"""In the order in which they are asked; those of one spelling may share names."""
