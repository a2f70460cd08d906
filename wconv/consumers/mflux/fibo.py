"""mflux's layouts of FIBO and of FIBO's vision-language model, which mflux itself reads through torch."""

from __future__ import annotations

from wconv.consumers.component_family import ComponentFamily
from wconv.consumers.mflux.common import BOTH, FLOAT16, LAYER, NO_HEAD, ROTARY, component
from wconv.layouts.rules import copy_if_missing, drop, rename, reshape, transpose

DOUBLE, SINGLE = "transformer_blocks.#", "single_transformer_blocks.#"

TRANSFORMER = component(
    "BriaFiboTransformer2DModel",
    names=(
        "(x_embedder|context_embedder|proj_out|norm_out.linear).(weight|bias)",
        "time_embed.timestep_embedder.(linear_1|linear_2).(weight|bias)",
        "caption_projection.#.linear.weight",
        f"{DOUBLE}.(norm1.linear|norm1_context.linear|norm2|norm2_context).(weight|bias)",
        f"{DOUBLE}.attn.(to_q|to_k|to_v|to_out.0|add_q_proj|add_k_proj|add_v_proj|to_add_out).(weight|bias)",
        f"{DOUBLE}.attn.(norm_q|norm_k|norm_added_q|norm_added_k).weight",
        f"{DOUBLE}.(ff|ff_context).(net.0.proj|net.2).(weight|bias)",
        f"{SINGLE}.(norm.linear|proj_mlp|proj_out|attn.to_q|attn.to_k|attn.to_v).(weight|bias)",
        f"{SINGLE}.attn.(norm_q|norm_k).weight",
    ),
    casts=FLOAT16,
)

TEXT_ENCODER = component(
    "smollm3",
    ROTARY,
    NO_HEAD,
    rename("model.(embed_tokens|norm|layers).**", "(embed_tokens|norm|layers).**"),
    names=(
        "(embed_tokens|norm).weight",
        f"{LAYER}.(input|post_attention)_layernorm.weight",
        f"{LAYER}.self_attn.(q|k|v|o)_proj.weight",
        f"{LAYER}.mlp.(gate|up|down)_proj.weight",
    ),
    casts=FLOAT16,
)

MIDDLE = f"{BOTH}.mid_block"
DOWN, UP = "encoder.down_blocks.#", "decoder.up_blocks.#"
CONVS = "(conv1|conv2|conv_shortcut)"

