"""mlx-vlm's layout of Gemma 4: layers that share keys and values, experts, two encoders."""

from __future__ import annotations

from wconv.layouts.engine import Layout
from wconv.layouts.mlx_vlm_common import BOTH, COMMAND, ROTARY, TEXT
from wconv.layouts.rules import Rule, drop, rename, split, transpose
from wconv.layouts.settings import When, setting

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
    drop("(language_model.lm_head|lm_head).weight", "the consumer always uses the embedding"),
    split(
        f"{LAYER}.experts.gate_up_proj",
        (f"{LAYER}.experts.switch_glu.gate_proj.weight", f"{LAYER}.experts.switch_glu.up_proj.weight"),
        -2,
    ),
    rename(f"{LAYER}.experts.down_proj", f"{LAYER}.experts.switch_glu.down_proj.weight"),
    transpose("audio_tower.subsample_conv_projection.*.conv.weight", "conv2d"),
    transpose("audio_tower.**depthwise_conv1d.weight", "conv1d", last=1),
)

LAYOUTS = (
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
