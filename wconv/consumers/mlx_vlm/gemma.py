"""mlx-vlm's layouts of Gemma 3n and Gemma 4: layers that share keys and values, experts, two encoders."""

from __future__ import annotations

from wconv.consumers.mlx_vlm.common import BOTH, COMMAND, EMBEDDINGS, ROTARY, TEXT
from wconv.layouts.apply import Layout
from wconv.layouts.conditions import When, setting
from wconv.layouts.rules import Rule, drop, rename, split, transpose

LAYER = "language_model.model.layers.#"
CLIPPED = "(input|output)_(max|min)"
UNCLIPPED = When(setting("vision_config.use_clipped_linears", False), False)
ENCODERS = "(vision_tower|audio_tower|embed_vision|embed_audio|multi_modal_projector)"
SHARED = "its layer uses the keys and values of an earlier one"

RULES: tuple[Rule, ...] = (
    ROTARY,
    rename(f"model.{ENCODERS}.**", f"{ENCODERS}.**"),
    rename("model.language_model.**", "language_model.model.**"),
    drop(f"language_model.**{CLIPPED}", "the language model does not clip"),
    drop(f"vision_tower.**{CLIPPED}", "this model's vision encoder does not clip", when=UNCLIPPED),
    drop(
        f"{LAYER}.self_attn.(k_proj|v_proj|k_norm|v_norm).**",
        SHARED,
        beyond=setting("num_hidden_layers - num_kv_shared_layers"),
    ),
    drop(
        "(language_model.lm_head|lm_head).weight",
        "the consumer always uses the embedding",
        same_as=EMBEDDINGS,
    ),
    split(
        f"{LAYER}.experts.gate_up_proj",
        (f"{LAYER}.experts.switch_glu.gate_proj.weight", f"{LAYER}.experts.switch_glu.up_proj.weight"),
        -2,
    ),
    rename(f"{LAYER}.experts.down_proj", f"{LAYER}.experts.switch_glu.down_proj.weight"),
    transpose("audio_tower.subsample_conv_projection.*.conv.weight", "conv2d"),
    transpose("audio_tower.**depthwise_conv1d.weight", "conv1d", last=1),
)

LAYER_3N_NAMES = (
    f"{LAYER}.altup.correct_output_scale",
    f"{LAYER}.altup.(correction_coefs|modality_router|prediction_coefs|router_norm).weight",
    f"{LAYER}.laurel.(linear_left|linear_right|post_laurel_norm).weight",
    f"{LAYER}.(per_layer_input_gate|per_layer_projection|post_per_layer_input_norm).weight",
)
LANGUAGE_3N = (
    *TEXT,
    "language_model.model.embed_tokens_per_layer.weight",
    "language_model.model.(per_layer_model_projection|per_layer_projection_norm).weight",
    "language_model.model.(altup_projections|altup_unembed_projections).#.weight",
    *LAYER_3N_NAMES,
)
MOBILE_NET = "vision_tower.timm_model"
BLOCK_3N = f"{MOBILE_NET}.blocks.#.#"
CONFORMER = "audio_tower.conformer.#"

GEMMA_3N = Layout(
    ("mlx-vlm",),
    ("gemma3n",),
    (
        *LANGUAGE_3N,
        "(embed_vision|embed_audio).(embedding|embedding_projection).weight",
        "(embed_vision|embed_audio).(hard_embedding_norm|soft_embedding_norm).weight",
        f"{MOBILE_NET}.conv_stem.(conv.weight|conv.bias|bn.weight)",
        f"{BLOCK_3N}.(conv_exp|conv_pwl|bn1|bn2|norm).weight",
        f"{BLOCK_3N}.(dw_start|dw_mid|pw_exp|pw_proj).(conv|bn).weight",
        f"{BLOCK_3N}.attn.(query|key|value|output).(proj|down_conv|norm).weight",
        f"{BLOCK_3N}.layer_scale.gamma",
        f"{MOBILE_NET}.msfa.ffn.(pw_exp|pw_proj).(conv|bn).weight",
        f"{MOBILE_NET}.msfa.norm.weight",
        f"{CONFORMER}.attention.attn.(q_proj|k_proj|v_proj|relative_position_embedding.pos_proj).weight",
        f"{CONFORMER}.attention.attn.per_dim_scale",
        f"{CONFORMER}.attention.(post|post_norm|pre_attn_norm).weight",
        f"{CONFORMER}.(ffw_layer_start|ffw_layer_end).(ffw_layer_1|ffw_layer_2).weight",
        f"{CONFORMER}.(ffw_layer_start|ffw_layer_end).(pre_layer_norm|post_layer_norm).weight",
        f"{CONFORMER}.lconv1d.(conv_norm|depthwise_conv1d|linear_start|linear_end|pre_layer_norm).weight",
        f"{CONFORMER}.norm.weight",
        "audio_tower.subsample_conv_projection.(conv_0|conv_1).(conv|norm).weight",
        "audio_tower.subsample_conv_projection.input_proj_linear.weight",
    ),
    (
        ROTARY,
        rename(f"model.{ENCODERS}.**", f"{ENCODERS}.**"),
        rename("model.language_model.**", "language_model.model.**"),
        drop(
            "(language_model.lm_head|lm_head).weight",
            "the consumer always uses the embedding",
            same_as=EMBEDDINGS,
        ),
        transpose(f"{MOBILE_NET}.**(conv|conv_exp|conv_pwl).weight", "conv2d"),
        transpose(f"{MOBILE_NET}.**attn.*.proj.weight", "conv2d"),
        transpose("audio_tower.subsample_conv_projection.*.conv.weight", "conv2d"),
        transpose("audio_tower.**depthwise_conv1d.weight", "conv1d"),
    ),
    command=COMMAND,
)
"""mlx-lm keeps the hub's names of this model's language part, so it has a table of its own for it."""

LAYOUTS = (
    GEMMA_3N,
    Layout(
        BOTH,
        ("gemma4",),
        (
            *TEXT,
            "language_model.model.embed_tokens_per_layer.weight",
            "language_model.model.(per_layer_model_projection|per_layer_projection_norm).weight",
            f"{LAYER}.layer_scalar",
            f"{LAYER}.(per_layer_input_gate|per_layer_projection|post_per_layer_input_norm).weight",
            f"{LAYER}.(post_feedforward_layernorm_1|post_feedforward_layernorm_2).weight",
            f"{LAYER}.pre_feedforward_layernorm_2.weight",
            f"{LAYER}.router.(per_expert_scale|proj.weight|scale)",
            f"{LAYER}.experts.switch_glu.(gate|up|down)_proj.weight",
            "(embed_vision|embed_audio).embedding_projection.weight",
            "vision_tower.(std_bias|std_scale)",
            "vision_tower.patch_embedder.(input_proj.weight|position_embedding_table)",
            "vision_tower.encoder.layers.#.(self_attn|mlp).*.linear.weight",
            f"vision_tower.encoder.layers.#.(self_attn|mlp).*.{CLIPPED}",
            "vision_tower.encoder.layers.#.self_attn.(q|k)_norm.weight",
            "vision_tower.encoder.layers.#.(input|post_attention)_layernorm.weight",
            "vision_tower.encoder.layers.#.(pre|post)_feedforward_layernorm.weight",
            "audio_tower.**",
        ),
        RULES,
        command=COMMAND,
    ),
)
