"""The layouts of mlx-examples' T5 and CLIP: the names of their modules, for `load_weights`.

Other programs run parts of pipelines of the same model types, so that these are for whoever asks for them.
"""

from __future__ import annotations

from wconv.consumers.component_family import ComponentFamily
from wconv.layouts.apply import Layout
from wconv.layouts.conditions import setting, tied
from wconv.layouts.file_form import Form
from wconv.layouts.rules import drop, rename, transpose

COMMAND = "model.load_weights('{model}/model.safetensors')"
ONE_FILE = Form("model.safetensors", 1 << 62, {"format": "mlx"})

SIDES = "(encoder|decoder)"
BLOCK, LAYER = "block.#.layer", "layers.#"
HEADS, PROJECTIONS = "(q|k|v|o)", "(query_proj|key_proj|value_proj|out_proj)"
DENSE = "(wi|wi_0|wi_1|wo)"

T5_LAYOUT = Layout(
    ("mlx-examples",),
    ("t5",),
    (
        "wte.weight",
        "lm_head.linear.weight",
        f"{SIDES}.ln.weight",
        f"{SIDES}.relative_attention_bias.embeddings.weight",
        f"{SIDES}.{LAYER}.(ln1|ln2|ln3).weight",
        f"{SIDES}.{LAYER}.dense.{DENSE}.weight",
        f"encoder.{LAYER}.attention.{PROJECTIONS}.weight",
        f"decoder.{LAYER}.(self_attention|cross_attention).{PROJECTIONS}.weight",
    ),
    (
        drop(f"{SIDES}.embed_tokens.weight", "the same as shared.weight", same_as=("shared.weight",)),
        drop("lm_head.weight", "tied to the embedding", same_as=("shared.weight",), when=tied(True)),
        drop("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight", "never used"),
        rename("shared.weight", "wte.weight"),
        rename("lm_head.weight", "lm_head.linear.weight"),
        rename(f"{SIDES}.final_layer_norm.weight", f"{SIDES}.ln.weight"),
        rename(
            f"{SIDES}.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
            f"{SIDES}.relative_attention_bias.embeddings.weight",
        ),
        rename(
            f"{SIDES}.{BLOCK}.(0.layer_norm|1.layer_norm|2.layer_norm).weight",
            f"{SIDES}.{LAYER}.(ln1|ln2|ln3).weight",
        ),
        rename(
            f"encoder.{BLOCK}.0.SelfAttention.{HEADS}.weight",
            f"encoder.{LAYER}.attention.{PROJECTIONS}.weight",
        ),
        rename(
            f"decoder.{BLOCK}.(0.SelfAttention|1.EncDecAttention).{HEADS}.weight",
            f"decoder.{LAYER}.(self_attention|cross_attention).{PROJECTIONS}.weight",
        ),
        rename(f"encoder.{BLOCK}.1.DenseReluDense.{DENSE}.weight", f"encoder.{LAYER}.dense.{DENSE}.weight"),
        rename(f"decoder.{BLOCK}.2.DenseReluDense.{DENSE}.weight", f"decoder.{LAYER}.dense.{DENSE}.weight"),
    ),
    command=COMMAND,
    form=ONE_FILE,
)

MODELS = "(text_model|vision_model)"
CLIP_LAYER = f"{MODELS}.encoder.layers.#"

CLIP_LAYOUT = Layout(
    ("mlx-examples",),
    ("clip",),
    (
        "logit_scale",
        "(text_projection|visual_projection).weight",
        "text_model.embeddings.(token_embedding|position_embedding).weight",
        "text_model.final_layer_norm.(weight|bias)",
        "vision_model.embeddings.class_embedding",
        "vision_model.embeddings.(patch_embedding|position_embedding).weight",
        "vision_model.(pre_layrnorm|post_layernorm).(weight|bias)",
        f"{CLIP_LAYER}.self_attn.(q_proj|k_proj|v_proj|out_proj).(weight|bias)",
        f"{CLIP_LAYER}.(layer_norm1|layer_norm2|mlp.fc1|mlp.fc2).(weight|bias)",
    ),
    (
        drop("**.position_ids", "recomputed by the consumer"),
        transpose(
            "vision_model.embeddings.patch_embedding.weight",
            "conv2d",
            last=setting("vision_config.num_channels", 3),
        ),
    ),
    command=COMMAND,
    form=ONE_FILE,
)

T5 = ComponentFamily("t5", {"": T5_LAYOUT})
CLIP = ComponentFamily("clip", {"": CLIP_LAYOUT})
