"""mlx-whisper as a consumer: what became of the Whisper of mlx-examples, whose table it shares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from wconv.consumers.consumer import ConfigMaker, Consumer, TensorMaker
from wconv.consumers.mlx.dtypes import SUBSTITUTES

if TYPE_CHECKING:
    from wconv.consumers.mlx.loading import Loader
    from wconv.layouts.apply import Layout


def _tables() -> tuple[Layout, ...]:
    from wconv.consumers.mlx_whisper.tables import LAYOUTS

    return LAYOUTS


def _config_makers() -> Mapping[str, ConfigMaker]:
    from wconv.consumers.mlx_whisper.config import dimensions

    return {"whisper": dimensions}


def _tensor_makers() -> Mapping[str, TensorMaker]:
    from wconv.consumers.mlx_whisper.config import alignment_heads

    return {"whisper": alignment_heads}


def _loader() -> Loader:
    from wconv.consumers.mlx_whisper import loading

    return loading.load


MLX_WHISPER = Consumer(
    "mlx-whisper",
    "mlx-whisper",
    "by name",
    tables=_tables,
    substitutes=SUBSTITUTES,
    config_makers=_config_makers,
    tensor_makers=_tensor_makers,
    package=("mlx-whisper", "mlx_whisper"),
    loader=_loader,
)
