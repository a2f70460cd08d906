"""mlx-examples' T5, CLIP and Stable Diffusion: their layouts are files, `tables/<model>.<component>.toml`.

T5 and CLIP have the names of their modules, for `load_weights`. Other programs run parts of pipelines of the
same model types, so that these are for whoever asks for them. In Stable Diffusion convolutions of one pixel
are linear layers, and a gated unit's two halves are two layers.
"""

from __future__ import annotations

import functools

from wconv.consumers.component_family import ComponentFamily, FamilyOfFiles

ROWS = (
    FamilyOfFiles("t5", ("",)),
    FamilyOfFiles("clip", ("",)),
    FamilyOfFiles(
        "stable_diffusion",
        ("unet", "vae", "text_encoder", "text_encoder_2"),
        {"text_encoder_2": "stable_diffusion.text_encoder"},
        classes=("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "StableDiffusionXLPipeline"),
    ),
)


@functools.cache
def families() -> tuple[ComponentFamily, ...]:
    """The models that may be parts of pipelines, or are one."""
    return tuple(row.read("mlx_examples") for row in ROWS)
