"""The layers of torch and of mlx.nn: what MLX calls each parameter of a layer, and how it lays it out.

The facts are those of torch 2.13's and mlx 0.32's own layers; every row is compared with both by a forward
pass.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from wconv.errors import LayoutError
from wconv.formats.modules import Module
from wconv.layouts.computed import recurrent
from wconv.layouts.rules import ROLES, State, TracedTensor
from wconv.tensors.lazy import LazyTensor

CONSUMER = "mlx.nn"

SEQUENTIAL = ("torch.nn.modules.container.Sequential",)
"""Containers whose members MLX keeps in a list `layers`; of all others it has torch's names."""


HOLDERS = (
    "torch.nn.modules.container.ParameterList",
    "torch.nn.modules.container.ParameterDict",
)
"""Containers of tensors; MLX has lists and dicts for them, under the same names."""


@dataclass(frozen=True, slots=True)
class Becomes:
    """What one parameter becomes.

    Attributes:
        targets: its names in MLX; several when it is split into equal parts along axis 0.
        axes: how many it has.
        order: the order of axes that MLX has, in terms of torch's; empty when it is the same.
    """

    targets: tuple[str, ...]
    axes: int
    order: tuple[int, ...] = ()

    def outputs(self, entry: TracedTensor, module: Module, own: State) -> list[LazyTensor]:
        """The tensors for `targets`; `own` are all of the module's by torch's names.

        Raises:
            LayoutError: the tensor has not the shape of such a parameter.
        """
        tensor, count = entry.tensor, len(self.targets)
        if self.order:
            return [tensor.transpose(self.order)]
        if tensor.shape[0] % count:
            raise LayoutError(f"{entry.sources[0]} has the shape {tensor.shape}, which is no {count} parts")
        return list(tensor.split(count)) if count > 1 else [tensor]


