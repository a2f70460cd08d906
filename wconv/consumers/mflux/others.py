"""mflux's layouts of Z-Image and of SeedVR2."""

from __future__ import annotations

from wconv.consumers.component_family import ComponentFamily
from wconv.consumers.mflux.common import (
    BFLOAT16,
    BOTH,
    DOWN,
    KL_CONVOLUTIONS,
    KL_NAMES,
    QWEN3_TEXT,
    UP,
    component,
)
from wconv.layouts.rules import copy_if_missing, rename, transpose

LAYERS = "(noise_refiner|context_refiner|layers).#"

Z_IMAGE_TRANSFORMER = component(
    "ZImageTransformer2DModel",
    rename("t_embedder.mlp.(0|2).(weight|bias)", "t_embedder.(linear1|linear2).(weight|bias)"),
    rename(
        "all_final_layer.*.adaLN_modulation.1.(weight|bias)",
        "all_final_layer.*.adaLN_modulation.0.(weight|bias)",
    ),
    names=(
        "(x_pad_token|cap_pad_token)",
        "t_embedder.(linear1|linear2).(weight|bias)",
        "cap_embedder.#.(weight|bias)",
        "all_x_embedder.2-1.(weight|bias)",
        "all_final_layer.2-1.(linear|adaLN_modulation.0).(weight|bias)",
        f"{LAYERS}.adaLN_modulation.0.(weight|bias)",
        f"{LAYERS}.attention.(to_q|to_k|to_v|to_out.0|norm_q|norm_k).weight",
        f"{LAYERS}.(attention_norm1|attention_norm2|ffn_norm1|ffn_norm2).weight",
        f"{LAYERS}.feed_forward.(w1|w2|w3).weight",
    ),
    casts=BFLOAT16,
)

Z_IMAGE_VAE = component(
    "AutoencoderKL",
    *KL_CONVOLUTIONS,
    rename("encoder.(conv_in|conv_out).(weight|bias)", "encoder.(conv_in|conv_out).conv2d.(weight|bias)"),
    rename("decoder.(conv_in|conv_out).(weight|bias)", "decoder.(conv_in|conv_out).conv.(weight|bias)"),
    rename(f"{BOTH}.conv_norm_out.(weight|bias)", f"{BOTH}.conv_norm_out.norm.(weight|bias)"),
    names=(
        *KL_NAMES[1:],
        "encoder.(conv_in|conv_out).conv2d.(weight|bias)",
        "decoder.(conv_in|conv_out).conv.(weight|bias)",
        f"{BOTH}.conv_norm_out.norm.(weight|bias)",
        f"{BOTH}.mid_block.attentions.0.(group_norm|to_q|to_k|to_v|to_out.0).(weight|bias)",
    ),
    casts=BFLOAT16,
)

Z_IMAGE = ComponentFamily(
    "z_image",
    command="mflux-generate-z-image --model {model} --prompt 'A cat'",
    classes=("ZImagePipeline", "ZImageImg2ImgPipeline"),
    components={"transformer": Z_IMAGE_TRANSFORMER, "vae": Z_IMAGE_VAE, "text_encoder": QWEN3_TEXT},
)

ATTENTION = "blocks.#.attn.(proj_qkv|norm_q|norm_k|proj_out)"

SEEDVR2_TRANSFORMER = component(
    "SeedVR2 transformer",
    copy_if_missing(f"{ATTENTION}.all.(weight|bias)", f"{ATTENTION}.txt.(weight|bias)"),
    rename(f"{ATTENTION}.all.(weight|bias)", f"{ATTENTION}.vid.(weight|bias)"),
    rename(f"{ATTENTION}.(vid|txt).(weight|bias)", f"{ATTENTION}_(vid|txt).(weight|bias)"),
    rename("blocks.#.attn.rope.rope.freqs", "blocks.#.attn.rope.freqs"),
    rename("blocks.#.ada.(vid|txt|all).*", "blocks.#.ada.(params_vid|params_txt|params_all).*"),
    rename("vid_out_ada.(out_shift|out_scale)", "(out_shift|out_scale)"),
    names=(
        "(vid_in.proj|vid_out.proj|txt_in|emb_in.proj_in|emb_in.proj_hid|emb_in.proj_out).(weight|bias)",
        "vid_out_norm.weight",
        "(out_shift|out_scale)",
        "blocks.#.attn.(proj_qkv|norm_q|norm_k)_(vid|txt).weight",
        "blocks.#.attn.proj_out_(vid|txt).(weight|bias)",
        "blocks.#.attn.rope.freqs",
        "blocks.#.mlp.(vid|txt|all).(proj_in|proj_out).(weight|bias)",
        "blocks.#.mlp.(vid|txt|all).proj_in_gate.weight",
        "blocks.#.ada.params_(vid|txt|all).(attn|mlp)_(shift|scale|gate)",
    ),
)

LATENT_CHANNELS = 16

SEEDVR2_VAE = component(
    "SeedVR2 autoencoder",
    transpose("decoder.conv_in.weight", "conv3d", last=LATENT_CHANNELS),
    transpose("encoder.(conv_in|conv_out).weight", "conv3d"),
    transpose("decoder.conv_out.weight", "conv3d"),
    transpose(f"{BOTH}.mid_block.resnets.#.(conv1|conv2).weight", "conv3d"),
    transpose(f"{DOWN}.resnets.#.(conv1|conv2|conv_shortcut).weight", "conv3d"),
    transpose(f"{UP}.resnets.#.(conv1|conv2|conv_shortcut).weight", "conv3d"),
    transpose(f"{DOWN}.downsamplers.0.conv.weight", "conv3d"),
    transpose(f"{UP}.upsamplers.0.(conv|upscale_conv).weight", "conv3d"),
    names=(
        *KL_NAMES[1:],
        f"{BOTH}.(conv_in|conv_out|conv_norm_out).(weight|bias)",
        f"{BOTH}.mid_block.attentions.0.(group_norm|to_q|to_k|to_v|to_out.0).(weight|bias)",
        f"{UP}.upsamplers.0.upscale_conv.(weight|bias)",
    ),
)

SEEDVR2 = ComponentFamily(
    "seedvr2",
    command="mflux-upscale-seedvr2 --model {model} --image-path IMAGE",
    components={"transformer": SEEDVR2_TRANSFORMER, "vae": SEEDVR2_VAE},
    files={
        "transformer": ("seedvr2_ema_3b_fp16.safetensors", "seedvr2_ema_7b_fp16.safetensors"),
        "vae": ("ema_vae_fp16.safetensors",),
    },
)
