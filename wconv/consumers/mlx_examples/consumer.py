"""Apple's mlx-examples as a consumer: EnCodec, Stable Diffusion, T5 and CLIP, each with its own script."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from wconv.consumers.consumer import ConfigMaker, Consumer
from wconv.consumers.mlx.dtypes import SUBSTITUTES
from wconv.consumers.mlx.schemes import OWN

if TYPE_CHECKING:
    from wconv.consumers.component_family import ComponentFamily
    from wconv.layouts.apply import Layout


def _tables() -> tuple[Layout, ...]:
    from wconv.consumers.mlx_examples.tables import LAYOUTS

    return LAYOUTS


def _families() -> tuple[ComponentFamily, ...]:
    from wconv.consumers.mlx_examples.families import families

    return families()


def _config_makers() -> Mapping[str, ConfigMaker]:
    from wconv.consumers.mlx_examples.encodec import config

    return {"encodec": config}


MLX_EXAMPLES = Consumer(
    "mlx-examples",
    "mlx-examples",
    tables=_tables,
    families=_families,
    substitutes=SUBSTITUTES,
    schemes=OWN,
    config_makers=_config_makers,
)