VAE = component(
    "AutoencoderKLWan",
    transpose(f"{BOTH}.(conv_in|conv_out).weight", "conv3d"),
    transpose("(quant_conv|post_quant_conv).weight", "conv3d"),
    transpose(f"{MIDDLE}.resnets.#.(conv1|conv2).weight", "conv3d"),
    transpose(f"{MIDDLE}.attentions.#.(to_qkv|proj).weight", "conv2d"),
    transpose(f"{DOWN}.resnets.#.{CONVS}.weight", "conv3d"),
    transpose(f"{UP}.resnets.#.{CONVS}.weight", "conv3d"),
    transpose(f"{DOWN}.downsampler.time_conv.weight", "conv3d"),
    transpose(f"{UP}.upsampler.time_conv.weight", "conv3d"),
    transpose(f"{DOWN}.downsampler.resample.1.weight", "conv2d"),
    transpose(f"{UP}.upsampler.resample.1.weight", "conv2d"),
    reshape("**.gamma", (-1,)),
    rename(f"{BOTH}.norm_out.gamma", f"{BOTH}.norm_out.weight"),
    rename(f"{MIDDLE}.attentions.#.norm.gamma", f"{MIDDLE}.attentions.#.norm.weight"),
    rename(f"{MIDDLE}.resnets.#.(norm1|norm2).gamma", f"{MIDDLE}.resnets.#.(norm1|norm2).weight"),
    rename(f"{DOWN}.resnets.#.(norm1|norm2).gamma", f"{DOWN}.resnets.#.(norm1|norm2).weight"),
    rename(f"{UP}.resnets.#.(norm1|norm2).gamma", f"{UP}.resnets.#.(norm1|norm2).weight"),
    rename(f"{BOTH}.(conv_in|conv_out).(weight|bias)", f"{BOTH}.(conv_in|conv_out).conv3d.(weight|bias)"),
    rename("(quant_conv|post_quant_conv).(weight|bias)", "(quant_conv|post_quant_conv).conv3d.(weight|bias)"),
    rename(
        f"{MIDDLE}.resnets.#.(conv1|conv2).(weight|bias)",
        f"{MIDDLE}.resnets.#.(conv1|conv2).conv3d.(weight|bias)",
    ),
    rename(f"{DOWN}.resnets.#.{CONVS}.(weight|bias)", f"{DOWN}.resnets.#.{CONVS}.conv3d.(weight|bias)"),
    rename(f"{UP}.resnets.#.{CONVS}.(weight|bias)", f"{UP}.resnets.#.{CONVS}.conv3d.(weight|bias)"),
    rename(
        f"{DOWN}.downsampler.time_conv.(weight|bias)", f"{DOWN}.downsampler.time_conv.conv3d.(weight|bias)"
    ),
    rename(f"{UP}.upsampler.time_conv.(weight|bias)", f"{UP}.upsampler.time_conv.conv3d.(weight|bias)"),
    rename(f"{DOWN}.downsampler.resample.1.(weight|bias)", f"{DOWN}.downsampler.resample_conv.(weight|bias)"),
    rename(f"{UP}.upsampler.resample.1.(weight|bias)", f"{UP}.upsampler.resample_conv.(weight|bias)"),
    names=(
        f"{BOTH}.norm_out.weight",
        f"{BOTH}.(conv_in|conv_out).conv3d.(weight|bias)",
        "(quant_conv|post_quant_conv).conv3d.(weight|bias)",
        f"{MIDDLE}.attentions.#.norm.weight",
        f"{MIDDLE}.attentions.#.(to_qkv|proj).(weight|bias)",
        f"{MIDDLE}.resnets.#.(norm1|norm2).weight",
        f"{MIDDLE}.resnets.#.(conv1|conv2).conv3d.(weight|bias)",
        f"{DOWN}.resnets.#.(norm1|norm2).weight",
        f"{DOWN}.resnets.#.{CONVS}.conv3d.(weight|bias)",
        f"{DOWN}.downsampler.(time_conv.conv3d|resample_conv).(weight|bias)",
        f"{UP}.resnets.#.(norm1|norm2).weight",
        f"{UP}.resnets.#.{CONVS}.conv3d.(weight|bias)",
        f"{UP}.upsampler.(time_conv.conv3d|resample_conv).(weight|bias)",
    ),
    casts=FLOAT16,
)

FIBO = ComponentFamily(
    "fibo",
    command="mflux-generate-fibo --model {model} --prompt 'A cat'",
    classes=("BriaFiboPipeline",),
    components={"transformer": TRANSFORMER, "vae": VAE, "text_encoder": TEXT_ENCODER},
)

VISION_PARTS = "(patch_embed|pos_embed|blocks|merger|deepstack_merger_list)"

FIBO_VLM = ComponentFamily(
    "fibo_vlm",
    components={
        "": component(
            "qwen3_vl",
            ROTARY,
            drop(
                "lm_head.weight",
                "mflux always uses the embedding",
                same_as=("model.language_model.embed_tokens.weight",),
            ),
            transpose("model.visual.patch_embed.proj.weight", "conv3d"),
            rename(f"model.visual.{VISION_PARTS}.**", f"{VISION_PARTS}.**"),
            rename("model.language_model.(embed_tokens|norm|layers).**", "(embed_tokens|norm|layers).**"),
            copy_if_missing("embed_tokens.weight", "lm_head.weight"),
            names=(
                "(embed_tokens|norm|lm_head|pos_embed).weight",
                f"{LAYER}.(input|post_attention)_layernorm.weight",
                f"{LAYER}.self_attn.(q|k|v|o)_proj.(weight|bias)",
                f"{LAYER}.self_attn.(q|k)_norm.weight",
                f"{LAYER}.mlp.(gate|up|down)_proj.(weight|bias)",
                "patch_embed.proj.(weight|bias)",
                "blocks.#.(norm1|norm2|attn.qkv|attn.proj|mlp.linear_fc1|mlp.linear_fc2).(weight|bias)",
                "merger.(norm|linear_fc1|linear_fc2).(weight|bias)",
                "deepstack_merger_list.#.(norm|linear_fc1|linear_fc2).(weight|bias)",
            ),
            casts=FLOAT16,
            command="mflux.models.fibo_vlm.model.fibo_vlm.FiboVLM(model_path='{model}')",
        )
    },
)
