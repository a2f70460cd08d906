"""diffusers as a consumer: the components of image models, from the single files of their makers.

Facts on adapters: diffusers 0.42.1, `loaders/lora_pipeline.py`, `utils/peft_utils.py`. Its own files keep
PEFT's settings in the header, under `lora_adapter_metadata`; an `.alpha` beside its own names is heeded for
FLUX.1 and spoils the names of others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wconv.consumers.adapters.naming import Naming
from wconv.consumers.consumer import Consumer
from wconv.consumers.peft.consumer import KEYS

if TYPE_CHECKING:
    from wconv.consumers.component_family import ComponentFamily


def _families() -> tuple[ComponentFamily, ...]:
    from wconv.consumers.diffusers.tables import families

    return families()


DIFFUSERS = Consumer(
    "diffusers",
    "diffusers",
    "by name",
    output_suffix="diffusers",
    format="pt",
    families=_families,
    pipeline_command="diffusers.DiffusionPipeline.from_pretrained('{model}')",
    file_stem="diffusion_pytorch_model",
    adapter_naming=Naming(
        "diffusers",
        "diffusers",
        KEYS,
        dict.fromkeys(("main", "clip", "clip_l", "t5xxl"), "{}."),
        "metadata",
        filename="pytorch_lora_weights.safetensors",
        command="pipeline.load_lora_weights('{model}')",
    ),
)
