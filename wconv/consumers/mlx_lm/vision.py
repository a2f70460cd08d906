"""mlx-lm's layouts of vision-language models: the language model alone, when it is asked for."""

from __future__ import annotations

from wconv.consumers.mlx_lm.common import COMMAND, FP8, NO_HEAD, ROTARY
from wconv.consumers.mlx_vlm import tables as mlx_vlm
from wconv.consumers.mlx_vlm.gemma import LANGUAGE_3N
from wconv.layouts.apply import Layout
from wconv.layouts.rules import CopyRule, drop, rename

LANGUAGE = "language_model."
OTHER_PARTS = (
    drop("(vision_tower|audio_tower|multi_modal_projector).**", "mlx-lm reads text alone"),
    drop("(embed_vision|embed_audio).**", "mlx-lm reads text alone"),
    drop("image_newline", "mlx-lm reads text alone"),
)


def text_only(layout: Layout) -> Layout:
    """The language model of a model that mlx-lm loads in mlx-vlm's layout, too."""
    decoding = () if FP8 in layout.rules else (FP8,)
    rules = (*decoding, *(rule for rule in layout.rules if not isinstance(rule, CopyRule)))
    names = tuple(name for name in layout.names if name.startswith(LANGUAGE))
    return Layout(
        ("mlx-lm",), layout.model_types, names, (*rules, *OTHER_PARTS), layout.alias_rules, command=COMMAND
    )


PARTS_3N = "(vision_tower|audio_tower|embed_vision|embed_audio)"

GEMMA_3N = Layout(
    ("mlx-lm",),
    ("gemma3n",),
    tuple(name.replace("language_model.model.", "model.language_model.") for name in LANGUAGE_3N),
    (ROTARY, FP8, NO_HEAD, drop(f"model.{PARTS_3N}.**", "mlx-lm reads text alone")),
    (
        rename("language_model.model.**", "model.language_model.**"),
        rename(f"{PARTS_3N}.**", f"model.{PARTS_3N}.**"),
    ),
    command=COMMAND,
)
"""The hub's names are mlx-lm's; mlx-vlm's are taken, too."""

LAYOUTS = (
    *(text_only(layout) for layout in mlx_vlm.LAYOUTS if "mlx-lm" in layout.consumers),
    GEMMA_3N,
)
