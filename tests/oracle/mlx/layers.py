"""Layers of torch with the mlx.nn layers that are the same, and what to call both with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Case:
    """One layer.

    Attributes:
        torch: makes torch's, from the modules `torch.nn` and `transformers.pytorch_utils`.
        mlx: makes MLX's, from `mlx.nn`.
        shapes: of the inputs, in torch's order of axes; an integer input is `(shape, limit)`.
        images: inputs and output have their channels on axis 1 in torch, last in MLX.
        call: calls MLX's layer where that takes more than its inputs; gets `mlx.core`, the layer, the inputs.
        pick: the part of torch's output that MLX gives.
        scripted: `torch.jit.script` takes torch's layer.
    """

    torch: Callable[[Any, Any], Any]
    mlx: Callable[[Any], Any]
    shapes: tuple[Any, ...]
    images: bool = False
    call: Callable[[Any, Any, list[Any]], Any] | None = None
    pick: Callable[[Any], Any] = lambda output: output
    scripted: bool = True

    def inputs(self) -> list[np.ndarray[Any, Any]]:
        random = np.random.default_rng(5)
        return [
            random.integers(0, shape[1], shape[0])
            if isinstance(shape[0], tuple)
            else random.standard_normal(shape, np.float32)
            for shape in self.shapes
        ]


def _hidden(output: Any) -> Any:
    return output[0]


def _both_directions(mx: Any, layer: Any, inputs: list[Any]) -> Any:
    """Layers in two directions, as torch runs them: each takes both outputs of the one below."""
    x = inputs[0]
    for forward, backward in zip(layer.layers, layer.reverse_layers, strict=True):
        there, back = forward(x), backward(x[:, ::-1])
        there, back = (there[0], back[0]) if isinstance(there, tuple) else (there, back)
        x = mx.concatenate([there, back[:, ::-1]], axis=-1)
    return x


def _two_layers(mx: Any, layer: Any, inputs: list[Any]) -> Any:
    x = inputs[0]
    for one in layer.layers:
        x = one(x)
    return x


def _grouped(mx: Any, layer: Any, inputs: list[Any]) -> Any:
    """A transposed convolution in groups: mlx.nn's layers have none, `mx.conv_transpose2d` has."""
    return mx.conv_transpose2d(inputs[0], layer.weight, stride=2, groups=2) + layer.bias


def _stack(nn: Any, **lists: list[Any]) -> Any:
    module = nn.Module()
    for name, members in lists.items():
        setattr(module, name, members)
    return module


def _joined_axes(mx: Any, layer: Any, inputs: list[Any]) -> Any:
    """`mlx.nn.BatchNorm` takes four axes at most; joining the spatial ones changes nothing."""
    x = inputs[0]
    return layer(x.reshape(x.shape[0], -1, x.shape[-1])).reshape(x.shape)


