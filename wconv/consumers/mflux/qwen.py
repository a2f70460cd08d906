"""mflux's layout of Qwen-Image."""

from __future__ import annotations

from wconv.consumers.component_family import ComponentFamily
from wconv.consumers.mflux.common import BFLOAT16, BOTH, NO_HEAD, ROTARY, component
from wconv.layouts.rules import drop, rename, reshape, transpose

BLOCK = "transformer_blocks.#"

TRANSFORMER = component(
    "QwenImageTransformer2DModel",
    rename(f"{BLOCK}.attn.to_out.0.(weight|bias)", f"{BLOCK}.attn.attn_to_out.0.(weight|bias)"),
    rename(f"{BLOCK}.(img|txt)_mod.1.(weight|bias)", f"{BLOCK}.(img|txt)_mod_linear.(weight|bias)"),
    rename(f"{BLOCK}.(img|txt)_mlp.net.0.proj.(weight|bias)", f"{BLOCK}.(img|txt)_ff.mlp_in.(weight|bias)"),
    rename(f"{BLOCK}.(img|txt)_mlp.net.2.(weight|bias)", f"{BLOCK}.(img|txt)_ff.mlp_out.(weight|bias)"),
    names=(
        "(img_in|txt_in|proj_out|norm_out.linear).(weight|bias)",
        "txt_norm.weight",
        "time_text_embed.timestep_embedder.(linear_1|linear_2).(weight|bias)",
        f"{BLOCK}.attn.(to_q|to_k|to_v|add_q_proj|add_k_proj|add_v_proj).(weight|bias)",
        f"{BLOCK}.attn.(attn_to_out.0|to_add_out).(weight|bias)",
        f"{BLOCK}.attn.(norm_q|norm_k|norm_added_q|norm_added_k).weight",
        f"{BLOCK}.(img|txt)_mod_linear.(weight|bias)",
        f"{BLOCK}.(img|txt)_ff.(mlp_in|mlp_out).(weight|bias)",
    ),
)

VISION = "encoder.visual.blocks.#"
LAYER = "encoder.layers.#"

TEXT_ENCODER = component(
    "qwen2_5_vl",
    ROTARY,
    NO_HEAD,
    transpose("visual.patch_embed.proj.weight", "conv3d"),
    rename("visual.merger.mlp.(0|2).(weight|bias)", "encoder.visual.merger.(mlp_0|mlp_1).(weight|bias)"),
    rename("visual.merger.ln_q.weight", "encoder.visual.merger.ln_q.weight"),
    rename("visual.(patch_embed|blocks).**", "encoder.visual.(patch_embed|blocks).**"),
    rename("model.(embed_tokens|norm|layers).**", "encoder.(embed_tokens|norm|layers).**"),
    alias_rules=(
        rename("model.visual.**", "visual.**"),
        rename("model.language_model.**", "model.**"),
    ),
    names=(
        "encoder.(embed_tokens|norm).weight",
        f"{LAYER}.(input|post_attention)_layernorm.weight",
        f"{LAYER}.self_attn.(q|k|v)_proj.(weight|bias)",
        f"{LAYER}.self_attn.o_proj.weight",
        f"{LAYER}.mlp.(gate|up|down)_proj.weight",
        "encoder.visual.patch_embed.proj.weight",
        f"{VISION}.(attn.qkv|attn.proj|mlp.gate_proj|mlp.up_proj|mlp.down_proj).(weight|bias)",
        f"{VISION}.(norm1|norm2).weight",
        "encoder.visual.merger.ln_q.weight",
        "encoder.visual.merger.(mlp_0|mlp_1).(weight|bias)",
    ),
    casts=BFLOAT16,
)

FLAT = (
    "encoder.down_blocks.(0|1|3|4|6|7|9|10)",
    "encoder.down_blocks.(0.resnets.0|0.resnets.1|1.resnets.0|1.resnets.1|2.resnets.0|2.resnets.1"
    "|3.resnets.0|3.resnets.1)",
)
"""diffusers keeps the encoder's residual blocks and samplers in one list; mflux in four blocks."""

SAMPLERS = (
    "encoder.down_blocks.(2|5|8)",
    "encoder.down_blocks.(0.downsamplers.0|1.downsamplers.0|2.downsamplers.0)",
)
UP = ("decoder.up_blocks.#", "decoder.up_block#")
MIDDLE = f"{BOTH}.mid_block"

