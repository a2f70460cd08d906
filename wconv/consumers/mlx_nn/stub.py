"""A skeleton of a pickled module as a Python file for mlx.nn: the tree's names, classes and sizes.

Names become identifiers or string literals, all else numbers: nothing that a file says becomes code.
"""

from __future__ import annotations

import keyword
import re
import textwrap
from collections.abc import Iterator, Mapping

from wconv.consumers.mlx_nn import by_layer, helpers
from wconv.consumers.mlx_nn.layer_types import CONSUMER, HOLDERS, SEQUENTIAL
from wconv.consumers.mlx_nn.made_by import CALLS, Made, literal
from wconv.consumers.mlx_nn.portability import portability
from wconv.consumers.mlx_nn.without_tensors import ADVICE, OWN, WITHOUT_TENSORS
from wconv.errors import LayoutError
from wconv.formats.modules import Module
from wconv.layouts.rules import State
from wconv.tensors.base import LazyTensor, Shape

DEPTH = 60
"""Modules within modules that are written."""

ORDINARY = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}", re.ASCII)

LIST, DICT = (f"torch.nn.modules.container.Module{kind}" for kind in ("List", "Dict"))

FAILED = (ValueError, KeyError, TypeError, IndexError, ZeroDivisionError)
"""What calls of layers raise whose settings the file does not tell, or tells wrongly."""


def stub(tensors: Mapping[str, LazyTensor], modules: Mapping[str, Module]) -> str:
    """The text of a Python file whose `make_model()` is a model that the converted weights fit.

    Args:
        tensors: by name.
        modules: by path, as `Checkpoint.modules` has them.

    Raises:
        FormatError: there are no modules.
        LayoutError: they lie in each other beyond all measure, or a tensor has not the shape of its layer.
    """
    found = portability(tensors, modules)
    writer = _Writer(tensors, modules)
    root = writer.expression("", 0)
    parts = [
        f"# A skeleton for {CONSUMER}, made of what a file says of its modules. Weights that wconv converted",
        "# from that file fit it: model = make_model(); model.load_weights(FILE); model.eval()",
        "# Inputs have their channels last. What raises NotImplementedError is to be written.",
        # the name of a class may have newlines
        *(f"# {ascii(line.strip())[1:-1]}" for line in found.lines()),
        *(f"# look at {path}: {remark}" for path, remark in writer.remarks.items()),
        "",
        "import mlx.core as mx",
        "import mlx.nn as nn",
    ]
    blocks = [helpers.TEXTS[name] for name in helpers.TEXTS if name in writer.helpers]
    blocks += [f"class {name}(nn.Module):\n{body}" for body, name in writer.classes.items()]
    blocks.append(f"def make_model():\n    return {_indented(root)}")
    return "\n".join(parts) + "\n\n\n" + "\n\n\n".join(block.strip("\n") for block in blocks) + "\n"


