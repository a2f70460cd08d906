"""Whole modules laid out for MLX by layer type: torch's class of each layer → what mlx.nn calls its tensors.

No table of a model is needed where a file says which layer each tensor belongs to. The facts are those of
torch 2.13's and mlx 0.32's own layers; every row is compared with both by a forward pass.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from wconv.errors import LayoutError
from wconv.layouts import recurrent
from wconv.layouts.engine import KEEP_DTYPE, Applied, matches
from wconv.layouts.rules import ROLES, Entry, State
from wconv.modules import Module
from wconv.tensor import LazyTensor

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

    def outputs(self, entry: Entry, module: Module, own: State) -> list[LazyTensor]:
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

    def outputs(self, entry: Entry, module: Module, own: State) -> list[LazyTensor]:
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


def fits(modules: Mapping[str, Module]) -> bool:
    """Whether a layer is among the modules that the table knows."""
    return any(module.class_name in LAYERS for module in modules.values())


def apply(tensors: Mapping[str, LazyTensor], modules: Mapping[str, Module]) -> Applied:
    """Lays each tensor out as the mlx.nn counterpart of its layer has it, without reading any.

    Tensors of classes that the table lacks pass unchanged, and are told.

    Args:
        tensors: by name; the longest path of `modules` that a name begins with is its layer.

    Raises:
        LayoutError: a tensor has not the shape of such a parameter, a recurrent layer lacks one, or two
            would get the same name.
    """
    done = _Applying(modules)
    for path, own in _owned(tensors, modules).items():
        done.add(path, own)
    kept = frozenset(name for name in done.state if matches(KEEP_DTYPE, name))
    return Applied(
        {name: entry.tensor for name, entry in done.state.items()},
        done.dropped,
        kept,
        {name: entry.sources for name, entry in done.state.items()},
        tuple(done.notes()),
        done.unchanged,
    )


class _Applying:
    """What has been laid out so far."""

    def __init__(self, modules: Mapping[str, Module]) -> None:
        self.modules = modules
        self.paths = _consumer_paths(modules)
        self.state: State = {}
        self.dropped: dict[str, str] = {}
        self.unchanged: dict[str, str] = {}
        self.known: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.remarks: list[str] = []

    def add(self, path: str, own: State) -> None:
        """One module's own tensors, by the names that it has for them."""
        module = self.modules.get(path, Module("no module"))
        layer = LAYERS.get(module.class_name)
        prefix = self.paths.get(path, path)
        if module.class_name in HOLDERS:
            for name, entry in own.items():
                self._put(prefix, name, entry)
            return
        reason = _no_counterpart(layer, module, own)
        if layer is None or reason:
            self.unknown[module.class_name] += 1
            for name, entry in own.items():
                self._pass(prefix, name, entry, reason)
            return
        self.known[module.class_name] += 1
        padding = module.settings.get("padding_mode", "zeros")
        if padding != "zeros":
            self.remarks.append(
                f"{path} pads with {padding!r:.40}, not with zeros as {CONSUMER}.{layer.name}"
            )
        arranged: State = {}
        for name, entry in own.items():
            why = next((why for text, why in layer.dropped.items() if re.fullmatch(text, name)), None)
            if why:
                self.dropped[entry.sources[0]] = why
            elif layer.arrange and recurrent.PARAMETER.fullmatch(name):
                arranged[name] = entry
            elif name in layer.parameters:
                becomes = layer.parameters[name]
                for target, part in zip(becomes.targets, becomes.outputs(entry, module, own), strict=True):
                    self._put(prefix, target, Entry(part, entry.sources))
            else:
                self._pass(prefix, name, entry, f"{CONSUMER}.{layer.name} has no such parameter")
        if layer.arrange and arranged:
            laid_out = layer.arrange(arranged, path or module.class_name)
            lists = dict.fromkeys(name.partition(".")[0] for name in laid_out if "." in name)
            if lists:
                kind = f"of {CONSUMER}.{layer.name}, one for each layer and direction"
                self.remarks.append(f"{path or 'the model'}: lists {kind}: {', '.join(lists)}")
            for target, entry in laid_out.items():
                self._put(prefix, target, entry)

    def _pass(self, prefix: str, name: str, entry: Entry, why: str) -> None:
        self.unchanged[entry.sources[0]] = why
        self._put(prefix, name, entry)

    def _put(self, prefix: str, name: str, entry: Entry) -> None:
        full = f"{prefix}.{name}" if prefix else name
        if full in self.state:
            raise LayoutError(
                f"{self.state[full].sources[0]} and {entry.sources[0]} would both become {full} in {CONSUMER}"
            )
        self.state[full] = entry

    def notes(self) -> list[str]:
        """Which classes were recognised, which were not, and how often each."""
        told = []
        if self.known:
            told.append("layers recognised: " + ", ".join(_told(name, self.known) for name in self.known))
        if self.unknown:
            counted = (f"{name} {count}" for name, count in self.unknown.items())
            told.append("layers not recognised: " + ", ".join(counted))
        return told + self.remarks


def _told(class_name: str, counts: Mapping[str, int]) -> str:
    """A layer's class and its count; what it becomes where that is called otherwise, or must be told more."""
    layer, name = LAYERS[class_name], class_name.rpartition(".")[2]
    more = [layer.name] if layer.name != name else []
    if layer.hint:
        more = [f"{layer.name}({layer.hint})"]
    return f"{name} {counts[class_name]}" + (f" → {more[0]}" if more else "")


def _no_counterpart(layer: Layer | None, module: Module, own: State) -> str:
    """Why a module's tensors cannot be laid out; empty where they can."""
    if layer is None:
        return f"of {module.class_name}, which {CONSUMER} has not"
    if layer.arrange and any(recurrent.PROJECTION.fullmatch(name) for name in own):
        return f"of {module.class_name} with proj_size, which {CONSUMER} has not"
    for name, entry in own.items():
        becomes = layer.parameters.get(name)
        if becomes is not None and entry.tensor.ndim != becomes.axes:
            return f"of {module.class_name} with {entry.tensor.ndim} axes, not {becomes.axes}"
        if isinstance(becomes, TransposedKernel) and becomes.groups(module, own) is None:
            return f"of {module.class_name} whose groups the file does not tell"
    return ""


def _owned(tensors: Mapping[str, LazyTensor], modules: Mapping[str, Module]) -> dict[str, State]:
    """The tensors by the path of the module they belong to, under the names that it has for them."""
    owned: dict[str, State] = {}
    for name, tensor in tensors.items():
        path = name
        while path and path not in modules:
            path = path.rpartition(".")[0]
        local = name.removeprefix(path + ".") if path else name
        owned.setdefault(path, {})[local] = Entry(tensor, (name,))
    return owned


def _consumer_paths(modules: Mapping[str, Module]) -> dict[str, str]:
    """Each module's path in MLX: members of a `Sequential` are numbered in its list `layers`."""
    paths: dict[str, str] = {}
    members: Counter[str] = Counter()
    for path in modules:
        parent, _, name = path.rpartition(".")
        container = modules.get(parent) if path else None
        above = paths.get(parent, parent)
        if container is not None and container.class_name in SEQUENTIAL:
            name = f"layers.{members[parent]}"
        members[parent] += 1
        paths[path] = f"{above}.{name}" if above else name
    return paths
