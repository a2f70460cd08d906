"""From the names of Black Forest Labs' single files to diffusers': transformers and autoencoders.

Facts: diffusers 0.42.1, `loaders/single_file_utils.py`, `scripts/convert_flux2_to_diffusers.py`. The files
fuse queries, keys and values, and in the last layer's modulation the shift comes before the scale, where
diffusers has it the other way round.
"""

from __future__ import annotations

from wconv.layouts.reverse_rules import JoinRule
from wconv.layouts.rules import Rule, rename, reshape, split

COMFY = rename("model.diffusion_model.**", "**")
"""ComfyUI puts its own prefix before every name."""


def fused(stream: str, parts: tuple[str, str, str], kinds: str) -> Rule:
    """One matrix of queries, keys and values becomes three."""
    into = tuple(f"transformer_blocks.#.attn.{part}.{kinds}" for part in parts)
    return split(f"double_blocks.#.{stream}_attn.qkv.{kinds}", into, 0)


def swapped(kinds: str) -> tuple[Rule, ...]:
    """Shift and scale change places."""
    shift, scale = f"norm_out.shift.{kinds}", f"norm_out.scale.{kinds}"
    return (
        split(f"final_layer.adaLN_modulation.1.{kinds}", (shift, scale), 0),
        JoinRule(scale, (shift,), f"norm_out.linear.{kinds}", 0),
    )


def widened(kinds: str) -> tuple[Rule, ...]:
    """Queries, keys, values and a feed-forward layer four times as wide lie in one matrix."""
    block = "single_transformer_blocks.#"
    wide = tuple(f"{block}.proj_mlp_{at}.{kinds}" for at in range(4))
    narrow = tuple(f"{block}.attn.to_{part}.{kinds}" for part in "qkv")
    return (
        split(f"single_blocks.#.linear1.{kinds}", (*narrow, *wide), 0),
        JoinRule(wide[0], wide[1:], f"{block}.proj_mlp.{kinds}", 0),
    )


BOTH = "(weight|bias)"
TO = ("to_q", "to_k", "to_v")
ADDED = ("add_q_proj", "add_k_proj", "add_v_proj")
DOUBLE, SINGLE = (
    ("double_blocks.#", "transformer_blocks.#"),
    ("single_blocks.#", "single_transformer_blocks.#"),
)
NORMS = (
    rename(f"{DOUBLE[0]}.img_attn.norm.(query|key)_norm.scale", f"{DOUBLE[1]}.attn.norm_(q|k).weight"),
    rename(f"{DOUBLE[0]}.txt_attn.norm.(query|key)_norm.scale", f"{DOUBLE[1]}.attn.norm_added_(q|k).weight"),
    rename(f"{SINGLE[0]}.norm.(query|key)_norm.scale", f"{SINGLE[1]}.attn.norm_(q|k).weight"),
)
OUTPUTS = rename(f"{DOUBLE[0]}.(img|txt)_attn.proj.{BOTH}", f"{DOUBLE[1]}.attn.(to_out.0|to_add_out).{BOTH}")

FLUX_RULES: tuple[Rule, ...] = (
    rename(f"(img_in|txt_in).{BOTH}", f"(x_embedder|context_embedder).{BOTH}"),
    rename(
        f"(time|vector|guidance)_in.(in|out)_layer.{BOTH}",
        f"time_text_embed.(timestep|text|guidance)_embedder.(linear_1|linear_2).{BOTH}",
    ),
    rename(f"{DOUBLE[0]}.(img|txt)_mod.lin.{BOTH}", f"{DOUBLE[1]}.(norm1|norm1_context).linear.{BOTH}"),
    rename(
        f"{DOUBLE[0]}.(img|txt)_mlp.(0|2).{BOTH}", f"{DOUBLE[1]}.(ff|ff_context).(net.0.proj|net.2).{BOTH}"
    ),
    *NORMS,
    OUTPUTS,
    fused("img", TO, BOTH),
    fused("txt", ADDED, BOTH),
    rename(f"{SINGLE[0]}.(modulation.lin|linear2).{BOTH}", f"{SINGLE[1]}.(norm.linear|proj_out).{BOTH}"),
    *widened(BOTH),
    *swapped(BOTH),
    rename(f"final_layer.linear.{BOTH}", f"proj_out.{BOTH}"),
)

