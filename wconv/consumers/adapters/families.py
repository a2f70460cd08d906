"""The models whose adapters are known by their modules' names.

Everything passes through diffusers' names: `original` brings a maker's names to them, `renamed` leads on to
those of a program that has its own, and both are read backwards too. Facts: diffusers 0.42.1, its classes of
transformers and `UNet2DConditionModel`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from wconv.consumers.diffusers.tables import FLUX2_RULES, FLUX_RULES
from wconv.consumers.mflux import adapters as mflux
from wconv.layouts.rules import Rule, rename, split

BLOCK, SINGLE = "transformer_blocks.#", "single_transformer_blocks.#"
LAYERS = "(noise_refiner|context_refiner|layers).#"
ADDED = "add_q_proj|add_k_proj|add_v_proj|to_add_out"

CLIP = (
    "text_model.encoder.layers.#.self_attn.(q_proj|k_proj|v_proj|out_proj).weight",
    "text_model.encoder.layers.#.mlp.(fc1|fc2).weight",
)
T5 = (
    "encoder.block.#.layer.0.SelfAttention.(q|k|v|o).weight",
    "encoder.block.#.layer.1.DenseReluDense.(wi_0|wi_1|wo).weight",
)
TEXTS: Mapping[str, tuple[str, ...]] = {"clip": CLIP, "clip_l": CLIP, "t5xxl": T5}
"""Kind of a text encoder → its modules; "clip" is one that has no second beside it."""


@dataclass(frozen=True, slots=True)
class AdapterFamily:
    """Models whose adapters are called alike.

    Attributes:
        modules: patterns of the modules to which a program with names of its own applies an adapter, by
            these names, each with `.weight`.
        original: from the names of the model's makers to diffusers'.
        renamed: from diffusers' names to those of that program.
        others: patterns of diffusers' modules that neither `modules` nor `original` tells of.
        ratios: pattern of a module, as its makers call it → rows for each column; tells the families apart.
        blocks: first part of a module's name → how many of them the largest such model has.
        main: the component of a pipeline that they belong to.
        texts: a text encoder of the pipeline → its kind.
        alias_rules: rules from further names of modules to diffusers', which are read and never written.
        single: how names of modules begin in the makers' single files, where those are not converted.
    """

    name: str
    modules: tuple[str, ...]
    original: tuple[Rule, ...] = ()
    renamed: tuple[Rule, ...] = ()
    others: tuple[str, ...] = ()
    ratios: Mapping[str, Fraction] = field(default_factory=dict)
    blocks: Mapping[str, int] = field(default_factory=dict)
    main: str = "transformer"
    texts: Mapping[str, str] = field(default_factory=dict)
    alias_rules: tuple[Rule, ...] = ()
    single: tuple[str, ...] = ()

    @property
    def known(self) -> tuple[str, ...]:
        """Patterns of the names that diffusers has for the modules."""
        taken = {name for rule in self.original for name in (rule.source, *getattr(rule, "others", ()))}
        made = (target for rule in self.original for target in rule.targets if target not in taken)
        return (*dict.fromkeys(made), *self.others)


def _ratios(first: int, second: int, wide: int, narrow: int) -> dict[str, Fraction]:
    return {
        "double_blocks.#.(img|txt)_mlp.0.weight": Fraction(first),
        "double_blocks.#.(img|txt)_mlp.2.weight": Fraction(1, second),
        "single_blocks.#.linear1.weight": Fraction(wide),
        "single_blocks.#.linear2.weight": Fraction(1, narrow),
    }


def _blocks(double: int, single: int) -> dict[str, int]:
    """How many blocks there are, by diffusers' names and by the makers'."""
    names = ("transformer_blocks", "single_transformer_blocks", "double_blocks", "single_blocks")
    return dict(zip(names, (double, single) * 2, strict=True))


FLUX = AdapterFamily(
    "flux",
    mflux.FLUX,
    FLUX_RULES,
    ratios=_ratios(4, 4, 7, 5),
    blocks=_blocks(19, 38),
    texts={"text_encoder": "clip_l", "text_encoder_2": "t5xxl"},
    alias_rules=(
        split("single_blocks.#.qkv.weight", tuple(f"{SINGLE}.attn.to_{part}.weight" for part in "qkv"), 0),
    ),
)

FLUX2 = AdapterFamily(
    "flux2",
    mflux.FLUX2,
    FLUX2_RULES,
    mflux.FLUX2_RENAMED,
    ratios=_ratios(6, 3, 9, 4),
    blocks=_blocks(8, 48),
)

QWEN = AdapterFamily(
    "qwen",
    mflux.QWEN,
    others=(
        f"{BLOCK}.attn.(to_q|to_k|to_v|to_out.0|{ADDED}).weight",
        f"{BLOCK}.(img_mlp|txt_mlp).(net.0.proj|net.2).weight",
        f"{BLOCK}.(img_mod|txt_mod).1.weight",
        "(img_in|txt_in|proj_out|norm_out.linear).weight",
        "time_text_embed.timestep_embedder.(linear_1|linear_2).weight",
    ),
    blocks={"transformer_blocks": 60},
)

Z_IMAGE = AdapterFamily(
    "z_image",
    mflux.Z_IMAGE,
    (
        split(
            f"{LAYERS}.attention.qkv.weight",
            tuple(f"{LAYERS}.attention.to_{part}.weight" for part in "qkv"),
            0,
        ),
        rename(f"{LAYERS}.attention.out.weight", f"{LAYERS}.attention.to_out.0.weight"),
    ),
    others=(f"{LAYERS}.adaLN_modulation.0.weight", f"{LAYERS}.feed_forward.(w1|w2|w3).weight"),
    blocks={"layers": 30, "noise_refiner": 2, "context_refiner": 2},
)

UNET_BLOCKS = ("(down_blocks|up_blocks).#", "mid_block")
UNET_LAYERS = (
    "attentions.#.(proj_in|proj_out)",
    "attentions.#.transformer_blocks.#.(attn1|attn2).(to_q|to_k|to_v|to_out.0)",
    "attentions.#.transformer_blocks.#.ff.(net.0.proj|net.2)",
    "resnets.#.(conv1|conv2|conv_shortcut|time_emb_proj)",
)
STABLE_DIFFUSION = AdapterFamily(
    "stable-diffusion",
    (),
    others=(
        *(f"{block}.{layer}.weight" for block in UNET_BLOCKS for layer in UNET_LAYERS),
        "down_blocks.#.downsamplers.0.conv.weight",
        "up_blocks.#.upsamplers.0.conv.weight",
        "(conv_in|conv_out|time_embedding.linear_1|time_embedding.linear_2).weight",
    ),
    main="unet",
    texts={"text_encoder": "clip"},
    single=("input_blocks", "middle_block", "output_blocks"),
)

FAMILIES = (FLUX, QWEN, FLUX2, Z_IMAGE, STABLE_DIFFUSION)
"""In the order in which they are asked; those that agree on all names asked for may share them."""
