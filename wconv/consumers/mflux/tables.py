"""mflux's layout of Depth Pro, which is recognised by its keys: the checkpoint has no config."""

from __future__ import annotations

from wconv.layouts.apply import Layout
from wconv.layouts.rules import drop, rename, reshape, transpose, unless

UPSAMPLERS = "(upsample_latent0|upsample_latent1|upsample0|upsample1|upsample2)"
VISION_TRANSFORMERS = "(encoder.patch_encoder|encoder.image_encoder|fov.encoder.0)"

DEPTH_PRO = Layout(
    consumers=("mflux",),
    model_types=("depth_pro",),
    recognised_by=("encoder.patch_encoder.cls_token", "encoder.fuse_lowres.weight", "decoder.convs.1.weight"),
    rules=(
        drop(
            "fov.**",
            "mflux has no field-of-view network (--option include_fov=true keeps it)",
            when=unless("include_fov"),
        ),
        rename(f"encoder.{UPSAMPLERS}.#.weight", f"encoder.{UPSAMPLERS}.layers.#.weight"),
        rename("head.#.(weight|bias)", "head.convs.#.(weight|bias)"),
        reshape(f"{VISION_TRANSFORMERS}.blocks.#.(ls1|ls2).gamma", (-1,), back=(-1,)),
        transpose(f"{VISION_TRANSFORMERS}.patch_embed.proj.weight", "conv2d"),
        transpose(f"encoder.{UPSAMPLERS}.layers.0.weight", "conv2d"),
        transpose(f"encoder.{UPSAMPLERS}.layers.(1|2|3).weight", "conv_transpose2d"),
        transpose("encoder.upsample_lowres.weight", "conv_transpose2d"),
        transpose("encoder.fuse_lowres.weight", "conv2d"),
        transpose("decoder.convs.#.weight", "conv2d"),
        transpose("decoder.fusions.#.(resnet1|resnet2).residual.#.weight", "conv2d"),
        transpose("decoder.fusions.#.out_conv.weight", "conv2d"),
        transpose("decoder.fusions.#.deconv.weight", "conv_transpose2d"),
        transpose("head.convs.(0|2|4).weight", "conv2d"),
        transpose("head.convs.1.weight", "conv_transpose2d"),
        transpose("fov.(downsample|head).#.weight", "conv2d"),
    ),
    names=(
        f"{VISION_TRANSFORMERS}.(cls_token|pos_embed)",
        f"{VISION_TRANSFORMERS}.patch_embed.proj.(weight|bias)",
        f"{VISION_TRANSFORMERS}.norm.(weight|bias)",
        f"{VISION_TRANSFORMERS}.blocks.#.(norm1|norm2|attn.qkv|attn.proj|mlp.fc1|mlp.fc2).(weight|bias)",
        f"{VISION_TRANSFORMERS}.blocks.#.(ls1|ls2).gamma",
        f"encoder.{UPSAMPLERS}.layers.#.weight",
        "encoder.(upsample_lowres|fuse_lowres).(weight|bias)",
        "decoder.convs.#.weight",
        "decoder.fusions.#.(resnet1.residual|resnet2.residual).#.(weight|bias)",
        "decoder.fusions.#.out_conv.(weight|bias)",
        "decoder.fusions.#.deconv.weight",
        "head.convs.#.(weight|bias)",
        "fov.(encoder|downsample|head).#.(weight|bias)",
    ),
)

LAYOUTS = (DEPTH_PRO,)
