"""mflux as a consumer: image models and their adapters.

Facts on adapters: mflux 0.24, `*_lora_mapping.py` and `lora_loader.py`: whole names, `.alpha`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from wconv.consumers.adapters.naming import Keys, Naming
from wconv.consumers.consumer import Consumer
from wconv.consumers.mlx.dtypes import SUBSTITUTES
from wconv.consumers.mlx.schemes import OWN

if TYPE_CHECKING:
    from wconv.consumers.component_family import ComponentFamily
    from wconv.consumers.quantization.tables import QuantizationTable
    from wconv.layouts.apply import Layout


def _tables() -> tuple[Layout, ...]:
    from wconv.consumers.mflux.tables import LAYOUTS

    return LAYOUTS


def _families() -> tuple[ComponentFamily, ...]:
    from wconv.consumers.mflux.families import families

    return families()


def _quantization() -> QuantizationTable:
    from wconv.consumers.mflux.quantization import TABLE

    return TABLE


def _adapter_command(program: str) -> str:
    """mflux has a program for each family."""
    return f"{program} --lora-paths {{model}} --prompt 'A cat'"


NAMING = Naming(
    "mflux",
    "own",
    Keys(".lora_down.weight", ".lora_up.weight"),
    {"main": ""},
    "scaled",
    linear=True,
    families=("flux", "qwen", "flux2", "z_image"),
    command=_adapter_command("mflux-generate"),
)

MFLUX = Consumer(
    "mflux",
    "mflux",
    tables=_tables,
    families=_families,
    header_field="mflux_version",
    substitutes=SUBSTITUTES,
    schemes=OWN,
    quantization=_quantization,
    adapter_naming=NAMING,
    adapter_namings={
        "flux2": replace(NAMING, command=_adapter_command("mflux-generate-flux2")),
        "qwen": replace(NAMING, command=_adapter_command("mflux-generate-qwen")),
        "z_image": replace(
            NAMING,
            command=_adapter_command("mflux-generate-z-image"),
            keys=Keys(),
            prefixes={"main": "transformer."},
        ),
    },
)