VAE = component(
    "AutoencoderKLQwenImage",
    drop("encoder.down_blocks.5.time_conv.(weight|bias)", "for videos, which mflux does not make"),
    transpose(f"{BOTH}.(conv_in|conv_out).weight", "conv3d"),
    transpose("(quant_conv|post_quant_conv).weight", "conv3d"),
    transpose(f"{MIDDLE}.resnets.#.(conv1|conv2).weight", "conv3d"),
    transpose(f"{MIDDLE}.attentions.0.(to_qkv|proj).weight", "conv2d"),
    transpose("encoder.down_blocks.#.(conv1|conv2|conv_shortcut|time_conv).weight", "conv3d"),
    transpose("encoder.down_blocks.#.resample.1.weight", "conv2d"),
    transpose(f"{UP[0]}.resnets.#.(conv1|conv2|conv_shortcut).weight", "conv3d"),
    transpose(f"{UP[0]}.upsamplers.0.time_conv.weight", "conv3d"),
    transpose(f"{UP[0]}.upsamplers.0.resample.1.weight", "conv2d"),
    reshape("**.gamma", (-1,)),
    rename(f"{BOTH}.norm_out.gamma", f"{BOTH}.norm_out.weight"),
    rename(f"{BOTH}.(conv_in|conv_out).(weight|bias)", f"{BOTH}.(conv_in|conv_out).conv3d.(weight|bias)"),
    rename("(quant_conv|post_quant_conv).(weight|bias)", "(quant_conv|post_quant_conv).conv3d.(weight|bias)"),
    rename(f"{MIDDLE}.attentions.0.norm.gamma", f"{MIDDLE}.attentions.0.norm.weight"),
    rename(f"{MIDDLE}.resnets.#.(norm1|norm2).gamma", f"{MIDDLE}.resnets.#.(norm1|norm2).weight"),
    rename(
        f"{MIDDLE}.resnets.#.(conv1|conv2).(weight|bias)",
        f"{MIDDLE}.resnets.#.(conv1|conv2).conv3d.(weight|bias)",
    ),
    rename(f"{FLAT[0]}.(norm1|norm2).gamma", f"{FLAT[1]}.(norm1|norm2).weight"),
    rename(
        f"{FLAT[0]}.(conv1|conv2|conv_shortcut).(weight|bias)",
        f"{FLAT[1]}.(conv1.conv3d|conv2.conv3d|skip_conv.conv3d).(weight|bias)",
    ),
    rename(
        f"{SAMPLERS[0]}.(resample.1|time_conv).(weight|bias)",
        f"{SAMPLERS[1]}.(resample_conv|time_conv.conv3d).(weight|bias)",
    ),
    rename(f"{UP[0]}.resnets.#.(norm1|norm2).gamma", f"{UP[1]}.resnets.#.(norm1|norm2).weight"),
    rename(
        f"{UP[0]}.resnets.#.(conv1|conv2|conv_shortcut).(weight|bias)",
        f"{UP[1]}.resnets.#.(conv1.conv3d|conv2.conv3d|skip_conv.conv3d).(weight|bias)",
    ),
    rename(
        f"{UP[0]}.upsamplers.0.(resample.1|time_conv).(weight|bias)",
        f"{UP[1]}.upsamplers.0.(resample_conv|time_conv.conv3d).(weight|bias)",
    ),
    names=(
        f"{BOTH}.norm_out.weight",
        f"{BOTH}.(conv_in|conv_out).conv3d.(weight|bias)",
        "(quant_conv|post_quant_conv).conv3d.(weight|bias)",
        f"{MIDDLE}.attentions.0.norm.weight",
        f"{MIDDLE}.attentions.0.(to_qkv|proj).(weight|bias)",
        f"{MIDDLE}.resnets.#.(norm1|norm2).weight",
        f"{MIDDLE}.resnets.#.(conv1|conv2).conv3d.(weight|bias)",
        "encoder.down_blocks.#.resnets.#.(norm1|norm2).weight",
        "encoder.down_blocks.#.resnets.#.(conv1|conv2|skip_conv).conv3d.(weight|bias)",
        "encoder.down_blocks.#.downsamplers.0.(resample_conv|time_conv.conv3d).(weight|bias)",
        f"{UP[1]}.resnets.#.(norm1|norm2).weight",
        f"{UP[1]}.resnets.#.(conv1|conv2|skip_conv).conv3d.(weight|bias)",
        f"{UP[1]}.upsamplers.0.(resample_conv|time_conv.conv3d).(weight|bias)",
    ),
)

QWEN_IMAGE = ComponentFamily(
    "qwen_image",
    command="mflux-generate-qwen --model {model} --prompt 'A cat'",
    classes=("QwenImagePipeline", "QwenImageEditPipeline", "QwenImageEditPlusPipeline"),
    components={"transformer": TRANSFORMER, "vae": VAE, "text_encoder": TEXT_ENCODER},
)
