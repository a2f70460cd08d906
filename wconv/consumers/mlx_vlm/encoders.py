"""mlx-vlm's layouts of models that join a language model to a CLIP, SigLIP or Pixtral vision encoder."""

from __future__ import annotations

from wconv.consumers.mlx_lm.common import FP8
from wconv.consumers.mlx_vlm.common import (
    BOTH,
    COMMAND,
    NO_HEAD,
    POSITIONS,
    ROTARY,
    TEXT,
    channels,
    tied_head,
)
from wconv.layouts.apply import Layout
from wconv.layouts.computed.scaled import dequantized
from wconv.layouts.conditions import setting
from wconv.layouts.rules import Rule, compute, copy_if_missing, drop, rename, split, stack, transpose


def clip(prefix: str) -> tuple[str, ...]:
    """The tensors of a CLIP or SigLIP encoder, and of the like."""
    return (
        f"{prefix}.embeddings.class_embedding",
        f"{prefix}.embeddings.(patch|position)_embedding.(weight|bias)",
        f"{prefix}.(pre_layrnorm|post_layernorm).(weight|bias)",
        f"{prefix}.encoder.layers.#.layer_norm(1|2).(weight|bias)",
        f"{prefix}.encoder.layers.#.self_attn.(q|k|v|out)_proj.(weight|bias)",
        f"{prefix}.encoder.layers.#.mlp.fc(1|2).(weight|bias)",
    )


NESTED: tuple[Rule, ...] = (
    rename("model.(vision_tower|multi_modal_projector).**", "(vision_tower|multi_modal_projector).**"),
    rename("model.image_newline", "image_newline"),
    rename("model.language_model.**", "language_model.model.**"),
    rename("lm_head.**", "language_model.lm_head.**"),
)
"""Since transformers 4.52 both parts lie in one `model`, unless it saves the older names for them."""

TOWER: tuple[Rule, ...] = (
    *NESTED,
    rename(
        "vision_tower.(embeddings|encoder|post_layernorm|pre_layrnorm|head).**",
        "vision_tower.vision_model.(embeddings|encoder|post_layernorm|pre_layrnorm|head).**",
    ),
)
"""transformers 5 leaves a module around the encoder out."""

VISION = clip("vision_tower.vision_model")
PROJECTOR = (*TEXT, *VISION, "multi_modal_projector.linear_(1|2).(weight|bias)", "image_newline")
POOLED = drop("vision_tower.vision_model.head.**", "the pooled output is not used")


def patches(name: str) -> Rule:
    """The first convolution of a vision encoder."""
    return transpose(name, "conv2d", last=channels())


def tower(
    *model_types: str,
    names: tuple[str, ...] = PROJECTOR,
    rules: tuple[Rule, ...] = (),
    consumers: tuple[str, ...] = ("mlx-vlm",),
) -> Layout:
    """A model with its encoder in `vision_tower.vision_model`."""
    return Layout(
        consumers,
        model_types,
        names,
        (ROTARY, POSITIONS, patches("vision_tower.vision_model.embeddings.patch_embedding.weight"), *rules),
        TOWER,
        command=COMMAND,
    )


def idefics(*model_types: str) -> Layout:
    """Idefics and its descendants, whose language model has no inner module."""
    return Layout(
        ("mlx-vlm",),
        model_types,
        (
            *clip("vision_model"),
            "language_model.(embed_tokens|norm|lm_head).weight",
            "language_model.layers.#.self_attn.(q|k|v|o)_proj.(weight|bias)",
            "language_model.layers.#.mlp.(gate|up|down)_proj.(weight|bias)",
            "language_model.layers.#.(input|post_attention)_layernorm.weight",
            "connector.modality_projection.(proj|gate_proj|up_proj|down_proj).(weight|bias)",
            "connector.perceiver_resampler.latents",
            "connector.perceiver_resampler.norm.weight",
            "connector.perceiver_resampler.layers.#.self_attn.(q|k|v|o)_proj.(weight|bias)",
            "connector.perceiver_resampler.layers.#.mlp.(gate|up|down)_proj.(weight|bias)",
            "connector.perceiver_resampler.layers.#.(input_context|input_latents)_norm.weight",
            "connector.perceiver_resampler.layers.#.post_attention_layernorm.weight",
        ),
        (
            ROTARY,
            POSITIONS,
            rename("model.text_model.**", "language_model.**"),
            rename("model.(vision_model|connector).**", "(vision_model|connector).**"),
            rename("lm_head.**", "language_model.lm_head.**"),
            copy_if_missing("language_model.embed_tokens.weight", "language_model.lm_head.weight"),
            patches("vision_model.embeddings.patch_embedding.weight"),
        ),
        command=COMMAND,
    )


