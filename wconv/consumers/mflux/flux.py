"""mflux's layouts of FLUX.1 and FLUX.2."""

from __future__ import annotations

from wconv.consumers.component_family import ComponentFamily
from wconv.consumers.diffusers import black_forest_labs as bfl
from wconv.consumers.mflux.common import BFLOAT16, BOTH, KL_CONVOLUTIONS, KL_NAMES, QWEN3_TEXT, component
from wconv.layouts.rules import copy_if_missing, drop, rename

DOUBLE, SINGLE = "transformer_blocks.#", "single_transformer_blocks.#"
ATTENTION = "(to_q|to_k|to_v|to_out.0|add_q_proj|add_k_proj|add_v_proj|to_add_out)"
NORMS = "(norm_q|norm_k|norm_added_q|norm_added_k)"

FLUX_TRANSFORMER = component(
    "FluxTransformer2DModel",
    rename(
        f"{DOUBLE}.(ff|ff_context).net.0.proj.(weight|bias)",
        f"{DOUBLE}.(ff|ff_context).linear1.(weight|bias)",
    ),
    rename(
        f"{DOUBLE}.(ff|ff_context).net.2.(weight|bias)", f"{DOUBLE}.(ff|ff_context).linear2.(weight|bias)"
    ),
    names=(
        "(x_embedder|context_embedder|proj_out|norm_out.linear).(weight|bias)",
        "time_text_embed.(timestep|text|guidance)_embedder.(linear_1|linear_2).(weight|bias)",
        f"{DOUBLE}.(norm1|norm1_context).linear.(weight|bias)",
        f"{DOUBLE}.attn.{ATTENTION}.(weight|bias)",
        f"{DOUBLE}.attn.{NORMS}.weight",
        f"{DOUBLE}.(ff|ff_context).(linear1|linear2).(weight|bias)",
        f"{SINGLE}.(norm.linear|proj_mlp|proj_out|attn.to_q|attn.to_k|attn.to_v).(weight|bias)",
        f"{SINGLE}.attn.(norm_q|norm_k).weight",
    ),
    casts=BFLOAT16,
    alias_rules=(bfl.COMFY, *bfl.FLUX_RULES),
    sign=bfl.FLUX_SIGN,
)

FLUX_VAE = component(
    "AutoencoderKL",
    *KL_CONVOLUTIONS,
    rename(
        f"{BOTH}.(conv_in|conv_out).(weight|bias)", f"{BOTH}.(conv_in.conv2d|conv_out.conv2d).(weight|bias)"
    ),
    rename(f"{BOTH}.conv_norm_out.(weight|bias)", f"{BOTH}.conv_norm_out.norm.(weight|bias)"),
    names=(
        *KL_NAMES,
        f"{BOTH}.(conv_in.conv2d|conv_out.conv2d|conv_norm_out.norm).(weight|bias)",
        f"{BOTH}.mid_block.attentions.0.(group_norm|to_q|to_k|to_v|to_out.0).(weight|bias)",
    ),
    casts=BFLOAT16,
    alias_rules=bfl.AUTOENCODER_RULES,
    sign=bfl.AUTOENCODER_SIGN,
)

CLIP_LAYER = "text_model.encoder.layers.#"

CLIP = component(
    "clip_text_model",
    drop("text_model.embeddings.position_ids", "recomputed by mflux"),
    drop("text_projection.weight", "mflux needs the hidden states alone"),
    names=(
        "text_model.embeddings.(token_embedding|position_embedding).weight",
        f"{CLIP_LAYER}.self_attn.(q_proj|k_proj|v_proj|out_proj).(weight|bias)",
        f"{CLIP_LAYER}.(layer_norm1|layer_norm2|mlp.fc1|mlp.fc2).(weight|bias)",
        "text_model.final_layer_norm.(weight|bias)",
    ),
    casts=BFLOAT16,
    alias_rules=(
        rename(
            "(embeddings|encoder|final_layer_norm).**", "text_model.(embeddings|encoder|final_layer_norm).**"
        ),
    ),
)

T5_BLOCKS = 24
"""mflux's T5 has as many blocks, and each its own copy of the first one's position bias."""

POSITIONS = "attention.SelfAttention.relative_attention_bias.weight"

