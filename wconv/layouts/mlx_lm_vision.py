"""mlx-lm's layouts of vision-language models: the language model alone, when it is asked for."""

from __future__ import annotations

from wconv.layouts import mlx_vlm
from wconv.layouts.engine import Layout
from wconv.layouts.mlx_lm_common import COMMAND
from wconv.layouts.rules import Copy, drop

LANGUAGE = "language_model."
OTHER_PARTS = (
    drop("(vision_tower|audio_tower|multi_modal_projector).**", "mlx-lm reads text alone"),
    drop("(embed_vision|embed_audio).**", "mlx-lm reads text alone"),
    drop("image_newline", "mlx-lm reads text alone"),
)


def text_only(layout: Layout) -> Layout:
    """The language model of a model that mlx-lm loads in mlx-vlm's layout, too."""
    rules = tuple(rule for rule in layout.rules if not isinstance(rule, Copy))
    names = tuple(name for name in layout.names if name.startswith(LANGUAGE))
    return Layout(
        ("mlx-lm",), layout.model_types, names, (*rules, *OTHER_PARTS), layout.spellings, command=COMMAND
    )


LAYOUTS = tuple(text_only(layout) for layout in mlx_vlm.LAYOUTS if "mlx-lm" in layout.consumers)