PIXTRAL = "vision_tower.(transformer|patch_conv|ln_pre).**"

MLP = "language_model.model.layers.#.mlp"
EXPERTS = f"{MLP}.experts"
SWITCH = f"{MLP}.switch_mlp"

MISTRAL4 = (
    f"{MLP}.gate.weight",
    f"{MLP}.shared_experts.(gate|up|down)_proj.weight",
    f"{SWITCH}.(gate|up|down)_proj.weight",
    "language_model.model.layers.#.self_attn.(q_a|q_b|kv_b)_proj.(weight|bias)",
    "language_model.model.layers.#.self_attn.kv_a_proj_with_mqa.(weight|bias)",
    "language_model.model.layers.#.self_attn.(q_a|kv_a)_layernorm.weight",
)
"""What the language model has more in Mistral 4; mlx-lm splits `kv_b_proj` as it loads."""

EXPERT_RULES: tuple[Rule, ...] = (
    drop(f"{EXPERTS}.(gate_up|down)_proj_activation_scale", "not used by the consumer"),
    compute(
        f"{EXPERTS}.(gate_up|down)_proj",
        f"{EXPERTS}.(gate_up|down)_proj_scale_inv",
        "dequantized",
        dequantized,
    ),
    stack(
        f"{EXPERTS}.{{e}}.(gate|up|down)_proj.weight",
        f"{SWITCH}.(gate|up|down)_proj.weight",
        count=setting("n_routed_experts|num_local_experts"),
    ),
    split(f"{EXPERTS}.gate_up_proj", (f"{SWITCH}.gate_proj.weight", f"{SWITCH}.up_proj.weight"), -2),
    rename(f"{EXPERTS}.down_proj", f"{SWITCH}.down_proj.weight"),
)

MISTRAL3 = Layout(
    BOTH,
    ("mistral3", "pixtral"),
    (
        *TEXT,
        *MISTRAL4,
        "vision_tower.vision_model.(patch_conv|ln_pre).weight",
        "vision_tower.vision_model.transformer.layers.#.attention.(q|k|v|o)_proj.weight",
        "vision_tower.vision_model.transformer.layers.#.feed_forward.(gate|up|down)_proj.weight",
        "vision_tower.vision_model.transformer.layers.#.(attention_norm|ffn_norm).weight",
        "multi_modal_projector.(linear_1|linear_2).(weight|bias)",
        "multi_modal_projector.(norm|patch_merger.merging_layer).weight",
    ),
    (
        ROTARY,
        POSITIONS,
        drop("**.activation_scale", "not used by the consumer"),
        FP8,
        *EXPERT_RULES,
        rename(PIXTRAL, "vision_tower.vision_model.(transformer|patch_conv|ln_pre).**"),
        tied_head(False),
        patches("vision_tower.vision_model.patch_conv.weight"),
    ),
    (
        rename("model.vision_encoder.**", "vision_tower.**"),
        rename("model.vision_projection.**", "multi_modal_projector.**"),
        *NESTED,
    ),
    command=COMMAND,
)

