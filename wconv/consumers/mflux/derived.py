"""mflux's models whose tables were read off its own mappings: `python -m tests.derive.mflux`.

Which pipeline is which model, and of what class each component is: as in diffusers.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace

from wconv.consumers import table_files
from wconv.consumers.component_family import ComponentFamily
from wconv.layouts.apply import Layout


@dataclass(frozen=True, slots=True)
class DerivedFamily:
    """A model of which tables are files.

    Attributes:
        name: the model's, with which its files' names begin.
        program: mflux's, that makes images with it.
        classes: of its pipelines.
        components: sub-directory → (its file's second word, what its config.json says that it is).
    """

    name: str
    program: str
    classes: tuple[str, ...]
    components: Mapping[str, tuple[str, tuple[str, ...]]]


ROWS = (
    DerivedFamily(
        "qwen21",
        "mflux-generate-qwen-2.1",
        ("QwenImage21Pipeline",),
        {
            "transformer": ("transformer", ("QwenImage21Transformer2DModel",)),
            "vae": ("vae", ("AutoencoderKLQwenImage21",)),
            "text_encoder": ("text_encoder", ("qwen3_vl",)),
        },
    ),
)
"""The models of which every component has a table, and of which the pipeline's class is known."""


@functools.cache
def families() -> tuple[ComponentFamily, ...]:
    """Every model that has files."""
    return tuple(_family(row) for row in ROWS)


def _family(row: DerivedFamily) -> ComponentFamily:
    command = f"{row.program} --model {{model}} --prompt 'A cat'"
    found = {where: _layout(row.name, *told) for where, told in row.components.items()}
    return ComponentFamily(row.name, found, row.classes, command=command)


def _layout(family: str, component: str, kinds: tuple[str, ...]) -> Layout:
    layout = table_files.find("mflux", f"{family}.{component}")
    assert layout is not None, family
    return replace(layout, model_types=kinds, command="mflux, as a component of a model: {model}")
