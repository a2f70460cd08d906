"""From the object that a checkpoint holds to a state dict: `{name: tensor}`, and what else there is.

A state dict may be the object itself, or have to be collected from a pickled module. Nested dicts and lists
are flattened with dots; two paths that come to the same name are an error, not a loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from wconv.errors import FormatError, UnsafeError
from wconv.formats.numpy import arrays as npy
from wconv.formats.torch import subclasses
from wconv.formats.torch.objects import (
    LEAVES,
    NUMPY_NUMBERS,
    Global,
    NestedTensor,
    NumpyArray,
    OrderedDict,
    Record,
    TorchTensor,
    shown,
)
from wconv.formats.torch.sparse import nested_parts

DEPTH_LIMIT = 400
"""Objects within objects."""

NAMES_LIMIT = 256 << 20
"""Bytes of names and paths: a key that is told once stands in every name below it."""

NODES_EXTRA = 200_000
"""How many more objects than bytes of pickle the unfolded tree may have: shared parts count each time."""

CONTAINERS = (dict, list, tuple)

MASKED = "numpy.ma."
"""Classes of arrays that keep their elements as mere bytes."""


@dataclass(slots=True)
class Flattened:
    """What `flatten` found, by name.

    Attributes:
        others: what is no tensor.
        paths: from where in the object each tensor is, for errors.
        loose: of `others`, what lies among tensors, as far as it fits on a line.
        unlisted: tensors that no state dict has: attributes of modules and of other tensors.
        apart: tensors in classes of their own that were taken apart → the names of their parts.
        described: of those, what the class says of them.
    """

    tensors: dict[str, Any] = field(default_factory=dict)
    others: dict[str, Any] = field(default_factory=dict)
    paths: dict[str, tuple[str, ...]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    modules: dict[str, Record] = field(default_factory=dict)
    loose: dict[str, str] = field(default_factory=dict)
    unlisted: list[str] = field(default_factory=list)
    apart: dict[str, tuple[str, ...]] = field(default_factory=dict)
    described: dict[str, str] = field(default_factory=dict)


def children(value: Any) -> Iterator[tuple[Any, Any]]:
    """Keys and values of a container, of a record its attributes, items and elements."""
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, (list, tuple)):
        yield from enumerate(value)
    elif isinstance(value, Record):
        yield "args", value.args
        yield "state", value.state
        yield from value.items.items()
        yield from enumerate(value.elements)
    elif isinstance(value, NumpyArray) and isinstance(value.data, list):
        yield from enumerate(value.data)


def check_tree(root: Any, program: int, where: str) -> None:
    """Refuses objects that are too deep, or that unfold to far more than the file describes.

    One walk over the distinct objects counts how many there would be if shared ones were repeated, so that
    everything after it may walk the tree naively. An object within itself counts once.

    Raises:
        UnsafeError: the tree is beyond `DEPTH_LIMIT` or `program + NODES_EXTRA` nodes.
    """
    limit = program + NODES_EXTRA
    sizes: dict[int, int] = {}
    path: list[tuple[int, Iterator[tuple[Any, Any]], int]] = []
    nodes = (dict, list, tuple, Record, NumpyArray)
    if not isinstance(root, nodes):
        return
    open_ids = {id(root)}
    current, values, size = id(root), children(root), 1
    while True:
        for _, value in values:
            size += 1
            if not isinstance(value, nodes):
                continue
            known = sizes.get(id(value))
            if known is not None:
                size += known
            elif id(value) not in open_ids:
                if len(path) >= DEPTH_LIMIT:
                    raise UnsafeError(f"{where} holds objects nested more than {DEPTH_LIMIT} deep: refused")
                path.append((current, values, size))
                open_ids.add(id(value))
                current, values, size = id(value), children(value), 1
                break
            if size > limit:
                raise UnsafeError(f"{where} holds objects that repeat each other beyond all measure: refused")
        else:
            if size > limit:
                raise UnsafeError(f"{where} holds objects that repeat each other beyond all measure: refused")
            sizes[current] = size
            open_ids.discard(current)
            if not path:
                return
            done = size
            current, values, size = path.pop()
            size += done


def is_module(value: Any) -> bool:
    """Whether a record is a pickled `nn.Module`."""
    return isinstance(value, Record) and {"_parameters", "_modules"} <= value.attributes.keys()


def is_script(value: Any) -> bool:
    """Whether a record is a TorchScript module."""
    return (
        isinstance(value, Record)
        and isinstance(value.constructor, Global)
        and value.constructor.module.startswith("__torch__")
    )


def module_members(module: Record) -> Iterator[tuple[str, Any]]:
    """Parameters, persistent buffers and sub-modules of a pickled module, in `state_dict`'s order."""
    attributes = module.attributes
    transient = attributes.get("_non_persistent_buffers_set")
    transient = transient if isinstance(transient, (set, frozenset)) else ()
    for group in ("_parameters", "_buffers", "_modules"):
        held = attributes.get(group)
        held = held.items if isinstance(held, Record) else held
        if not isinstance(held, dict):
            continue
        for name, value in held.items():
            if value is not None and not (group == "_buffers" and name in transient):
                yield str(name), value