CASES: dict[str, Case] = {
    "Linear": Case(lambda nn, _: nn.Linear(5, 7), lambda nn: nn.Linear(5, 7), ((3, 5),)),
    "Linear without bias": Case(
        lambda nn, _: nn.Linear(5, 7, bias=False), lambda nn: nn.Linear(5, 7, bias=False), ((3, 5),)
    ),
    "Bilinear": Case(lambda nn, _: nn.Bilinear(5, 7, 3), lambda nn: nn.Bilinear(5, 7, 3), ((4, 5), (4, 7))),
    "transformers' Conv1D": Case(
        lambda _, hub: hub.Conv1D(7, 5), lambda nn: nn.Linear(5, 7), ((3, 5),), scripted=False
    ),
    "Embedding": Case(lambda nn, _: nn.Embedding(9, 4), lambda nn: nn.Embedding(9, 4), (((2, 6), 9),)),
    "LayerNorm": Case(lambda nn, _: nn.LayerNorm(8), lambda nn: nn.LayerNorm(8), ((3, 8),)),
    "LayerNorm without bias": Case(
        lambda nn, _: nn.LayerNorm(8, bias=False), lambda nn: nn.LayerNorm(8, bias=False), ((3, 8),)
    ),
    "RMSNorm": Case(lambda nn, _: nn.RMSNorm(8), lambda nn: nn.RMSNorm(8, eps=1.1920929e-07), ((3, 8),)),
    "GroupNorm": Case(
        lambda nn, _: nn.GroupNorm(2, 8),
        lambda nn: nn.GroupNorm(2, 8, pytorch_compatible=True),
        ((2, 8, 3, 5),),
        images=True,
    ),
    "BatchNorm1d": Case(lambda nn, _: nn.BatchNorm1d(4), lambda nn: nn.BatchNorm(4), ((5, 4),)),
    "BatchNorm1d on sequences": Case(
        lambda nn, _: nn.BatchNorm1d(4), lambda nn: nn.BatchNorm(4), ((5, 4, 6),), images=True
    ),
    "BatchNorm2d": Case(
        lambda nn, _: nn.BatchNorm2d(4), lambda nn: nn.BatchNorm(4), ((2, 4, 3, 5),), images=True
    ),
    "BatchNorm2d without affine": Case(
        lambda nn, _: nn.BatchNorm2d(4, affine=False),
        lambda nn: nn.BatchNorm(4, affine=False),
        ((2, 4, 3, 5),),
        images=True,
    ),
    "BatchNorm3d": Case(
        lambda nn, _: nn.BatchNorm3d(4),
        lambda nn: nn.BatchNorm(4),
        ((2, 4, 3, 5, 2),),
        images=True,
        call=_joined_axes,
    ),
    "SyncBatchNorm": Case(
        lambda nn, _: nn.SyncBatchNorm(4),
        lambda nn: nn.BatchNorm(4),
        ((2, 4, 3, 5),),
        images=True,
        scripted=False,
    ),
    "InstanceNorm1d": Case(
        lambda nn, _: nn.InstanceNorm1d(4, affine=True),
        lambda nn: nn.InstanceNorm(4, affine=True),
        ((2, 4, 6),),
        images=True,
    ),
    "InstanceNorm2d": Case(
        lambda nn, _: nn.InstanceNorm2d(4, affine=True),
        lambda nn: nn.InstanceNorm(4, affine=True),
        ((2, 4, 3, 5),),
        images=True,
    ),
    "InstanceNorm3d": Case(
        lambda nn, _: nn.InstanceNorm3d(4, affine=True),
        lambda nn: nn.InstanceNorm(4, affine=True),
        ((2, 4, 3, 5, 2),),
        images=True,
    ),
    "Conv1d": Case(
        lambda nn, _: nn.Conv1d(4, 6, 3, stride=2, padding=1),
        lambda nn: nn.Conv1d(4, 6, 3, stride=2, padding=1),
        ((2, 4, 9),),
        images=True,
    ),
    "Conv1d in groups": Case(
        lambda nn, _: nn.Conv1d(4, 6, 3, groups=2),
        lambda nn: nn.Conv1d(4, 6, 3, groups=2),
        ((2, 4, 9),),
        images=True,
    ),
    "Conv2d": Case(
        lambda nn, _: nn.Conv2d(3, 4, (3, 2), stride=(1, 2), padding=1, dilation=(2, 1)),
        lambda nn: nn.Conv2d(3, 4, (3, 2), stride=(1, 2), padding=1, dilation=(2, 1)),
        ((2, 3, 9, 8),),
        images=True,
    ),
    "Conv2d in groups": Case(
        lambda nn, _: nn.Conv2d(4, 8, (3, 2), groups=4, bias=False),
        lambda nn: nn.Conv2d(4, 8, (3, 2), groups=4, bias=False),
        ((2, 4, 7, 6),),
        images=True,
    ),
    "Conv3d": Case(
        lambda nn, _: nn.Conv3d(3, 4, (2, 3, 1)),
        lambda nn: nn.Conv3d(3, 4, (2, 3, 1)),
        ((2, 3, 4, 5, 6),),
        images=True,
    ),
    "ConvTranspose1d": Case(
        lambda nn, _: nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1),
        lambda nn: nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1),
        ((2, 4, 5),),
        images=True,
    ),
    "ConvTranspose2d": Case(
        lambda nn, _: nn.ConvTranspose2d(4, 6, (3, 2), stride=2),
        lambda nn: nn.ConvTranspose2d(4, 6, (3, 2), stride=2),
        ((2, 4, 5, 4),),
        images=True,
    ),
    "ConvTranspose2d in groups": Case(
        lambda nn, _: nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2),
        lambda nn: nn.ConvTranspose2d(2, 6, 3, stride=2),
        ((2, 4, 5, 4),),
        images=True,
        call=_grouped,
    ),
    "ConvTranspose2d in groups without bias": Case(
        lambda nn, _: nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2, bias=False),
        lambda nn: nn.ConvTranspose2d(2, 6, 3, stride=2, bias=False),
        ((2, 4, 5, 4),),
        images=True,
        call=lambda mx, layer, inputs: mx.conv_transpose2d(inputs[0], layer.weight, stride=2, groups=2),
    ),
    "ConvTranspose1d without bias": Case(
        lambda nn, _: nn.ConvTranspose1d(4, 6, 3, bias=False),
        lambda nn: nn.ConvTranspose1d(4, 6, 3, bias=False),
        ((2, 4, 5),),
        images=True,
    ),
    "ConvTranspose3d": Case(
        lambda nn, _: nn.ConvTranspose3d(4, 6, (2, 3, 1), stride=2),
        lambda nn: nn.ConvTranspose3d(4, 6, (2, 3, 1), stride=2),
        ((1, 4, 3, 4, 2),),
        images=True,
    ),
    "PReLU": Case(lambda nn, _: nn.PReLU(4), lambda nn: nn.PReLU(4), ((2, 4, 3, 5),), images=True),
    "MultiheadAttention": Case(
        lambda nn, _: nn.MultiheadAttention(8, 2, batch_first=True),
        lambda nn: nn.MultiHeadAttention(8, 2, bias=True),
        ((2, 3, 8), (2, 5, 8), (2, 5, 8)),
        pick=_hidden,
    ),
    "MultiheadAttention without bias": Case(
        lambda nn, _: nn.MultiheadAttention(8, 2, bias=False, batch_first=True),
        lambda nn: nn.MultiHeadAttention(8, 2),
        ((2, 3, 8), (2, 5, 8), (2, 5, 8)),
        pick=_hidden,
        scripted=False,
    ),
    "MultiheadAttention of other widths": Case(
        lambda nn, _: nn.MultiheadAttention(8, 2, kdim=6, vdim=4, batch_first=True),
        lambda nn: nn.MultiHeadAttention(8, 2, key_input_dims=6, value_input_dims=4, bias=True),
        ((2, 3, 8), (2, 5, 6), (2, 5, 4)),
        pick=_hidden,
    ),
    "LSTM": Case(
        lambda nn, _: nn.LSTM(5, 4, batch_first=True),
        lambda nn: nn.LSTM(5, 4),
        ((2, 6, 5),),
        call=lambda mx, layer, inputs: layer(*inputs)[0],
        pick=_hidden,
    ),
    "LSTM without bias": Case(
        lambda nn, _: nn.LSTM(5, 4, bias=False, batch_first=True),
        lambda nn: nn.LSTM(5, 4, bias=False),
        ((2, 6, 5),),
        call=lambda mx, layer, inputs: layer(*inputs)[0],
        pick=_hidden,
    ),
    "LSTM of two layers in two directions": Case(
        lambda nn, _: nn.LSTM(5, 4, num_layers=2, bidirectional=True, batch_first=True),
        lambda nn: _stack(
            nn, layers=[nn.LSTM(5, 4), nn.LSTM(8, 4)], reverse_layers=[nn.LSTM(5, 4), nn.LSTM(8, 4)]
        ),
        ((2, 6, 5),),
        call=_both_directions,
        pick=_hidden,
    ),
    "GRU": Case(
        lambda nn, _: nn.GRU(5, 4, batch_first=True), lambda nn: nn.GRU(5, 4), ((2, 6, 5),), pick=_hidden
    ),
    "GRU in two directions": Case(
        lambda nn, _: nn.GRU(5, 4, bidirectional=True, batch_first=True),
        lambda nn: _stack(nn, layers=[nn.GRU(5, 4)], reverse_layers=[nn.GRU(5, 4)]),
        ((2, 6, 5),),
        call=_both_directions,
        pick=_hidden,
    ),
    "RNN": Case(
        lambda nn, _: nn.RNN(5, 4, batch_first=True), lambda nn: nn.RNN(5, 4), ((2, 6, 5),), pick=_hidden
    ),
    "RNN of two layers with relu": Case(
        lambda nn, _: nn.RNN(5, 4, 2, nonlinearity="relu", batch_first=True),
        lambda nn: _stack(nn, layers=[nn.RNN(size, 4, nonlinearity=nn.relu) for size in (5, 4)]),
        ((2, 6, 5),),
        call=_two_layers,
        pick=_hidden,
    ),
    "LSTMCell": Case(
        lambda nn, _: nn.LSTMCell(5, 4),
        lambda nn: nn.LSTM(5, 4),
        ((2, 5),),
        call=lambda mx, layer, inputs: layer(inputs[0][:, None])[0][:, 0],
        pick=_hidden,
    ),
    "GRUCell": Case(
        lambda nn, _: nn.GRUCell(5, 4),
        lambda nn: nn.GRU(5, 4),
        ((2, 5),),
        call=lambda mx, layer, inputs: layer(inputs[0][:, None])[:, 0],
    ),
    "RNNCell": Case(
        lambda nn, _: nn.RNNCell(5, 4),
        lambda nn: nn.RNN(5, 4),
        ((2, 5),),
        call=lambda mx, layer, inputs: layer(inputs[0][:, None])[:, 0],
    ),
    "a Sequential of layers": Case(
        lambda nn, _: nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Sequential(nn.Conv2d(4, 2, 1), nn.Tanh())
        ),
        lambda nn: nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm(4), nn.ReLU(), nn.Sequential(nn.Conv2d(4, 2, 1), nn.Tanh())
        ),
        ((2, 3, 7, 6),),
        images=True,
    ),
}
