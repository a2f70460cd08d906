"""How each layer of mlx.nn is made: the call that gives a layer of torch's sizes and settings, as text.

Nothing of a file becomes code: sizes and settings are numbers, written as Python writes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from wconv.formats.modules import Module
from wconv.tensors.base import Shape

Shapes = Mapping[str, Shape]
"""A module's own tensors: torch's name → shape."""


@dataclass(frozen=True, slots=True)
class Made:
    """A layer as an expression.

    Attributes:
        text: of the names `mx`, `nn` and those of `HELPERS`.
        remark: in what the layer may differ from torch's; "" where it does not.
    """

    text: str
    remark: str = ""


def literal(value: object) -> str:
    """A number, or a few, as Python writes them.

    Raises:
        ValueError: it is no finite number.
    """
    if type(value) is tuple:
        return f"({', '.join(map(literal, value))}{',' if len(value) == 1 else ''})"
    if type(value) in (bool, int) or (type(value) is float and math.isfinite(value)):
        return repr(value)
    raise ValueError("no number")


def call(name: str, *values: object, **named: object) -> str:
    """A call with numbers as its arguments."""
    words = [literal(value) for value in values]
    words += [f"{key}={literal(value)}" for key, value in named.items()]
    return f"{name}({', '.join(words)})"


def _given(module: Module, *names: str) -> dict[str, Any]:
    """The settings of these names that the file tells and that are numbers."""
    return {
        name: module.settings[name]
        for name in names
        if name in module.settings and type(module.settings[name]) is not str
    }


def _untold(module: Module, *names: str) -> str:
    lacking = [name for name in names if name not in module.settings]
    return f"the file does not tell {', '.join(lacking)}: MLX's own are assumed" if lacking else ""


def _linear(module: Module, shapes: Shapes) -> Made:
    outer, inner = shapes["weight"]
    return Made(call("nn.Linear", inner, outer, bias="bias" in shapes))


def _conv1d_matrix(module: Module, shapes: Shapes) -> Made:
    inner, outer = shapes["weight"]
    return Made(call("nn.Linear", inner, outer, bias="bias" in shapes))


def _bilinear(module: Module, shapes: Shapes) -> Made:
    outer, first, second = shapes["weight"]
    return Made(call("nn.Bilinear", first, second, outer, bias="bias" in shapes))


def _embedding(module: Module, shapes: Shapes) -> Made:
    return Made(call("nn.Embedding", *shapes["weight"]))


def _affine(name: str, size: str, **more: object) -> Callable[[Module, Shapes], Made]:
    """A norm whose size is that of its weight, or a setting where it has none."""

    def make(module: Module, shapes: Shapes) -> Made:
        affine = "weight" in shapes
        count = shapes["weight"][0] if affine else module.settings[size]
        last = count[-1] if isinstance(count, tuple) else count
        named = {**_given(module, "eps"), **more}
        if name == "nn.LayerNorm":
            named |= {"bias": "bias" in shapes} if affine else {"affine": False}
        elif name == "nn.RMSNorm":
            named.setdefault("eps", 1.1920929e-07)
        else:
            named["affine"] = affine
        return Made(call(name, last, **named))

    return make


def _group_norm(module: Module, shapes: Shapes) -> Made:
    channels = shapes["weight"][0] if "weight" in shapes else module.settings["num_channels"]
    affine, groups = "weight" in shapes, module.settings["num_groups"]
    named = {**_given(module, "eps"), "affine": affine, "pytorch_compatible": True}
    return Made(call("nn.GroupNorm", groups, channels, **named))


def _batch_norm(name: str) -> Callable[[Module, Shapes], Made]:
    def make(module: Module, shapes: Shapes) -> Made:
        sized = shapes.get("weight") or shapes.get("running_mean")
        count = sized[0] if sized else module.settings["num_features"]
        named = {**_given(module, "eps", "momentum"), "affine": "weight" in shapes}
        return Made(call(name, count, **named, track_running_stats="running_mean" in shapes))

    return make


def _conv(axes: int) -> Callable[[Module, Shapes], Made]:
    def make(module: Module, shapes: Shapes) -> Made:
        outer, inner, *kernel = shapes["weight"]
        groups = module.settings.get("groups", 1)
        if type(groups) is not int or (axes == 3 and groups != 1):
            raise ValueError("groups")
        named = _window(module, axes, "stride", "padding", "dilation")
        if axes < 3:
            named["groups"] = groups
        size = tuple(kernel) if axes > 1 else kernel[0]
        text = call(f"nn.Conv{axes}d", inner * groups, outer, size, **named, bias="bias" in shapes)
        return Made(text, _padding(module) or _untold(module, "stride", "padding", "dilation"))

    return make


def _window(module: Module, axes: int, *names: str) -> dict[str, Any]:
    """Settings of a kernel: a number of one axis, a tuple of several."""
    given = _given(module, *names)
    return {name: value[0] if axes == 1 and type(value) is tuple else value for name, value in given.items()}


def _padding(module: Module) -> str:
    if module.settings.get("padding_mode", "zeros") != "zeros":
        return "torch's pads otherwise than with zeros"
    return "torch's pads by a word, as 'same'" if type(module.settings.get("padding")) is str else ""


def _transposed(axes: int) -> Callable[[Module, Shapes], Made]:
    def make(module: Module, shapes: Shapes) -> Made:
        inner, outer, *kernel = shapes["weight"]
        groups = module.settings.get("groups")
        if groups is None and "bias" in shapes:
            groups = shapes["bias"][0] // outer
        if type(groups) is not int:
            raise ValueError("groups")
        size = tuple(kernel) if axes > 1 else kernel[0]
        named = _window(module, axes, "stride", "padding", "dilation", "output_padding")
        remark = _untold(module, "stride", "padding", "dilation", "output_padding")
        bias = "bias" in shapes
        if groups == 1:
            return Made(call(f"nn.ConvTranspose{axes}d", inner, outer, size, **named, bias=bias), remark)
        sizes = (outer * groups, *kernel, inner // groups)
        text = call("GroupedConvTranspose", sizes, groups, axes, **named, bias=bias)
        return Made(text, remark)

    return make


def _prelu(module: Module, shapes: Shapes) -> Made:
    return Made(call("nn.PReLU", shapes["weight"][0]))


def _attention(module: Module, shapes: Shapes) -> Made:
    dims = shapes["out_proj.weight"][0] if "out_proj.weight" in shapes else module.settings["embed_dim"]
    named: dict[str, Any] = {"bias": "in_proj_bias" in shapes}
    for name, setting in (("key_input_dims", "k_proj_weight"), ("value_input_dims", "v_proj_weight")):
        if setting in shapes:
            named[name] = shapes[setting][1]
    heads = module.settings["num_heads"]
    remark = "" if module.settings.get("batch_first") else "batches come first, not second as torch had them"
    return Made(call("nn.MultiHeadAttention", dims, heads, **named), remark)


def _recurrent(name: str, gates: int, *, cell: bool = False) -> Callable[[Module, Shapes], Made]:
    def one(shape: Shape, bias: bool, more: str) -> str:
        text = call(f"nn.{name}", shape[1], shape[0] // gates, bias=bias)
        return f"{text[:-1]}{more})"

    def make(module: Module, shapes: Shapes) -> Made:
        more, bias = "", any("bias" in parameter for parameter in shapes)
        if name == "RNN" and "relu" in (
            str(module.settings.get("nonlinearity", "")),
            str(module.settings.get("mode", "")).removeprefix("RNN_").lower(),
        ):
            more = ", nonlinearity=nn.relu"
        if cell:
            return Made(
                one(shapes["weight_ih"], bias, more), "it takes sequences: give it one of a single step"
            )
        remark = (
            "" if module.settings.get("batch_first") else "batches come first, not second as torch had them"
        )
        there = [shape for key, shape in _layers(shapes, "")]
        back = [shape for key, shape in _layers(shapes, "_reverse")]
        if len(there) == 1 and not back:
            return Made(one(there[0], bias, more), remark)
        lists = [", ".join(one(shape, bias, more) for shape in shapes) for shapes in (there, back) if shapes]
        return Made(f"Stacked({', '.join(f'[{texts}]' for texts in lists)})", remark)

    return make


def _layers(shapes: Shapes, suffix: str) -> list[tuple[str, Shape]]:
    found: list[tuple[str, Shape]] = []
    while (key := f"weight_ih_l{len(found)}{suffix}") in shapes:
        found.append((key, shapes[key]))
    return found


NN = "torch.nn.modules."
CALLS: Mapping[str, Callable[[Module, Shapes], Made]] = {
    f"{NN}linear.Linear": _linear,
    f"{NN}linear.NonDynamicallyQuantizableLinear": _linear,
    f"{NN}linear.Bilinear": _bilinear,
    "transformers.pytorch_utils.Conv1D": _conv1d_matrix,
    f"{NN}sparse.Embedding": _embedding,
    f"{NN}normalization.LayerNorm": _affine("nn.LayerNorm", "normalized_shape"),
    f"{NN}normalization.RMSNorm": _affine("nn.RMSNorm", "normalized_shape"),
    f"{NN}normalization.GroupNorm": _group_norm,
    **{
        f"{NN}instancenorm.InstanceNorm{axes}d": _affine("nn.InstanceNorm", "num_features")
        for axes in (1, 2, 3)
    },
    f"{NN}batchnorm.BatchNorm1d": _batch_norm("nn.BatchNorm"),
    f"{NN}batchnorm.BatchNorm2d": _batch_norm("nn.BatchNorm"),
    f"{NN}batchnorm.BatchNorm3d": _batch_norm("BatchNorm3d"),
    f"{NN}batchnorm.SyncBatchNorm": _batch_norm("nn.BatchNorm"),
    **{f"{NN}conv.Conv{axes}d": _conv(axes) for axes in (1, 2, 3)},
    **{f"{NN}conv.ConvTranspose{axes}d": _transposed(axes) for axes in (1, 2, 3)},
    f"{NN}activation.PReLU": _prelu,
    f"{NN}activation.MultiheadAttention": _attention,
    f"{NN}rnn.LSTM": _recurrent("LSTM", 4),
    f"{NN}rnn.GRU": _recurrent("GRU", 3),
    f"{NN}rnn.RNN": _recurrent("RNN", 1),
    f"{NN}rnn.LSTMCell": _recurrent("LSTM", 4, cell=True),
    f"{NN}rnn.GRUCell": _recurrent("GRU", 3, cell=True),
    f"{NN}rnn.RNNCell": _recurrent("RNN", 1, cell=True),
}
"""Every row of `layer_types.LAYERS`."""