def script_members(module: Record) -> Iterator[tuple[str, Any]]:
    """A TorchScript module's tensors, modules and containers of them; its constants."""
    for name, value in (*module.attributes.items(), *module.items.items()):
        if isinstance(value, (*LEAVES, NestedTensor, Record, dict, list, tuple)):
            yield str(name), value


def flatten(root: Any, where: str) -> Flattened:
    """Every tensor below `root` under its dotted name; everything else under `others`.

    Raises:
        FormatError: two paths come to the same name.
        UnsafeError: one long key is in so many names that they would fill memory.
    """
    found = Flattened()
    if type(root) in (dict, OrderedDict) and all(
        type(value) is TorchTensor and type(key) is str for key, value in root.items()
    ):
        found.tensors.update(root)
        _note_attributes(found)
        return found
    pending: list[tuple[tuple[str, ...], Any, bool]] = [((), root, False)]
    active: list[tuple[int, int]] = []
    spent = 0
    while pending:
        path, value, among = pending.pop()
        while active and active[-1][0] >= len(path):
            active.pop()
        if isinstance(value, (*CONTAINERS, Record, NumpyArray)):
            if any(identity == id(value) for _, identity in active):
                continue
            active.append((len(path), id(value)))
        if is_module(value) or is_script(value):
            found.modules[".".join(path)] = value
        if subclasses.is_described(value):
            _take_apart(found, path, value, where)
            continue
        inner = members(value)
        if inner is not None:
            names = [key_name(key) for key, _ in inner]
            spent += len(names) * (100 + 8 * len(path) + sum(map(len, path))) + sum(map(len, names))
            if spent > NAMES_LIMIT:
                raise UnsafeError(f"{where} holds names of more than {NAMES_LIMIT >> 20} MiB in all: refused")
            tensors = any(isinstance(member, LEAVES) for _, member in inner)
            below = [((*path, name), member, tensors) for name, (_, member) in zip(names, inner, strict=True)]
            pending.extend(reversed(below))
            if isinstance(value, Record):
                _note_rest(found, path, value)
        elif isinstance(value, NestedTensor):
            parts = [((*path, str(index)), part, False) for index, part in enumerate(nested_parts(value))]
            found.notes.append(f"{'.'.join(path)} is a nested tensor: written as {len(parts)} tensors")
            pending.extend(reversed(parts))
        else:
            _place(found, path, value, among, where)
    _note_attributes(found)
    return found


def _take_apart(found: Flattened, path: tuple[str, ...], value: Record, where: str) -> None:
    """Places the tensors that a tensor of torchao's is made of."""
    name = ".".join(path) if path else "tensor"
    parts = [(subclasses.part_name(name, end), leaf) for end, leaf in subclasses.parts_of(value)]
    if not parts:
        found.skipped[name] = f"it is a {_class_of(value):.100}, of which no part is a tensor"
        return
    for part, leaf in parts:
        _place(found, (*path[:-1], part.removeprefix(".".join((*path[:-1], "")))), leaf, False, where)
    found.apart[name] = tuple(part for part, _ in parts)
    found.described[name] = subclasses.description(value)


def _note_attributes(found: Flattened) -> None:
    """Remembers which tensors have tensors set on them, which no state dict has."""
    known: dict[int, bool] = {}
    for name, leaf in found.tensors.items():
        if type(leaf) is not TorchTensor or not leaf.state:
            continue
        for part in leaf.state if isinstance(leaf.state, tuple) else (leaf.state,):
            if isinstance(part, dict) and id(part) not in known:
                # states may share their parts: each is looked through once
                known[id(part)] = any(isinstance(value, LEAVES) for value in part.values())
            if known.get(id(part)):
                found.unlisted.append(f"attributes of {name}")


