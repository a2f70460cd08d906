"""Graphs of lazy tensors are walked and made anew by what every node says of itself; no node forgets to."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

import wconv
from wconv.tensors.graph import leaves, rebuilt
from wconv.tensors.lazy import Array, ArrayTensor, LazyTensor, from_array
from wconv.tensors.multi import MultiNode
from wconv.tensors.nodes import UnaryNode, ZerosNode


def classes() -> set[type]:
    """Every class of the package."""
    for found in pkgutil.walk_packages(wconv.__path__, "wconv."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    left: list[type] = [object]
    seen: set[type] = set()
    while left:
        for one in type.__subclasses__(left.pop()):
            if one not in seen:
                seen.add(one)
                left.append(one)
    # classes of C extensions may have something else than a text there
    return {one for one in seen if str(one.__module__).startswith("wconv.")}


CLASSES = classes()
NODES = sorted(
    (
        one
        for one in CLASSES
        if issubclass(one, LazyTensor | MultiNode) and one not in (LazyTensor, MultiNode)
    ),
    key=lambda one: (one.__module__, one.__name__),
)


def holders() -> set[str]:
    """Names of classes that are tensors, or whose instances hold some."""
    names = {"LazyTensor", "MultiNode", *(one.__name__ for one in NODES)}
    words = re.compile(rf"\b({'|'.join(names)})\b")
    return names | {
        one.__name__
        for one in CLASSES
        if dataclasses.is_dataclass(one) and any(words.search(str(field.type)) for field in fields(one))
    }


def fields(cls: type) -> tuple[dataclasses.Field[object], ...]:
    return dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()


HOLDERS = re.compile(rf"\b({'|'.join(holders())})\b")


def forgotten(cls: type) -> list[str]:
    """The fields that hold tensors and are not among the parents that a node names.

    A field with an underscore is what a leaf has opened, and a function holds nothing.
    """
    own = {name for base in cls.__mro__ if base not in (LazyTensor, MultiNode) for name in vars(base)}
    if {"parents", "with_parents"} <= own:
        return []
    named = getattr(cls, "PARENTS", ())
    public = [field for field in fields(cls) if not field.name.startswith("_")]
    values = [field for field in public if not str(field.type).startswith("Callable")]
    held = [field.name for field in values if HOLDERS.search(str(field.type))]
    return [name for name in held if name not in named] + [name for name in named if name not in held]


@pytest.mark.parametrize(
    "cls", NODES, ids=lambda cls: f"{cls.__module__.removeprefix('wconv.')}.{cls.__name__}"
)
def test_every_node_names_all_that_it_is_computed_of(cls: type) -> None:
    assert not forgotten(cls)
    assert dataclasses.is_dataclass(cls) or not getattr(cls, "PARENTS", ())


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Forgetful(UnaryNode):
    other: LazyTensor | None

    def read_into(self, start: int, stop: int, out: Array) -> None:
        self.parent.read_into(start, stop, out)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Optional(Forgetful):
    PARENTS: ClassVar[tuple[str, ...]] = ("parent", "other")


def test_a_forgotten_field_is_found() -> None:
    assert forgotten(Forgetful) == ["other"]
    assert not forgotten(Optional)


def test_the_nodes_are_found() -> None:
    names = {one.__name__ for one in NODES}
    assert {"CastNode", "ConcatNode", "Decoded", "Merged", "Output", "Strided", "Inflated"} <= names


def test_a_parent_that_is_not_there_has_no_place() -> None:
    source = from_array(np.arange(4, dtype=np.float32))
    node = Optional(source, None)
    assert node.parents == (source,)
    with pytest.raises(ValueError, match="Optional has 1 parents"):
        node.with_parents(source, source)
    assert Optional(source, source).with_parents(source, node).parents == (source, node)


def walked(tensor: LazyTensor) -> Iterator[LazyTensor]:
    yield tensor
    for parent in tensor.parents:
        yield from walked(parent)


def test_a_graph_is_rebuilt_over_other_leaves_and_else_stays_itself() -> None:
    first, second = (from_array(np.arange(6, dtype=np.float32) + 10 * at) for at in range(2))
    graph = first.add(1.0).reshape((2, 3)).transpose((1, 0)).cast("float16")
    assert list(leaves(graph)) == [first]
    assert rebuilt(graph, lambda one: None) is graph
    other = rebuilt(graph, lambda one: second if one is first else None)
    assert [type(one) for one in walked(other)] == [type(one) for one in walked(graph)]
    assert np.array_equal(other.numpy(), graph.numpy() + 10)


def test_the_place_in_a_file_is_that_of_the_first_parent() -> None:
    source = from_array(np.zeros(4, np.float32))
    assert isinstance(source, ArrayTensor)
    assert source.file_position == ZerosNode((4,), source.dtype).file_position == ("", 0)
