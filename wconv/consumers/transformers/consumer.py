"""transformers as a consumer: it reads the hub's names and layouts, to which `--layout hf` leads back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wconv.consumers.consumer import Consumer

if TYPE_CHECKING:
    from wconv.consumers.known_models import KnownModels


def _known_models() -> KnownModels:
    from wconv.consumers.known_models import read

    return read("transformers")


TRANSFORMERS = Consumer(
    "transformers",
    "hf",
    "way back",
    output_suffix="HF",
    format="pt",
    command="transformers.AutoModel.from_pretrained('{model}')",
    known_models=_known_models,
    without_text=True,
)
