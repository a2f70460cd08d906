"""The layout of mlx-examples' EnCodec, from transformers' checkpoints."""

from __future__ import annotations

from wconv.layouts.apply import Layout
from wconv.layouts.computed.recurrent import summed
from wconv.layouts.computed.weight_norm import weight_norm
from wconv.layouts.rules import compute, drop, rename, transpose

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
