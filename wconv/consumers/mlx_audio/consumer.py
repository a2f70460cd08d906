"""mlx-audio as a consumer: models that speak, transcribe and clean up speech.

Facts: mlx-audio 0.6.2, `utils.py: base_load_model`, `convert.py`. Its converter casts every tensor.
Its loader takes the hub's names as well as its own.
"""

from __future__ import annotations

from wconv.consumers.consumer import Consumer
from wconv.consumers.mlx.dtypes import SUBSTITUTES

MLX_AUDIO = Consumer(
    "mlx-audio",
    "mlx-audio",
    "by name",
    table_folder="mlx_audio",
    substitutes=SUBSTITUTES,
)
