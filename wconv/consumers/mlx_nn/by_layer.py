"""Whole modules laid out for MLX by layer type, where a file says which layer each tensor belongs to.

No table of a model is needed; tensors of layers that MLX has not pass unchanged, and the report names them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from wconv.consumers.mlx_nn.layer_types import CONSUMER, HOLDERS, LAYERS, SEQUENTIAL, Layer, TransposedKernel
from wconv.errors import LayoutError
from wconv.formats.modules import Module
from wconv.layouts.apply import KEEP_DTYPE, KEPT_BY_SOME, LayoutResult, fitting
from wconv.layouts.computed import recurrent
from wconv.layouts.rules import State, TracedTensor
from wconv.tensors.lazy import LazyTensor

__all__ = ["CONSUMER", "apply", "fits"]


def fits(modules: Mapping[str, Module]) -> bool:
    """Whether a layer is among the modules that the table knows."""
    return any(module.class_name in LAYERS for module in modules.values())


def apply(tensors: Mapping[str, LazyTensor], modules: Mapping[str, Module]) -> LayoutResult:
    """Lays each tensor out as the mlx.nn counterpart of its layer has it, without reading any.

    Tensors of classes that the table lacks pass unchanged, and the report names them.

    Args:
        tensors: by name; the longest path of `modules` that a name begins with is its layer.

    Raises:
        LayoutError: a tensor has not the shape of such a parameter, a recurrent layer lacks one, or two
            would get the same name.
    """
    done = _Applying(modules)
    for path, own in owned(tensors, modules).items():
        done.add(path, own)
    kept = fitting(KEEP_DTYPE, done.state)
    return LayoutResult(
        {name: entry.tensor for name, entry in done.state.items()},
        done.dropped,
        kept,
        {name: entry.sources for name, entry in done.state.items()},
        tuple(done.notes()),
        done.unchanged,
        keep_why=KEPT_BY_SOME,
    )


class _Applying:
    """What has been laid out so far."""

    def __init__(self, modules: Mapping[str, Module]) -> None:
        self.modules = modules
        self.paths = consumer_paths(modules)
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
                    self._put(prefix, target, TracedTensor(part, entry.sources))
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

    def _pass(self, prefix: str, name: str, entry: TracedTensor, why: str) -> None:
        self.unchanged[entry.sources[0]] = why
        self._put(prefix, name, entry)

    def _put(self, prefix: str, name: str, entry: TracedTensor) -> None:
        full = f"{prefix}.{name}" if prefix else name
        if full in self.state:
            raise LayoutError(
                f"{self.state[full].sources[0]} and {entry.sources[0]} would both become {full} in {CONSUMER}"
            )
        self.state[full] = entry

    def notes(self) -> list[str]:
        """Which classes were recognised, which were not, and how often each."""
        remarks = []
        if self.known:
            remarks.append(
                "layers recognised: " + ", ".join(_described(name, self.known) for name in self.known)
            )
        if self.unknown:
            counted = (f"{name} {count}" for name, count in self.unknown.items())
            remarks.append("layers not recognised: " + ", ".join(counted))
        return remarks + self.remarks


def _described(class_name: str, counts: Mapping[str, int]) -> str:
    """A layer's class and its count; what it becomes where MLX calls or makes it otherwise."""
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


def owned(tensors: Mapping[str, LazyTensor], modules: Mapping[str, Module]) -> dict[str, State]:
    """The tensors by the path of the module they belong to, under the names that it has for them."""
    owned: dict[str, State] = {}
    for name, tensor in tensors.items():
        path = name
        while path and path not in modules:
            path = path.rpartition(".")[0]
        local = name.removeprefix(path + ".") if path else name
        owned.setdefault(path, {})[local] = TracedTensor(tensor, (name,))
    return owned


def consumer_paths(modules: Mapping[str, Module]) -> dict[str, str]:
    """Each module's path in MLX: members of a `Sequential` are numbered in its list `layers`."""
    paths: dict[str, str] = {"": ""}
    members: Counter[str] = Counter()
    for path in filter(None, modules):
        parent, _, name = path.rpartition(".")
        container = modules.get(parent)
        above = paths.get(parent, parent)
        if container is not None and container.class_name in SEQUENTIAL:
            name = f"layers.{members[parent]}"
        members[parent] += 1
        paths[path] = f"{above}.{name}" if above else name
    return paths
