"""diffusers' layout of the single files that Black Forest Labs publish."""

from __future__ import annotations

from wconv.consumers.component_family import ComponentFamily
from wconv.consumers.diffusers import black_forest_labs as bfl
from wconv.consumers.mflux.common import BOTH, KL_NAMES
from wconv.layouts.apply import Layout
from wconv.layouts.rules import Rule

COMMAND = "diffusers, as a component of a pipeline: {model}"
DOUBLE, SINGLE = "transformer_blocks.#", "single_transformer_blocks.#"
NORMS = "(norm_q|norm_k|norm_added_q|norm_added_k)"
ATTENTION = "(to_q|to_k|to_v|to_out.0|add_q_proj|add_k_proj|add_v_proj|to_add_out)"


def component(kind: str, rules: tuple[Rule, ...], sign: tuple[str, ...], names: tuple[str, ...]) -> Layout:
    """The layout of one component: its class, rules, names that tell it, and all names that it may have."""
    return Layout(("diffusers",), (kind,), names, rules, (bfl.COMFY,), sign, COMMAND)


AUTOENCODER = (
    *KL_NAMES,
    f"{BOTH}.(conv_in|conv_out|conv_norm_out).(weight|bias)",
    f"{BOTH}.mid_block.attentions.0.(group_norm|to_q|to_k|to_v|to_out.0).(weight|bias)",
)

FLUX = ComponentFamily(
    "flux",
    {
        "transformer": component(
            "FluxTransformer2DModel",
            bfl.FLUX_RULES,
            bfl.FLUX_SIGN,
            (
                "(x_embedder|context_embedder|proj_out|norm_out.linear).(weight|bias)",
                "time_text_embed.(timestep|text|guidance)_embedder.(linear_1|linear_2).(weight|bias)",
                f"{DOUBLE}.(norm1|norm1_context).linear.(weight|bias)",
                f"{DOUBLE}.attn.{ATTENTION}.(weight|bias)",
                f"{DOUBLE}.attn.{NORMS}.weight",
                f"{DOUBLE}.(ff|ff_context).(net.0.proj|net.2).(weight|bias)",
                f"{SINGLE}.(norm.linear|proj_mlp|proj_out|attn.to_q|attn.to_k|attn.to_v).(weight|bias)",
                f"{SINGLE}.attn.(norm_q|norm_k).weight",
            ),
        ),
        "vae": component("AutoencoderKL", bfl.AUTOENCODER_RULES, bfl.AUTOENCODER_SIGN, AUTOENCODER),
    },
)

FLUX2 = ComponentFamily(
    "flux2",
    {
        "transformer": component(
            "Flux2Transformer2DModel",
            bfl.FLUX2_RULES,
            bfl.FLUX2_SIGN,
            (
                "(x_embedder|context_embedder|proj_out|norm_out.linear).weight",
                "(double_stream_modulation_img|double_stream_modulation_txt|single_stream_modulation).linear.weight",
                "time_guidance_embed.(timestep|guidance)_embedder.(linear_1|linear_2).weight",
                f"{DOUBLE}.attn.{ATTENTION}.weight",
                f"{DOUBLE}.attn.{NORMS}.weight",
                f"{DOUBLE}.(ff|ff_context).(linear_in|linear_out).weight",
                f"{SINGLE}.attn.(to_qkv_mlp_proj|norm_q|norm_k|to_out).weight",
            ),
        ),
        "vae": component(
            "AutoencoderKLFlux2",
            (*bfl.QUANTIZING, *bfl.AUTOENCODER_RULES),
            bfl.FLUX2_AUTOENCODER_SIGN,
            (*AUTOENCODER, "bn.(running_mean|running_var|num_batches_tracked)"),
        ),
    },
)
