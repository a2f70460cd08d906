"""Where mflux says of which components its image models are made. Facts: mflux 0.24."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Model:
    """Where mflux says of which components a model is made.

    Attributes:
        definition: module and class, after `mflux.models.`.
        take: the class' methods that give them, each with its arguments; only `parts` of them.
        counts: component → blocks and layers, where mflux counts them in the checkpoint.
        modules: component → module and class that mflux puts it into, and a config.
        prefix: what the names of its published checkpoints begin with, where mflux takes several.
    """

    definition: str
    take: tuple[tuple[str, ...], ...] = (("get_components",),)
    parts: tuple[str, ...] = ()
    counts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    modules: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    prefix: str = ""


def _definition(folder: str, stem: str, cls: str) -> str:
    return f"{folder}.weights.{stem}_weight_definition:{cls}WeightDefinition"


IDEOGRAM4 = (
    "ideogram4.model.ideogram4_transformer:Ideogram4Transformer",
    "ideogram4.model.ideogram4_transformer:Ideogram4Config",
)
MING = "ming_image.model.ming_text_encoder"
VISION = {
    "depth": 2,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_heads": 2,
    "out_hidden_size": 8,
    "num_position_embeddings": 16,
    "deepstack_visual_indexes": [0, 1],
    "patch_size": 2,
    "temporal_patch_size": 2,
    "spatial_merge_size": 2,
    "in_channels": 3,
}
TEXT = {
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "attention_bias": False,
    "vocab_size": 16,
    "rope_theta": 5e6,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 32,
    "rope_scaling": {"mrope_section": [1, 1, 0]},
}
TRANSFORMER21 = {
    "num_layers": 3,
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "in_channels": 4,
    "out_channels": 4,
    "context_in_dim": 8,
    "axes_dims_rope": [2, 2, 4],
    "mlp_ratio": 2,
    "eps": 1e-6,
}
VAE21 = {
    "is_residual": True,
    "patch_size": None,
    "base_dim": 4,
    "decoder_base_dim": 4,
    "z_dim": 4,
    "in_channels": 4,
    "out_channels": 4,
    "num_res_blocks": 2,
    "dim_mult": [1, 2, 4, 4],
    "temporal_downsample": [False, True, True],
    "latents_mean": [0.0] * 4,
    "latents_std": [1.0] * 4,
}

MODELS: Mapping[str, Model] = {
    "anima": Model(
        _definition("anima", "anima", "Anima"),
        (("source_vae",), ("source_transformer", "anima-base"), ("source_text_encoder",)),
    ),
    "boogu": Model(_definition("boogu", "boogu", "Boogu")),
    "depth_pro": Model(_definition("depth_pro", "depth_pro", "DepthPro")),
    "ernie_image": Model(
        _definition("ernie_image", "ernie", "Ernie"),
        modules={
            "text_encoder": (
                "ernie_image.model.ernie_text_encoder.text_encoder:ErnieMistralTextEncoder",
                None,
            )
        },
    ),
    "fibo": Model(_definition("fibo", "fibo", "FIBO")),
    "fibo2": Model(
        _definition("fibo2", "fibo2", "Fibo2"),
        modules={
            "text_encoder": ("fibo2.model.fibo2_text_encoder.fibo2_text_encoder:Fibo2TextEncoder", None)
        },
        prefix="model.",
    ),
    "fibo_vlm": Model(_definition("fibo_vlm", "fibo_vlm", "FIBOVLM")),
    "flux": Model(
        _definition("flux", "flux", "Flux"), counts={"transformer": (3, 0), "clip_encoder": (0, 3)}
    ),
    "flux_controlnet": Model(
        _definition("flux", "flux", "FluxControlnet"),
        (("get_controlnet_component",),),
        counts={"transformer_controlnet": (3, 0)},
    ),
    "flux_redux": Model(
        _definition("flux", "flux", "FluxRedux"),
        modules={
            "siglip": (
                "flux.model.siglip_vision_transformer.siglip_vision_transformer:SiglipVisionTransformer",
                None,
            ),
            "redux_encoder": ("flux.model.redux_encoder.redux_encoder:ReduxEncoder", None),
        },
    ),
    "flux2": Model(
        _definition("flux2", "flux2", "Flux2Klein"), counts={"transformer": (3, 0), "text_encoder": (0, 3)}
    ),
    "flux3": Model(_definition("flux3", "flux3", "Flux3Klein")),
    "flux3_base": Model(_definition("flux3", "flux3", "Flux3KleinBase"), parts=("transformer",)),
    "ideogram4": Model(
        _definition("ideogram4", "ideogram4", "Ideogram4"),
        modules={
            "conditional_transformer": IDEOGRAM4,
            "unconditional_transformer": IDEOGRAM4,
            "text_encoder": ("ideogram4.model.ideogram4_text_encoder:Qwen3TextEncoder", None),
        },
    ),
    "iris": Model(_definition("iris", "iris", "Iris"), (("source_transformer",), ("source_text_encoder",))),
    "krea2": Model(
        _definition("krea2", "krea2", "Krea2"),
        (("_diffusers_transformer",), ("get_components",)),
        ("transformer", "vae", "text_encoder"),
        modules={"text_encoder": ("krea2.model.krea2_text_encoder.text_encoder:Krea2TextEncoder", None)},
        prefix="language_model.",
    ),
    "krea2_native": Model(_definition("krea2", "krea2", "Krea2"), (("_native_transformer",),)),
    "lens": Model(
        _definition("lens", "lens", "Lens"),
        modules={"transformer": ("lens.model.transformer.lens_transformer:LensTransformer", None)},
    ),
    "ming_image": Model(
        _definition("ming_image", "ming_image", "MingImage"),
        modules={
            "text_encoder": (f"{MING}.ling_moe_encoder:LingMoeEncoder", None),
            "connector": (f"{MING}.ming_connector:MingConnector", None),
            "heads": (f"{MING}.ming_condition_encoder:MingHeads", None),
        },
    ),
    "moss_image": Model(_definition("moss_image", "moss_image", "MOSSImage")),
    "qwen": Model(
        _definition("qwen", "qwen", "Qwen"), counts={"transformer": (3, 0), "text_encoder": (0, 3)}
    ),
    "qwen21": Model(_definition("qwen21", "qwen21", "Qwen21")),
    "qwen21_edit": Model(
        _definition("qwen21", "qwen_image21", "QwenImage21"),
        modules={
            "vae": ("qwen21.model.qwen21_vae.vae:QwenImage21VAE", VAE21),
            "transformer": (
                "qwen21.model.qwen21_transformer.qwen_image21_transformer:QwenImage21Transformer",
                TRANSFORMER21,
            ),
            "text_encoder": (
                "qwen21.model.qwen21_text_encoder.text_encoder:QwenImage21TextEncoder",
                {"text_config": TEXT, "vision_config": VISION, "image_token_id": 5},
            ),
        },
        prefix="model.",
    ),
    "qwen21_controlnet": Model(
        _definition("qwen21", "qwen_image21_controlnet", "QwenImage21Controlnet"),
        (("get_controlnet_component",),),
        modules={
            "controlnet": (
                "qwen21.variants.controlnet.qwen_image21_controlnet_transformer:QwenImage21ControlNet",
                TRANSFORMER21,
            )
        },
    ),
    "seedvr2_3b": Model("seedvr2.weights.seedvr2_weight_definition:SeedVR2WeightDefinition3B"),
    "seedvr2_7b": Model("seedvr2.weights.seedvr2_weight_definition:SeedVR2WeightDefinition7B"),
    "z_image": Model(_definition("z_image", "z_image", "ZImage")),
    "z_image_controlnet": Model(
        _definition("z_image", "z_image_controlnet", "ZImageControlnet"), (("get_controlnet_component",),)
    ),
}
"""Our name → where it is defined; the first words are the folder's name."""
