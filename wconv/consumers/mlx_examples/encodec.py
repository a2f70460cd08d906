"""The config of mlx-examples' EnCodec, whose layout of transformers' checkpoints is `tables/encodec.toml`.

The table has the decoder's transposed convolutions where four ratios, each with one residual layer, put them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wconv.errors import LayoutError
from wconv.tensors.lazy import LazyTensor


def config(settings: Mapping[str, Any], tensors: Mapping[str, LazyTensor]) -> dict[str, Any]:
    """The same config, where it says that the layers are where the table has them.

    Raises:
        LayoutError: the decoder is built otherwise.
    """
    ratios, residual = settings.get("upsampling_ratios", (8, 5, 4, 2)), settings.get("num_residual_layers", 1)
    if not isinstance(ratios, list | tuple) or len(ratios) != 4 or residual != 1:
        raise LayoutError(
            f"an EnCodec with upsampling_ratios {ratios!r:.60} and num_residual_layers {residual!r:.20} has"
            " its transposed convolutions elsewhere than the published ones: keep its layout with --layout hf"
        )
    return dict(settings)
