"""The layout of mlx-examples' EnCodec, from transformers' checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wconv.errors import LayoutError
from wconv.layouts.apply import Layout
from wconv.layouts.computed.recurrent import summed
from wconv.layouts.computed.weight_norm import weight_norm
from wconv.layouts.rules import compute, drop, rename, transpose
from wconv.tensors.lazy import LazyTensor

SIDES = "(encoder|decoder)"
LAYER = f"{SIDES}.layers.#"
UPSAMPLING = "3|6|9|12"
"""Where the decoder's transposed convolutions are, with four ratios and one residual layer for each."""

ENCODEC = Layout(
    ("mlx-examples",),
    ("encodec",),
    (
        f"{LAYER}.conv.(weight|bias)",
        f"{LAYER}.block.#.conv.(weight|bias)",
        f"{LAYER}.shortcut.conv.(weight|bias)",
        f"{LAYER}.norm.(weight|bias)",
        f"{LAYER}.block.#.norm.(weight|bias)",
        f"{LAYER}.shortcut.norm.(weight|bias)",
        f"{LAYER}.lstm.#.(Wx|Wh|bias)",
        "quantizer.layers.#.codebook.embed",
    ),
    (
        drop("quantizer.layers.#.codebook.(inited|cluster_size|embed_avg)", "needed in training only"),
        transpose(f"decoder.layers.({UPSAMPLING}).conv.weight", "conv_transpose1d"),
        transpose("decoder.layers.(0|15).conv.weight", "conv1d"),
        transpose("encoder.layers.#.conv.weight", "conv1d"),
        transpose(f"{LAYER}.block.#.conv.weight", "conv1d"),
        transpose(f"{LAYER}.shortcut.conv.weight", "conv1d"),
        compute(f"{LAYER}.lstm.bias_ih_l#", f"{LAYER}.lstm.bias_hh_l#", "summed", summed),
        rename(f"{LAYER}.lstm.weight_ih_l#", f"{LAYER}.lstm.#.Wx"),
        rename(f"{LAYER}.lstm.weight_hh_l#", f"{LAYER}.lstm.#.Wh"),
        rename(f"{LAYER}.lstm.bias_ih_l#", f"{LAYER}.lstm.#.bias"),
    ),
    (
        rename("**.conv.parametrizations.weight.original0", "**.conv.weight_g"),
        rename("**.conv.parametrizations.weight.original1", "**.conv.weight_v"),
        compute("**.conv.weight_v", "**.conv.weight_g", "weight_norm", weight_norm),
        rename("**.conv.weight_v", "**.conv.weight"),
    ),
    command="EncodecModel.from_pretrained('{model}')",
    config="encodec",
)


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
