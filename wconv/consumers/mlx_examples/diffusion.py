"""The layouts of mlx-examples' Stable Diffusion: UNet, autoencoder and text encoders, as diffusers has them.

Convolutions of one pixel are linear layers there, and a gated unit's two halves are two layers.
"""

from __future__ import annotations

from wconv.consumers.component_family import ComponentFamily
from wconv.consumers.mlx_examples.text import COMMAND, ONE_FILE
from wconv.layouts.apply import Layout
from wconv.layouts.rules import Rule, drop, rename, reshape, split, transpose

BLOCKS = "(down_blocks|up_blocks).#"
MIDDLE = "(resnets.0|attentions.0|resnets.1)"
HEADS, PROJECTIONS = "(to_q|to_k|to_v|to_out.0)", "(query_proj|key_proj|value_proj|out_proj)"
FEED_FORWARD = "**.transformer_blocks.#"
BOTH = "(encoder|decoder)"


def one_pixel(pattern: str) -> Rule:
    """A convolution of one pixel as a matrix."""
    return reshape(pattern, (0, -1), back=(0, -1, 1, 1))


def resnets(prefix: str) -> tuple[str, ...]:
    """The names of a residual block's tensors."""
    return (
        f"{prefix}.(norm1|norm2|conv1|conv2).(weight|bias)",
        f"{prefix}.(time_emb_proj|conv_shortcut).(weight|bias)",
    )


def transformers(prefix: str) -> tuple[str, ...]:
    """The names of a spatial transformer's tensors."""
    block = f"{prefix}.transformer_blocks.#"
    return (
        f"{prefix}.(norm|proj_in|proj_out).(weight|bias)",
        f"{block}.(norm1|norm2|norm3|linear1|linear2|linear3).(weight|bias)",
        f"{block}.(attn1|attn2).{PROJECTIONS}.(weight|bias)",
    )


UNET = Layout(
    ("mlx-examples",),
    ("UNet2DConditionModel",),
    (
        "(conv_in|conv_out|conv_norm_out).(weight|bias)",
        "(time_embedding|add_embedding).(linear_1|linear_2).(weight|bias)",
        f"{BLOCKS}.(downsample|upsample).(weight|bias)",
        *resnets(f"{BLOCKS}.resnets.#"),
        *resnets("mid_blocks.(0|2)"),
        *transformers(f"{BLOCKS}.attentions.#"),
        *transformers("mid_blocks.1"),
    ),
    (
        rename(
            f"{BLOCKS}.(downsamplers|upsamplers).0.conv.(weight|bias)",
            f"{BLOCKS}.(downsample|upsample).(weight|bias)",
        ),
        rename(f"mid_block.{MIDDLE}.**", "mid_blocks.(0|1|2).**"),
        transpose("(conv_in|conv_out).weight", "conv2d"),
        transpose("**.(conv1|conv2|downsample|upsample).weight", "conv2d"),
        one_pixel("**.conv_shortcut.weight"),
        reshape("**.(proj_in|proj_out).weight", (0, -1)),
        rename(
            f"**.(attn1|attn2).{HEADS}.(weight|bias)",
            f"**.(attn1|attn2).{PROJECTIONS}.(weight|bias)",
        ),
        split(
            f"{FEED_FORWARD}.ff.net.0.proj.(weight|bias)",
            (f"{FEED_FORWARD}.linear1.(weight|bias)", f"{FEED_FORWARD}.linear2.(weight|bias)"),
            0,
        ),
        rename(f"{FEED_FORWARD}.ff.net.2.(weight|bias)", f"{FEED_FORWARD}.linear3.(weight|bias)"),
    ),
    command=COMMAND,
    form=ONE_FILE,
)

AUTOENCODER = Layout(
    ("mlx-examples",),
    ("AutoencoderKL",),
    (
        "(quant_proj|post_quant_proj).(weight|bias)",
        f"{BOTH}.(conv_in|conv_out|conv_norm_out).(weight|bias)",
        f"{BOTH}.{BLOCKS}.(downsample|upsample).(weight|bias)",
        *resnets(f"{BOTH}.{BLOCKS}.resnets.#"),
        *resnets(f"{BOTH}.mid_blocks.(0|2)"),
        f"{BOTH}.mid_blocks.1.group_norm.(weight|bias)",
        f"{BOTH}.mid_blocks.1.{PROJECTIONS}.(weight|bias)",
    ),
    (
        rename(
            f"{BOTH}.{BLOCKS}.(downsamplers|upsamplers).0.conv.(weight|bias)",
            f"{BOTH}.{BLOCKS}.(downsample|upsample).(weight|bias)",
        ),
        rename(f"{BOTH}.mid_block.{MIDDLE}.**", f"{BOTH}.mid_blocks.(0|1|2).**"),
        rename(
            f"{BOTH}.mid_blocks.1.{HEADS}.(weight|bias)",
            f"{BOTH}.mid_blocks.1.{PROJECTIONS}.(weight|bias)",
        ),
        transpose(f"{BOTH}.(conv_in|conv_out).weight", "conv2d"),
        transpose("**.(conv1|conv2|downsample|upsample).weight", "conv2d"),
        one_pixel("**.conv_shortcut.weight"),
        one_pixel("(quant_conv|post_quant_conv).weight"),
        rename("(quant_conv|post_quant_conv).(weight|bias)", "(quant_proj|post_quant_proj).(weight|bias)"),
    ),
    (
        rename(
            f"{BOTH}.mid_block.attentions.0.(query|key|value|proj_attn).(weight|bias)",
            f"{BOTH}.mid_block.attentions.0.{HEADS}.(weight|bias)",
        ),
    ),
    command=COMMAND,
    form=ONE_FILE,
)

TEXT_ENCODER = Layout(
    ("mlx-examples",),
    ("clip_text_model",),
    (
        "(token_embedding|position_embedding|text_projection).weight",
        "final_layer_norm.(weight|bias)",
        f"layers.#.attention.{PROJECTIONS}.(weight|bias)",
        "layers.#.(layer_norm1|layer_norm2|linear1|linear2).(weight|bias)",
    ),
    (
        drop("embeddings.position_ids", "recomputed by the consumer"),
        rename(
            "embeddings.(token_embedding|position_embedding).weight",
            "(token_embedding|position_embedding).weight",
        ),
        rename(
            "encoder.layers.#.self_attn.(q_proj|k_proj|v_proj|out_proj).(weight|bias)",
            f"layers.#.attention.{PROJECTIONS}.(weight|bias)",
        ),
        rename(
            "encoder.layers.#.(layer_norm1|layer_norm2|mlp.fc1|mlp.fc2).(weight|bias)",
            "layers.#.(layer_norm1|layer_norm2|linear1|linear2).(weight|bias)",
        ),
    ),
    (rename("text_model.**", "**"),),
    command=COMMAND,
    form=ONE_FILE,
)

STABLE_DIFFUSION = ComponentFamily(
    "stable_diffusion",
    {"unet": UNET, "vae": AUTOENCODER, "text_encoder": TEXT_ENCODER, "text_encoder_2": TEXT_ENCODER},
    ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "StableDiffusionXLPipeline"),
)