def _note_rest(found: Flattened, path: tuple[str, ...], value: Record) -> None:
    """Names tensors of a record that are not among its members."""
    name = ".".join(path)
    if is_module(value):
        held = value.attributes.items()
        found.unlisted.extend(f"{name}.{key}".strip(".") for key, item in held if isinstance(item, LEAVES))
    elif not is_script(value) and (holds_tensors(value.args) or holds_tensors(value.state)):
        found.skipped[name or "tensor"] = f"it is in an attribute of a {value.class_name:.100}"


def members(value: Any) -> list[tuple[Any, Any]] | None:
    """What a value is flattened into; None for what stays whole."""
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, (list, tuple)):
        # numbers and the like stay one value
        return list(enumerate(value)) if any(isinstance(item, _FLATTENED) for item in value) else None
    if isinstance(value, NumpyArray):
        if not isinstance(value.data, list) or not holds_tensors(value.data):
            return None
        inner = unboxed(value)
        return list(enumerate(value.data)) if inner is value else members(inner) or [(0, inner)]
    if isinstance(value, Record):
        if is_module(value):
            return list(module_members(value))
        if is_script(value):
            return list(script_members(value))
        if value.items:
            return list(value.items.items())
        if value.elements and any(isinstance(item, _FLATTENED) for item in value.elements):
            return list(enumerate(value.elements))
    return None


def unboxed(value: Any) -> Any:
    """What is in an array of one object and no axes, as numpy saves a dict; else the value itself."""
    if not isinstance(value, NumpyArray) or value.shape or not isinstance(value.data, list):
        return value
    return value.data[0] if len(value.data) == 1 and not isinstance(value.data[0], NumpyArray) else value


_FLATTENED = (*LEAVES, NestedTensor, Record, *CONTAINERS)


def key_name(key: Any) -> str:
    """A key as a part of a name; a tuple's parts are joined by dots."""
    if isinstance(key, str):
        return key
    if isinstance(key, tuple):
        return ".".join(f"{key_name(part):.100}" for part in key)
    return f"{key!r:.100}" if isinstance(key, (Record, Global)) else str(key)


def _place(found: Flattened, path: tuple[str, ...], value: Any, among: bool, where: str) -> None:
    name = ".".join(path) if path else "tensor"
    if isinstance(value, LEAVES) or (among and type(value) in _NUMBERS):
        if name in found.paths:
            raise FormatError(
                f"{where} holds two tensors for the name {name!r:.200}: at {_spell(found.paths[name])}"
                f" and at {_spell(path)}; pick one with --key"
            )
        found.paths[name] = path
        found.tensors[name] = value
    elif isinstance(value, Record) and (value.class_name.startswith(MASKED) or holds_tensors(value)):
        found.skipped[name] = f"it is a {_class_of(value):.100}, which wconv does not know"
    elif isinstance(value, set | frozenset) and holds_tensors(value):
        found.skipped[name] = "it is in a set, which has no order"
    else:
        found.others[name] = value
        if among and value is not None:
            found.loose[name] = f"a {value.class_name:.60}" if isinstance(value, Record) else shown(value, 40)


_NUMBERS = frozenset(NUMPY_NUMBERS.values())


def _class_of(value: Record) -> str:
    """The class of a record; of a tensor in a class of its own, that class and not torch's function."""
    name = value.class_name
    if name.endswith("._rebuild_wrapper_subclass") and type(value.args) is tuple and value.args:
        return value.args[0].path if isinstance(value.args[0], Global) else name
    return name


def _spell(path: tuple[str, ...]) -> str:
    return "".join(f"[{part!r:.100}]" for part in path)


def holds_tensors(value: Any) -> bool:
    """Whether there is a tensor anywhere below; looks at no object twice."""
    pending, seen = [value], set()
    while pending:
        item = pending.pop()
        if isinstance(item, NumpyArray):
            if npy.element_type(item.dtype) is not None:
                return True
        elif isinstance(item, (*LEAVES, NestedTensor)):
            return True
        if isinstance(item, set | frozenset):
            pending.extend(item)
        elif isinstance(item, (*CONTAINERS, Record, NumpyArray)) and id(item) not in seen:
            seen.add(id(item))
            pending.extend(child for _, child in children(item))
    return False