class _Writer:
    """The classes that are written so far, and what they need."""

    def __init__(self, tensors: Mapping[str, LazyTensor], modules: Mapping[str, Module]) -> None:
        self.modules = dict(_with_parents(modules))
        self.owned = by_layer.owned(tensors, modules)
        laid = by_layer.apply(tensors, modules)
        self.unchanged = laid.unchanged
        self.paths = by_layer.consumer_paths(self.modules)
        self.outputs: dict[str, dict[str, Shape]] = {}
        for name, sources in laid.sources.items():
            for source in sources:
                self.outputs.setdefault(source, {})[name] = laid.tensors[name].shape
        self.children: dict[str, list[str]] = {}
        for path in self.modules:
            if path:
                self.children.setdefault(path.rpartition(".")[0], []).append(path)
        self.classes: dict[str, str] = {}
        self.helpers: set[str] = set()
        self.remarks: dict[str, str] = {}

    def expression(self, path: str, depth: int) -> str:
        """What makes the module at a path, over several lines where it holds others."""
        if depth > DEPTH:
            raise LayoutError(f"modules lie more than {DEPTH} deep in each other: no skeleton is written")
        module, own = self.modules[path], self.owned.get(path, {})
        children = self.children.get(path, [])
        made = self._made(path, module, own, children)
        if made is not None:
            if made.remark:
                self.remarks[ascii(path)] = made.remark
            self.helpers |= {name for name in helpers.TEXTS if made.text.startswith(f"{name}(")}
            return made.text
        if not own and not children:
            self.helpers.add("Missing")
            advice = ADVICE.get(module.class_name, OWN)
            return f"Missing({module.class_name!a}, {advice!a})"
        names = [child.rpartition(".")[2] for child in children]
        if not own and module.class_name in (*SEQUENTIAL, LIST, DICT):
            inner = [self.expression(child, depth + 1) for child in children]
            if module.class_name in SEQUENTIAL:
                return _joined("nn.Sequential(", inner, ")")
            if module.class_name == LIST and names == [str(at) for at in range(len(names))]:
                return _joined("[", inner, "]")
            pairs = zip(names, inner, strict=True)
            return _joined("{", [f"{name!a}: {text}" for name, text in pairs], "}")
        if module.class_name in HOLDERS and not children:
            return _arrays(self._leaves(path, own))
        return self._class(path, module, own, depth)

    def _made(self, path: str, module: Module, own: State, children: list[str]) -> Made | None:
        """A layer that mlx.nn has, with the settings that the file tells; None for any other."""
        if any(entry.sources[0] in self.unchanged for entry in own.values()):
            return None
        try:
            if module.class_name in CALLS:
                shapes = {name: entry.tensor.shape for name, entry in own.items()}
                for child in children:
                    local = child.rpartition(".")[2]
                    for name, entry in self.owned.get(child, {}).items():
                        shapes[f"{local}.{name}"] = entry.tensor.shape
                return CALLS[module.class_name](module, shapes)
            if module.class_name in WITHOUT_TENSORS and not own and not children:
                return WITHOUT_TENSORS[module.class_name](module)
        except FAILED:
            self.remarks[ascii(path)] = "the file does not tell how to make it"
        return None

    def _leaves(self, path: str, own: State) -> dict[str, Shape]:
        """A module's own tensors as they are converted, by the names that it has for them."""
        prefix = f"{self.paths[path]}." if self.paths[path] else ""
        return {
            name.removeprefix(prefix): shape
            for entry in own.values()
            for name, shape in self.outputs.get(entry.sources[0], {}).items()
        }

    def _class(self, path: str, module: Module, own: State, depth: int) -> str:
        lines = ["    def __init__(self):", "        super().__init__()"]
        grouped: dict[str, dict[str, Shape]] = {}
        for name, shape in self._leaves(path, own).items():
            first, _, rest = name.partition(".")
            grouped.setdefault(first, {})[rest] = shape
        for name, parts in grouped.items():
            text = _zeros(parts[""]) if "" in parts else _arrays(parts)
            lines.append(f"        {_attribute(name)} = {_indented(text, 2)}")
        for child in self.children.get(path, []):
            text = self.expression(child, depth + 1)
            lines.append(f"        {_attribute(child.rpartition('.')[2])} = {_indented(text, 2)}")
        said = f"write what {module.class_name} does"
        lines += ["", "    def __call__(self, *inputs):", f"        raise NotImplementedError({said!a})"]
        body = "\n".join(lines)
        if body not in self.classes:
            self.classes[body] = _class_name(module.class_name, {*self.classes.values()})
        return f"{self.classes[body]}()"


def _with_parents(modules: Mapping[str, Module]) -> Iterator[tuple[str, Module]]:
    """The modules, each after those that it lies in, which a file may leave out."""
    seen: set[str] = set()
    for path in ("", *modules):
        parts = path.split(".") if path else []
        for depth in range(len(parts) + 1):
            above = ".".join(parts[:depth])
            if above not in seen:
                seen.add(above)
                yield above, modules.get(above, Module("no module"))


def _arrays(shapes: Mapping[str, Shape]) -> str:
    """Arrays by their names, in a list where these are its numbers; dots lead into dicts."""
    if list(shapes) == [str(at) for at in range(len(shapes))]:
        return _joined("[", [_zeros(shape) for shape in shapes.values()], "]")
    grouped: dict[str, dict[str, Shape]] = {}
    for name, shape in shapes.items():
        first, _, rest = name.partition(".")
        grouped.setdefault(first, {})[rest] = shape
    texts = {name: _zeros(parts[""]) if "" in parts else _arrays(parts) for name, parts in grouped.items()}
    return _joined("{", [f"{name!a}: {text}" for name, text in texts.items()], "}")


def _zeros(shape: Shape) -> str:
    return f"mx.zeros({literal(tuple(shape))})"


def _joined(begin: str, texts: list[str], end: str) -> str:
    if not texts:
        return begin + end
    return "\n".join([begin, *(textwrap.indent(text, "    ") + "," for text in texts), end])


def _indented(text: str, levels: int = 1) -> str:
    first, *rest = text.split("\n")
    return "\n".join([first, *("    " * levels + line for line in rest)])


def _attribute(name: str) -> str:
    """Where a module keeps what has a name: as an attribute, or an item where that is something else."""
    if ORDINARY.fullmatch(name) and not keyword.iskeyword(name) and name not in helpers.TAKEN:
        return f"self.{name}"
    return f"self[{name!a}]"


def _class_name(path: str, taken: set[str]) -> str:
    """An identifier for a class, which no other has."""
    name = re.sub(r"[^0-9A-Za-z_]", "_", path.rpartition(".")[2])[:60].strip("_") or "Module"
    name = name if name[0].isalpha() else f"Module{name}"
    if name in helpers.RESERVED or keyword.iskeyword(name) or keyword.issoftkeyword(name):
        name += "_"
    number, unique = 1, name
    while unique in taken:
        number += 1
        unique = f"{name}_{number}"
    return unique