INTERNVL = Layout(
    ("mlx-vlm",),
    ("internvl",),
    (
        *TEXT,
        "vision_tower.embeddings.(cls_token|mask_token|position_embeddings)",
        "vision_tower.embeddings.patch_embeddings.projection.(weight|bias)",
        "vision_tower.encoder.layer.#.attention.(q_proj|k_proj|v_proj|projection_layer).(weight|bias)",
        "vision_tower.encoder.layer.#.attention.(q|k)_norm.weight",
        "vision_tower.encoder.layer.#.(lambda_1|lambda_2)",
        "vision_tower.encoder.layer.#.layernorm_(before|after).(weight|bias)",
        "vision_tower.encoder.layer.#.mlp.fc(1|2).(weight|bias)",
        "vision_tower.layernorm.(weight|bias)",
        "multi_modal_projector.(layer_norm|linear_1|linear_2).(weight|bias)",
    ),
    (
        ROTARY,
        POSITIONS,
        tied_head(False),
        patches("vision_tower.embeddings.patch_embeddings.projection.weight"),
    ),
    (
        rename("language_model.model.model.**", "language_model.model.**"),
        rename("language_model.model.lm_head.**", "language_model.lm_head.**"),
        *NESTED,
    ),
    command=COMMAND,
)

MLLAMA = Layout(
    ("mlx-vlm",),
    ("mllama",),
    (
        *TEXT,
        "language_model.model.layers.#.cross_attn.(q|k|v|o)_proj.weight",
        "language_model.model.layers.#.cross_attn.(q|k)_norm.weight",
        "language_model.model.layers.#.cross_attn_(attn|mlp)_gate",
        "vision_tower.class_embedding",
        "vision_tower.patch_embedding.weight",
        "vision_tower.(layernorm_pre|layernorm_post).(weight|bias)",
        "vision_tower.gated_positional_embedding.(gate|embedding|tile_embedding.weight)",
        "vision_tower.(pre|post)_tile_positional_embedding.(gate|embedding.weight)",
        "vision_tower.(transformer|global_transformer).layers.#.self_attn.(q|k|v|o)_proj.weight",
        "vision_tower.(transformer|global_transformer).layers.#.mlp.fc(1|2).(weight|bias)",
        "vision_tower.(transformer|global_transformer).layers.#.(input|post_attention)_layernorm.(weight|bias)",
        "vision_tower.global_transformer.layers.#.(gate_attn|gate_ffn)",
        "multi_modal_projector.(weight|bias)",
    ),
    (
        ROTARY,
        POSITIONS,
        rename("vision_model.**", "vision_tower.**"),
        patches("vision_tower.patch_embedding.weight"),
    ),
    (rename("model.vision_model.**", "vision_model.**"), *NESTED),
    command=COMMAND,
)

LAYOUTS = (
    tower("llava", rules=(POOLED, tied_head(False)), consumers=BOTH),
    tower("llava_next", rules=(POOLED, tied_head(False))),
    tower(
        "paligemma",
        names=(*TEXT, *VISION, "multi_modal_projector.linear.(weight|bias)"),
        rules=(POOLED, NO_HEAD),
    ),
    tower(
        "gemma3",
        names=(
            *TEXT,
            *VISION,
            "multi_modal_projector.mm_input_projection_weight",
            "multi_modal_projector.mm_soft_emb_norm.weight",
        ),
        rules=(
            POOLED,
            copy_if_missing("language_model.model.embed_tokens.weight", "language_model.lm_head.weight"),
        ),
        consumers=BOTH,
    ),
    tower(
        "llava_onevision",
        names=(
            *PROJECTOR,
            "vision_tower.vision_model.head.probe",
            "vision_tower.vision_model.head.attention.(in_proj|out_proj).(weight|bias)",
            "vision_tower.vision_model.head.(layernorm|mlp.fc1|mlp.fc2).(weight|bias)",
        ),
        rules=(
            tied_head(False),
            rename(
                "vision_tower.vision_model.head.attention.in_proj_(weight|bias)",
                "vision_tower.vision_model.head.attention.in_proj.(weight|bias)",
            ),
        ),
    ),
    tower(
        "aya_vision",
        "cohere2_vision",
        names=(*PROJECTOR, "multi_modal_projector.layernorm.(weight|bias)"),
        rules=(POOLED, NO_HEAD),
    ),
    idefics("idefics3", "smolvlm"),
    idefics("idefics2"),
    MISTRAL3,
    INTERNVL,
    MLLAMA,
)
