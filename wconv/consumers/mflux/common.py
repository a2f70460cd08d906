"""What mflux's image models have in common: the form they are saved in, dtypes, and a frequent autoencoder.

mflux looks for its own form first: files whose metadata name it, with the paths of its modules as keys. These
need neither its mappings nor torch. Facts: mflux 0.24.0, `weight_loader.py`, `model_saver.py` and the
`*_weight_mapping.py` of each model.
"""

from __future__ import annotations

from collections.abc import Mapping

from wconv.layouts.apply import Layout
from wconv.layouts.file_form import Form
from wconv.layouts.rules import Rule, drop, rename, transpose

FORM = Form(
    shard="{number}.safetensors",
    max_shard_size=2 << 30,
    metadata={"quantization_level": "None", "mflux_version": "0.24.0"},
)

BFLOAT16 = dict.fromkeys(("float16", "float32", "float64"), "bfloat16")
"""mflux casts every tensor of the model to bfloat16."""

FLOAT16 = {"bfloat16": "float16"}
"""mflux reads the model through torch, which hands bfloat16 on as float16; other dtypes stay."""

BOTH = "(encoder|decoder)"
DOWN, UP = "encoder.down_blocks.#", "decoder.up_blocks.#"
RESNET = "(norm1|conv1|norm2|conv2|conv_shortcut)"

KL_CONVOLUTIONS = (
    transpose(f"{BOTH}.(conv_in|conv_out).weight", "conv2d"),
    transpose("(quant_conv|post_quant_conv).weight", "conv2d"),
    transpose(f"{BOTH}.mid_block.resnets.#.(conv1|conv2).weight", "conv2d"),
    transpose(f"{DOWN}.resnets.#.(conv1|conv2|conv_shortcut).weight", "conv2d"),
    transpose(f"{UP}.resnets.#.(conv1|conv2|conv_shortcut).weight", "conv2d"),
    transpose(f"{DOWN}.downsamplers.0.conv.weight", "conv2d"),
    transpose(f"{UP}.upsamplers.0.conv.weight", "conv2d"),
)
"""Of diffusers' AutoencoderKL."""

KL_NAMES = (
    "(quant_conv|post_quant_conv).(weight|bias)",
    f"{BOTH}.mid_block.resnets.#.(norm1|conv1|norm2|conv2).(weight|bias)",
    f"{DOWN}.resnets.#.{RESNET}.(weight|bias)",
    f"{UP}.resnets.#.{RESNET}.(weight|bias)",
    f"{DOWN}.downsamplers.0.conv.(weight|bias)",
    f"{UP}.upsamplers.0.conv.(weight|bias)",
)


COMMAND = "mflux, as a component of a model: {model}"


def component(
    model_type: str,
    *rules: Rule,
    names: tuple[str, ...],
    casts: Mapping[str, str] | None = None,
    alias_rules: tuple[Rule, ...] = (),
    sign: tuple[str, ...] = (),
    command: str = COMMAND,
) -> Layout:
    """A part of an image model; `model_type` is what its config.json says, or its class.

    Args:
        casts: dtypes that mflux does not keep.
        alias_rules: the rules for other names of the same model, which `sign` tells.
    """
    return Layout(
        ("mflux",), (model_type,), names, rules, alias_rules, sign, command, form=FORM, casts=casts or {}
    )


ROTARY = drop("**rotary_emb.inv_freq", "recomputed by mflux")
NO_HEAD = drop("lm_head.weight", "mflux needs the hidden states alone")
LAYER = "layers.#"

QWEN3_TEXT = component(
    "qwen3",
    ROTARY,
    NO_HEAD,
    rename("model.(embed_tokens|norm|layers).**", "(embed_tokens|norm|layers).**"),
    names=(
        "(embed_tokens|norm).weight",
        f"{LAYER}.(input|post_attention)_layernorm.weight",
        f"{LAYER}.self_attn.(q|k|v|o)_proj.weight",
        f"{LAYER}.self_attn.(q|k)_norm.weight",
        f"{LAYER}.mlp.(gate|up|down)_proj.weight",
    ),
    casts=BFLOAT16,
)
"""The text encoder of several models."""
