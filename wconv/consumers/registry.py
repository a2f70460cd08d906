"""The consumers: the one list of the programs that wconv writes for.

A new one is a folder with a `consumer.py`, an import and a row here. Nothing heavy is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from wconv.consumers.adapters.naming import Naming
from wconv.consumers.black_forest_labs.consumer import BLACK_FOREST_LABS
from wconv.consumers.comfyui.consumer import COMFYUI
from wconv.consumers.consumer import Consumer, Role
from wconv.consumers.diffusers.consumer import DIFFUSERS
from wconv.consumers.kohya.consumer import KOHYA
from wconv.consumers.mflux.consumer import MFLUX
from wconv.consumers.mlx_audio.consumer import MLX_AUDIO
from wconv.consumers.mlx_embeddings.consumer import MLX_EMBEDDINGS
from wconv.consumers.mlx_examples.consumer import MLX_EXAMPLES
from wconv.consumers.mlx_lm.consumer import MLX_LM
from wconv.consumers.mlx_vlm.consumer import MLX_VLM
from wconv.consumers.mlx_whisper.consumer import MLX_WHISPER
from wconv.consumers.peft.consumer import PEFT
from wconv.consumers.transformers.consumer import TRANSFORMERS

if TYPE_CHECKING:
    from wconv.layouts.apply import Layout

AUTO = "auto"
"""`--layout auto`: the first consumer that has a table of the model."""

DEFAULT_SUFFIX = "MLX"
"""What the name of a result ends in where no consumer is named."""

CONSUMERS: tuple[Consumer, ...] = (
    MLX_VLM,
    MLX_LM,
    MFLUX,
    MLX_EXAMPLES,
    MLX_WHISPER,
    MLX_AUDIO,
    MLX_EMBEDDINGS,
    DIFFUSERS,
    PEFT,
    KOHYA,
    COMFYUI,
    TRANSFORMERS,
    BLACK_FOREST_LABS,
)
"""In the order in which "auto" asks them: mlx-vlm's layout of a model serves mlx-lm too."""


def with_role(*roles: Role) -> tuple[Consumer, ...]:
    """The consumers to which `--layout` comes in one of these ways, in order."""
    return tuple(one for one in CONSUMERS if one.role in roles)


def layout_names() -> tuple[str, ...]:
    """What `--layout` may be for models: "auto", then the consumers, the way back last."""
    named = (*with_role("automatic", "by name"), *reversed(with_role("way back")))
    return (AUTO, *(one.layout_name for one in named))


def way_back_names() -> tuple[str, ...]:
    """What `--layout` may be for the way back: the hub's names, or those of the makers' single files."""
    return tuple(one.layout_name for one in with_role("way back"))


def adapter_layout_names() -> tuple[str, ...]:
    """What `--layout` may be for adapters alone."""
    return tuple(one.layout_name for one in with_role("adapters"))


def automatic_names() -> tuple[str, ...]:
    """The names of the consumers that "auto" asks, in that order."""
    return tuple(one.layout_name for one in with_role("automatic"))


def quantizing() -> tuple[Consumer, ...]:
    """The consumers that read quantized models."""
    return tuple(one for one in CONSUMERS if one.quantization is not None)


def find_consumer(name: str) -> Consumer | None:
    """The consumer of a name, its own or that of `--layout`; None where there is none.

    >>> find_consumer("hf")
    <Consumer transformers>
    """
    return next((one for one in CONSUMERS if name in (one.name, one.layout_name)), None)


def tables(name: str) -> tuple[Layout, ...]:
    """All layouts of one consumer, none of them twice; none where there is no such consumer.

    >>> len(tables("mflux"))
    1
    """
    from wconv.consumers import table_files

    consumer = find_consumer(name)
    if consumer is None:
        return ()
    of_files = table_files.tables(consumer.table_folder) if consumer.table_folder else ()
    return (*consumer.tables(), *of_files)


def output_suffix(layout: object) -> str:
    """What the name of a result ends in for a `--layout`; of a naming of adapters, without the family.

    >>> output_suffix("auto"), output_suffix("hf"), output_suffix("kohya:flux")
    ('MLX', 'HF', 'kohya')
    """
    consumer = find_consumer(layout.partition(":")[0]) if isinstance(layout, str) else None
    return consumer.output_suffix if consumer is not None else DEFAULT_SUFFIX


def adapter_namings() -> Mapping[str, Naming]:
    """What adapters may be called, by the layout's name."""
    return {one.layout_name: one.adapter_naming for one in CONSUMERS if one.adapter_naming is not None}


def adapter_naming(name: str, family: str) -> Naming:
    """The naming of a layout's name as it is for the models of a family.

    Raises:
        KeyError: no consumer of that name has adapters.
    """
    consumer = find_consumer(name)
    naming = consumer.naming_of(family) if consumer is not None else None
    if naming is None:
        raise KeyError(name)
    return naming


def namings_of(family: str) -> tuple[str, ...]:
    """What adapters of a family's models may be written in, by the layouts' names."""
    return tuple(
        name
        for name, naming in adapter_namings().items()
        if naming.families is None or family in naming.families
    )


def adapter_commands() -> frozenset[str]:
    """What loads an adapter, be it a file or a directory."""
    namings = (naming for one in CONSUMERS for naming in (one.adapter_naming, *one.adapter_namings.values()))
    return frozenset(naming.command for naming in namings if naming is not None and naming.command)


def pipeline_command() -> str:
    """What loads any directory that has a model_index.json."""
    return next((one.pipeline_command for one in CONSUMERS if one.pipeline_command), "")


def named_in_header(metadata: Mapping[str, object]) -> str | None:
    """The consumer that a file's header says has written it, in its own form.

    >>> named_in_header({"mflux_version": "0.24.0"})
    'mflux'
    """
    return next((one.name for one in CONSUMERS if one.header_field and one.header_field in metadata), None)


def file_stem(consumer: str | None, source: str) -> str:
    """How the names of weights files begin that a consumer wants; "" for the hub's way.

    Args:
        consumer: its name; None where names and layouts are unchanged, so that the files' are, too.
        source: the name of the file that they come from.
    """
    for one in CONSUMERS:
        if one.file_stem and (
            one.name == consumer or (consumer is None and source.startswith(one.file_stem))
        ):
            return one.file_stem
    return ""