FLUX2_RULES: tuple[Rule, ...] = (
    rename("(img_in|txt_in).weight", "(x_embedder|context_embedder).weight"),
    rename(
        "(time|guidance)_in.(in|out)_layer.weight",
        "time_guidance_embed.(timestep|guidance)_embedder.(linear_1|linear_2).weight",
    ),
    rename(
        "double_stream_modulation_(img|txt).lin.weight", "double_stream_modulation_(img|txt).linear.weight"
    ),
    rename("single_stream_modulation.lin.weight", "single_stream_modulation.linear.weight"),
    rename(
        f"{DOUBLE[0]}.(img|txt)_mlp.(0|2).weight",
        f"{DOUBLE[1]}.(ff|ff_context).(linear_in|linear_out).weight",
    ),
    *NORMS,
    OUTPUTS,
    fused("img", TO, "weight"),
    fused("txt", ADDED, "weight"),
    rename(f"{SINGLE[0]}.(linear1|linear2).weight", f"{SINGLE[1]}.attn.(to_qkv_mlp_proj|to_out).weight"),
    *swapped("weight"),
    rename("final_layer.linear.weight", "proj_out.weight"),
)

QUANTIZING = (
    rename(f"encoder.quant_conv.{BOTH}", f"quant_conv.{BOTH}"),
    rename(f"decoder.post_quant_conv.{BOTH}", f"post_quant_conv.{BOTH}"),
)
"""Of FLUX.2's autoencoder; FLUX.1's has no such layers."""

SIDES = "(encoder|decoder)"
UP = "decoder.up.(0|1|2|3)", "decoder.up_blocks.(3|2|1|0)"
"""Black Forest Labs count the decoder's blocks from the finest, diffusers from the coarsest."""

ATTENTION = f"{SIDES}.mid.attn_1", f"{SIDES}.mid_block.attentions.0"
BLOCK = (
    f"(norm1|norm2|conv1|conv2|nin_shortcut).{BOTH}",
    f"(norm1|norm2|conv1|conv2|conv_shortcut).{BOTH}",
)

AUTOENCODER_RULES: tuple[Rule, ...] = (
    rename(f"{SIDES}.norm_out.{BOTH}", f"{SIDES}.conv_norm_out.{BOTH}"),
    rename(f"encoder.down.#.block.#.{BLOCK[0]}", f"encoder.down_blocks.#.resnets.#.{BLOCK[1]}"),
    rename(f"encoder.down.#.downsample.conv.{BOTH}", f"encoder.down_blocks.#.downsamplers.0.conv.{BOTH}"),
    rename(f"{UP[0]}.block.#.{BLOCK[0]}", f"{UP[1]}.resnets.#.{BLOCK[1]}"),
    rename(f"{UP[0]}.upsample.conv.{BOTH}", f"{UP[1]}.upsamplers.0.conv.{BOTH}"),
    rename(f"{SIDES}.mid.block_(1|2).{BLOCK[0]}", f"{SIDES}.mid_block.resnets.(0|1).{BLOCK[1]}"),
    reshape(f"{ATTENTION[0]}.(q|k|v|proj_out).weight", (0, -1), back=(0, -1, 1, 1)),
    rename(
        f"{ATTENTION[0]}.(norm|q|k|v|proj_out).{BOTH}",
        f"{ATTENTION[1]}.(group_norm|to_q|to_k|to_v|to_out.0).{BOTH}",
    ),
)

FLUX_SIGN = ("double_blocks.0.img_mod.lin.weight",)
FLUX2_SIGN = ("double_stream_modulation_img.lin.weight",)
AUTOENCODER_SIGN = ("encoder.down.0.block.0.norm1.weight", "decoder.mid.attn_1.q.weight")
FLUX2_AUTOENCODER_SIGN = (*AUTOENCODER_SIGN, "bn.running_mean")
"""Names by which the files are known."""
