"""What the program "toy" expects of its one model."""

from __future__ import annotations

from wconv.layouts.apply import Layout
from wconv.layouts.rules import rename, transpose

LAYOUTS = (
    Layout(
        consumers=("toy",),
        model_types=("toy_model",),
        names=("blocks.#.weight",),
        rules=(rename("layers.#.weight", "blocks.#.weight"), transpose("blocks.#.weight", "matrix")),
        command="toy run {model}",
    ),
)
