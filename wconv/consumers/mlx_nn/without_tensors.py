"""Layers of torch that have no tensors: those that mlx.nn has, and what to write instead of the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from wconv.consumers.mlx_nn.made_by import NN, Made, call
from wconv.formats.modules import Module


def _same(name: str, **renamed: str) -> Callable[[Module], Made]:
    """The same class, with the settings that have numbers: MLX's name of each → torch's."""

    def make(module: Module) -> Made:
        given = {
            ours: module.settings[theirs] for ours, theirs in renamed.items() if theirs in module.settings
        }
        return Made(call(f"nn.{name}", **given))

    return make


def _gelu(module: Module) -> Made:
    tanh = module.settings.get("approximate") == "tanh"
    return Made("nn.GELU(approx='precise')" if tanh else "nn.GELU()")


def _pool(name: str, axes: int) -> Callable[[Module], Made]:
    def make(module: Module) -> Made:
        settings = module.settings
        if settings.get("ceil_mode") or settings.get("dilation", 1) not in (1, (1,) * axes):
            raise ValueError("ceil_mode or dilation")
        padding = settings.get("padding", 0)
        if name == "AvgPool" and padding not in (0, (0,) * axes):
            raise ValueError("padding")
        size = settings["kernel_size"]
        stride = settings.get("stride", size)
        numbers = [one[0] if axes == 1 and type(one) is tuple else one for one in (size, stride, padding)]
        return Made(call(f"nn.{name}{axes}d", numbers[0], stride=numbers[1], padding=numbers[2]))

    return make


PLAIN = "ReLU ReLU6 SiLU Mish Tanh Sigmoid LogSigmoid Hardswish Softsign"

WITHOUT_TENSORS: Mapping[str, Callable[[Module], Made]] = {
    **{f"{NN}activation.{name}": _same(name) for name in PLAIN.split()},
    f"{NN}activation.GELU": _gelu,
    f"{NN}activation.LeakyReLU": _same("LeakyReLU", negative_slope="negative_slope"),
    f"{NN}activation.ELU": _same("ELU", alpha="alpha"),
    f"{NN}activation.CELU": _same("CELU", alpha="alpha"),
    f"{NN}linear.Identity": _same("Identity"),
    f"{NN}dropout.Dropout": _same("Dropout", p="p"),
    **{
        f"{NN}pooling.{kind}Pool{axes}d": _pool(f"{kind}Pool", axes)
        for kind in ("Max", "Avg")
        for axes in (1, 2, 3)
    },
}
"""torch's class → how mlx.nn's is made."""

LAST = "MLX has channels last"
PARTS = "its parts: MultiHeadAttention, LayerNorm and Linear are there"

ADVICE: Mapping[str, str] = {
    f"{NN}flatten.Flatten": f"{LAST}: x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1) keeps torch's order",
    f"{NN}flatten.Unflatten": f"x.reshape(...); {LAST}",
    f"{NN}activation.Softmax": f"mx.softmax(x, axis=...); {LAST}",
    f"{NN}activation.LogSoftmax": f"nn.log_softmax(x, axis=...); {LAST}",
    f"{NN}activation.Softplus": "nn.softplus(x), which has no threshold",
    f"{NN}pooling.AdaptiveAvgPool1d": "for an output of 1: x.mean(axis=1, keepdims=True)",
    f"{NN}pooling.AdaptiveAvgPool2d": "for an output of 1: x.mean(axis=(1, 2), keepdims=True)",
    f"{NN}pooling.AdaptiveMaxPool2d": "for an output of 1: x.max(axis=(1, 2), keepdims=True)",
    f"{NN}upsampling.Upsample": "nn.Upsample(scale_factor=..., mode=...), with its sizes as factors",
    f"{NN}pixelshuffle.PixelShuffle": "a reshape, a transpose and a reshape",
    f"{NN}padding.ZeroPad2d": "mx.pad(x, [(0, 0), (top, bottom), (left, right), (0, 0)])",
    f"{NN}transformer.TransformerEncoderLayer": PARTS,
    f"{NN}transformer.TransformerDecoderLayer": PARTS,
    f"{NN}sparse.EmbeddingBag": "nn.Embedding, and a sum or a mean over each bag",
}
"""torch's class → what to write in MLX."""

OWN = "a class of its own: write its forward pass with mlx.core"
