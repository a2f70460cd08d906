"""mlx-embeddings as a consumer: models that embed text, and images with it.

Facts: mlx-embeddings 0.1.0, `utils.py: load_model`. It has no command that loads a model, only a function,
which reads the tokenizer, too.
"""

from __future__ import annotations

from wconv.consumers.consumer import Consumer
from wconv.consumers.mlx.dtypes import SUBSTITUTES

MLX_EMBEDDINGS = Consumer(
    "mlx-embeddings",
    "mlx-embeddings",
    "by name",
    table_folder="mlx_embeddings",
    command="mlx_embeddings.load('{model}')",
    substitutes=SUBSTITUTES,
)