T5 = component(
    "t5",
    drop("encoder.embed_tokens.weight", "the same as shared.weight", same_as=("shared.weight",)),
    drop("decoder.**", "mflux needs the encoder alone"),
    drop("lm_head.weight", "mflux needs the encoder alone"),
    rename("encoder.final_layer_norm.weight", "final_layer_norm.weight"),
    rename("encoder.block.#.layer.0.layer_norm.weight", "t5_blocks.#.attention.layer_norm.weight"),
    rename("encoder.block.#.layer.0.SelfAttention.*.weight", "t5_blocks.#.attention.SelfAttention.*.weight"),
    rename("encoder.block.#.layer.1.**", "t5_blocks.#.ff.**"),
    *(
        copy_if_missing(f"t5_blocks.0.{POSITIONS}", f"t5_blocks.{at}.{POSITIONS}")
        for at in range(1, T5_BLOCKS)
    ),
    names=(
        "(shared|final_layer_norm).weight",
        "t5_blocks.#.(attention|ff).layer_norm.weight",
        "t5_blocks.#.attention.SelfAttention.(q|k|v|o|relative_attention_bias).weight",
        "t5_blocks.#.ff.DenseReluDense.(wi_0|wi_1|wo).weight",
    ),
    casts=BFLOAT16,
)

FLUX2_TRANSFORMER = component(
    "Flux2Transformer2DModel",
    drop("time_guidance_embed.guidance_embedder.**", "mflux's FLUX.2 takes no guidance"),
    rename(
        "time_guidance_embed.timestep_embedder.(linear_1|linear_2).weight",
        "time_guidance_embed.(linear_1|linear_2).weight",
    ),
    rename(f"{DOUBLE}.attn.to_out.0.weight", f"{DOUBLE}.attn.to_out.weight"),
    names=(
        "(x_embedder|context_embedder|proj_out|norm_out.linear|single_stream_modulation.linear).weight",
        "double_stream_modulation_(img|txt).linear.weight",
        "time_guidance_embed.(linear_1|linear_2).weight",
        f"{DOUBLE}.attn.(to_q|to_k|to_v|to_out|add_q_proj|add_k_proj|add_v_proj|to_add_out).weight",
        f"{DOUBLE}.attn.{NORMS}.weight",
        f"{DOUBLE}.(ff|ff_context).(linear_in|linear_out).weight",
        f"{SINGLE}.attn.(to_qkv_mlp_proj|norm_q|norm_k|to_out).weight",
    ),
    casts=BFLOAT16,
    alias_rules=(bfl.COMFY, *bfl.FLUX2_RULES),
    sign=bfl.FLUX2_SIGN,
)

ATTENTIONS = f"{BOTH}.mid_block.attentions.0"

FLUX2_VAE = component(
    "AutoencoderKLFlux2",
    drop("bn.num_batches_tracked", "counts training steps"),
    *KL_CONVOLUTIONS,
    rename(f"{ATTENTIONS}.to_out.0.(weight|bias)", f"{ATTENTIONS}.to_out.(weight|bias)"),
    names=(
        *KL_NAMES,
        "bn.(running_mean|running_var)",
        f"{BOTH}.(conv_in|conv_out|conv_norm_out).(weight|bias)",
        f"{ATTENTIONS}.(group_norm|to_q|to_k|to_v|to_out).(weight|bias)",
    ),
    casts=BFLOAT16,
    alias_rules=(*bfl.QUANTIZING, *bfl.AUTOENCODER_RULES),
    sign=bfl.FLUX2_AUTOENCODER_SIGN,
)

FLUX = ComponentFamily(
    "flux",
    command="mflux-generate --base-model dev --model {model} --prompt 'A cat'",
    classes=("FluxPipeline", "FluxKontextPipeline", "FluxFillPipeline", "FluxControlPipeline"),
    components={"transformer": FLUX_TRANSFORMER, "vae": FLUX_VAE, "text_encoder": CLIP, "text_encoder_2": T5},
)

FLUX2 = ComponentFamily(
    "flux2",
    command="mflux-generate-flux2 --model {model} --prompt 'A cat'",
    classes=("Flux2KleinPipeline", "Flux2Pipeline"),
    components={"transformer": FLUX2_TRANSFORMER, "vae": FLUX2_VAE, "text_encoder": QWEN3_TEXT},
)