@dataclass(frozen=True, slots=True)
class TransposedKernel(Becomes):
    """The kernel of a transposed convolution: (in, out / groups, …) becomes (out, …, in / groups)."""

    def outputs(self, entry: TracedTensor, module: Module, own: State) -> list[LazyTensor]:
        shape, groups = entry.tensor.shape, self.groups(module, own)
        if not groups or shape[0] % groups:
            raise LayoutError(f"{entry.sources[0]} has the shape {shape}, which is no {groups} groups")
        inner, outer, kernel = shape[0] // groups, shape[1], shape[2:]
        grouped = entry.tensor.reshape((groups, inner, outer, *kernel))
        order = (0, 2, *range(3, grouped.ndim), 1)
        return [grouped.transpose(order).reshape((groups * outer, *kernel, inner))]

    @staticmethod
    def groups(module: Module, own: State) -> int | None:
        """Into how many groups the channels fall; where no setting tells it, the bias's length may."""
        groups = module.settings.get("groups")
        if type(groups) is int and groups > 0:
            return groups
        weight, bias = own["weight"].tensor, own.get("bias")
        if bias is None or weight.ndim < 2 or not weight.shape[1] or bias.tensor.size % weight.shape[1]:
            return None
        return bias.tensor.size // weight.shape[1]


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of mlx.nn, and how a layer of torch becomes one.

    Attributes:
        name: mlx.nn's class.
        parameters: by torch's names, what each becomes.
        dropped: expressions of names that MLX has no use for, each with the reason.
        arrange: lays out a recurrent layer's tensors, which depend on each other.
        hint: how the MLX layer must be made to be the same.
    """

    name: str
    parameters: Mapping[str, Becomes] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)
    arrange: Callable[[State, str], State] | None = None
    hint: str = ""


def _same(**axes: int) -> dict[str, Becomes]:
    """Parameters that keep their names and axes; how many axes each has."""
    return {name: Becomes((name,), count) for name, count in axes.items()}


def _kernel(role: str) -> dict[str, Becomes]:
    order = ROLES[role]
    return {"weight": Becomes(("weight",), len(order), order), **_same(bias=1)}


def _transposed(name: str, axes: int) -> Layer:
    return Layer(name, {"weight": TransposedKernel(("weight",), axes), **_same(bias=1)})


def _projections(part: str) -> tuple[str, ...]:
    return tuple(f"{name}_proj.{part}" for name in ("query", "key", "value"))


LINEAR = Layer("Linear", _same(weight=2, bias=1))
BATCH_NORM = Layer(
    "BatchNorm",
    _same(weight=1, bias=1, running_mean=1, running_var=1),
    {"num_batches_tracked": "mlx.nn.BatchNorm does not count batches"},
)
INSTANCE_NORM = Layer("InstanceNorm", _same(weight=1, bias=1), hint="affine=True where there are weights")
ATTENTION = Layer(
    "MultiHeadAttention",
    {
        "in_proj_weight": Becomes(_projections("weight"), 2),
        "in_proj_bias": Becomes(_projections("bias"), 1),
        "q_proj_weight": Becomes(("query_proj.weight",), 2),
        "k_proj_weight": Becomes(("key_proj.weight",), 2),
        "v_proj_weight": Becomes(("value_proj.weight",), 2),
    },
    hint="bias=True where there are biases",
)
AGAIN = {r"_flat_weights\.\d+": "the layer's weights a second time"}

LAYERS: Mapping[str, Layer] = {
    "torch.nn.modules.linear.Linear": LINEAR,
    "torch.nn.modules.linear.NonDynamicallyQuantizableLinear": LINEAR,
    "torch.nn.modules.linear.Bilinear": Layer(
        "Bilinear", {"weight": Becomes(("weight",), 3, (0, 2, 1)), **_same(bias=1)}
    ),
    "transformers.pytorch_utils.Conv1D": Layer(
        "Linear", {"weight": Becomes(("weight",), 2, ROLES["matrix"]), **_same(bias=1)}
    ),
    "torch.nn.modules.sparse.Embedding": Layer("Embedding", _same(weight=2)),
    "torch.nn.modules.normalization.LayerNorm": Layer("LayerNorm", _same(weight=1, bias=1)),
    "torch.nn.modules.normalization.RMSNorm": Layer(
        "RMSNorm", _same(weight=1), hint="eps=1.1920929e-07 where torch's was not set"
    ),
    "torch.nn.modules.normalization.GroupNorm": Layer(
        "GroupNorm", _same(weight=1, bias=1), hint="pytorch_compatible=True"
    ),
    "torch.nn.modules.instancenorm.InstanceNorm1d": INSTANCE_NORM,
    "torch.nn.modules.instancenorm.InstanceNorm2d": INSTANCE_NORM,
    "torch.nn.modules.instancenorm.InstanceNorm3d": INSTANCE_NORM,
    "torch.nn.modules.batchnorm.BatchNorm1d": BATCH_NORM,
    "torch.nn.modules.batchnorm.BatchNorm2d": BATCH_NORM,
    "torch.nn.modules.batchnorm.BatchNorm3d": dataclasses.replace(
        BATCH_NORM, hint="which takes no 5-D input: join the spatial axes"
    ),
    "torch.nn.modules.batchnorm.SyncBatchNorm": BATCH_NORM,
    "torch.nn.modules.conv.Conv1d": Layer("Conv1d", _kernel("conv1d")),
    "torch.nn.modules.conv.Conv2d": Layer("Conv2d", _kernel("conv2d")),
    "torch.nn.modules.conv.Conv3d": Layer("Conv3d", _kernel("conv3d")),
    "torch.nn.modules.conv.ConvTranspose1d": _transposed("ConvTranspose1d", 3),
    "torch.nn.modules.conv.ConvTranspose2d": _transposed("ConvTranspose2d", 4),
    "torch.nn.modules.conv.ConvTranspose3d": _transposed("ConvTranspose3d", 5),
    "torch.nn.modules.activation.PReLU": Layer("PReLU", _same(weight=1)),
    "torch.nn.modules.activation.MultiheadAttention": ATTENTION,
    "torch.nn.modules.rnn.LSTM": Layer("LSTM", dropped=AGAIN, arrange=recurrent.lstm),
    "torch.nn.modules.rnn.GRU": Layer("GRU", dropped=AGAIN, arrange=recurrent.gru),
    "torch.nn.modules.rnn.RNN": Layer(
        "RNN", dropped=AGAIN, arrange=recurrent.rnn, hint="nonlinearity=nn.relu where torch's was relu"
    ),
    "torch.nn.modules.rnn.LSTMCell": Layer("LSTM", arrange=recurrent.lstm),
    "torch.nn.modules.rnn.GRUCell": Layer("GRU", arrange=recurrent.gru),
    "torch.nn.modules.rnn.RNNCell": Layer("RNN", arrange=recurrent.rnn),
}
"""Every layer of torch that has tensors and a counterpart in mlx.nn, by the path of its class."""
