"""mlx-vlm's layouts of models whose PyTorch code lies beside their published weights."""

from __future__ import annotations

from wconv.consumers.mlx_lm.common import BLOCK
from wconv.consumers.mlx_vlm.common import COMMAND, POSITIONS, ROTARY, TEXT, channels, tied_head
from wconv.consumers.mlx_vlm.encoders import clip
from wconv.layouts.apply import Layout
from wconv.layouts.rules import transpose

PHI3_VISION = "model.vision_embed_tokens"
PHI3_CLIP = f"{PHI3_VISION}.img_processor.vision_model"
INTERN_VIT = "vision_model.encoder.layers.#"

LAYOUTS = (
    Layout(
        ("mlx-vlm",),
        ("phi3_v",),
        (
            *BLOCK,
            *clip(PHI3_CLIP),
            f"{PHI3_VISION}.(glb_GN|sub_GN)",
            f"{PHI3_VISION}.img_projection.#.(weight|bias)",
        ),
        (
            ROTARY,
            POSITIONS,
            transpose(f"{PHI3_CLIP}.embeddings.patch_embedding.weight", "conv2d", last=channels()),
        ),
        command=COMMAND,
    ),
    Layout(
        ("mlx-vlm",),
        ("internvl_chat",),
        (
            *TEXT,
            "vision_model.embeddings.(class_embedding|position_embedding)",
            "vision_model.embeddings.patch_embedding.(weight|bias)",
            f"{INTERN_VIT}.attn.(qkv|proj).(weight|bias)",
            f"{INTERN_VIT}.attn.(q|k)_norm.weight",
            f"{INTERN_VIT}.mlp.fc(1|2).(weight|bias)",
            f"{INTERN_VIT}.norm(1|2).(weight|bias)",
            f"{INTERN_VIT}.(ls1|ls2)",
            "mlp1.#.(weight|bias)",
        ),
        (
            ROTARY,
            POSITIONS,
            tied_head(False),
            transpose("vision_model.embeddings.patch_embedding.weight", "conv2d", last=channels()),
        ),
        command=COMMAND,
    ),
)
