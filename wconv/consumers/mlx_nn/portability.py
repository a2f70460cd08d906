"""How much of a pickled module mlx.nn has, by layers and by parameters, and what to write for the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from wconv.consumers.mlx_nn import by_layer
from wconv.consumers.mlx_nn.layer_types import CONSUMER, HOLDERS, LAYERS, SEQUENTIAL
from wconv.consumers.mlx_nn.without_tensors import ADVICE, OWN, WITHOUT_TENSORS
from wconv.errors import FormatError
from wconv.formats.modules import Module
from wconv.tensors.base import LazyTensor
from wconv.wording import fitted, plural

CONTAINERS = (
    *SEQUENTIAL,
    *HOLDERS,
    *(f"torch.nn.modules.container.Module{kind}" for kind in ("List", "Dict")),
)
"""What holds layers and is none: it is not counted."""

SHOWN = 20
"""Classes that people are shown; JSON has all."""


@dataclass(frozen=True, slots=True)
class MissingLayer:
    """A class of layers that mlx.nn has not.

    Attributes:
        class_name: torch's.
        count: how many of them there are.
        parameters: elements of their own tensors.
        instead: what to write in MLX.
    """

    class_name: str
    count: int
    parameters: int
    instead: str


@dataclass(frozen=True, slots=True)
class Portability:
    """How much of a model mlx.nn has.

    Attributes:
        layers, layers_there: modules that compute something, and those of them that mlx.nn has.
        parameters, parameters_there: elements of all tensors, and of those of such layers.
        missing: the others, those with the most parameters first.
        remarks: what else the layout says of them.
    """

    layers: int
    layers_there: int
    parameters: int
    parameters_there: int
    missing: tuple[MissingLayer, ...]
    remarks: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return fitted(f"<Portability: {self.layers_there} of {plural(self.layers, 'layer')}>")

    def lines(self) -> Iterator[str]:
        """What people are shown."""
        part = 100 * self.parameters_there / self.parameters if self.parameters else 100.0
        yield (
            f"for {CONSUMER}: {self.layers_there:,} of {plural(self.layers, 'layer')},"
            f" {self.parameters_there:,} of {self.parameters:,} parameters ({part:.1f} %) are there"
        )
        for one in self.missing[:SHOWN]:
            size = f"{one.count:,}, {one.parameters:,} parameters"
            yield f"  not there: {one.class_name} ({size}): {one.instead}"
        if len(self.missing) > SHOWN:
            yield f"  and {len(self.missing) - SHOWN:,} more classes (--json has all)"
        yield from (f"  {remark}" for remark in self.remarks)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data for JSON."""
        from dataclasses import asdict

        return asdict(self)


def portability(tensors: Mapping[str, LazyTensor], modules: Mapping[str, Module]) -> Portability:
    """How much of a model mlx.nn has.

    Args:
        tensors: by name.
        modules: by path, as `Checkpoint.modules` has them.

    Raises:
        FormatError: there are no modules: the file holds tensors alone.
        LayoutError: a tensor has not the shape of such a parameter.
    """
    if not modules:
        raise FormatError(
            "the file names no modules: only a whole nn.Module (torch.save(model, ...)) and TorchScript do"
        )
    unchanged = by_layer.apply(tensors, modules).unchanged
    owned = by_layer.owned(tensors, modules)
    missing: dict[str, list[int]] = {}
    layers = there = parameters = parameters_there = 0
    parents = {path.rpartition(".")[0] for path in modules if path}
    for path, module in modules.items():
        own = owned.get(path, {})
        size = sum(entry.tensor.size for entry in own.values())
        parameters += size
        name = module.class_name
        if name in CONTAINERS or (path in parents and not own and name not in LAYERS):
            parameters_there += size
            continue
        layers += 1
        known = name in LAYERS or name in WITHOUT_TENSORS
        if known and not any(entry.sources[0] in unchanged for entry in own.values()):
            there += 1
            parameters_there += size
        else:
            found = missing.setdefault(name, [0, 0])
            found[0] += 1
            found[1] += size
    rows = [MissingLayer(name, count, size, _instead(name)) for name, (count, size) in missing.items()]
    rows.sort(key=lambda row: -row.parameters)
    return Portability(layers, there, parameters, parameters_there, tuple(rows))


def _instead(class_name: str) -> str:
    if class_name in LAYERS:
        return f"{CONSUMER}.{LAYERS[class_name].name} has not this form of it: compute it with mlx.core"
    return ADVICE.get(class_name, OWN)
