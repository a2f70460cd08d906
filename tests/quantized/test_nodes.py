"""Nodes of quantized weights tell what they are computed of, so that their graphs are rebuilt as any.

Covers `quantized/codes.py`, `quantized/values.py`, `quantized/mlx_forms.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest

from tests.quantized.test_recognition import CASES, packed_forms, same, scheme_of
from wconv.quantized import codes, mlx, mlx_forms, values
from wconv.tensors import dtypes
from wconv.tensors.graph import leaves, rebuilt
from wconv.tensors.lazy import FileTensor, LazyTensor, from_array
from wconv.tensors.quantize import Quantization
from wconv.tensors.quantized import quantized

ROOM = {
    node
    for module in (codes, values, mlx, mlx_forms)
    for node in vars(module).values()
    if isinstance(node, type) and issubclass(node, LazyTensor) and node.__module__ == module.__name__
}


OTHERS = "others"


def others() -> Iterator[tuple[str, LazyTensor]]:
    """Nodes that none of the fixtures needs."""
    random = np.random.default_rng(0)
    yield "signed", codes.Flipped(from_array(random.integers(-8, 8, (4, 64)).astype(np.int8)))
    for how in (Quantization.of(), Quantization.of("mxfp4")):
        weight = from_array(random.standard_normal((4, 64)).astype(np.float32))
        parts = [from_array(part.numpy()) for part in quantized(weight, how)]
        biases = parts[2] if how.has_biases else None
        yield how.mode, mlx.Dequantized(parts[0], parts[1], biases, how, dtypes.by_name("bfloat16"))


def graphs(case: str) -> Iterator[tuple[str, LazyTensor]]:
    """The dense values of each weight, and the parts of MLX's form of those that have one."""
    if case == OTHERS:
        yield from others()
        return
    scheme, tensors, _ = scheme_of(case)
    yield from scheme.decode(tensors).tensors.items()
    for name, form in packed_forms(scheme).items():
        parts = (form.weight, form.scales, form.biases)
        yield from ((name, part) for part in parts if part is not None)


def walked(tensor: LazyTensor) -> Iterator[LazyTensor]:
    yield tensor
    for parent in tensor.parents:
        yield from walked(parent)


def in_memory(tensor: LazyTensor) -> LazyTensor | None:
    return from_array(tensor.numpy()) if isinstance(tensor, FileTensor) else None


@pytest.mark.parametrize("case", [*CASES, OTHERS])
def test_a_node_over_its_own_parents_is_an_equal_one(case: str) -> None:
    for name, tensor in graphs(case):
        for node in walked(tensor):
            made = node.with_parents(*node.parents)
            assert type(made) is type(node)
            for field in dataclasses.fields(node):  # type: ignore[arg-type]
                assert getattr(made, field.name) is getattr(node, field.name) or (
                    getattr(made, field.name) == getattr(node, field.name)
                ), (name, type(node), field.name)


@pytest.mark.parametrize("case", [*CASES, OTHERS])
def test_graphs_over_leaves_in_memory_have_the_same_values(case: str) -> None:
    for name, tensor in graphs(case):
        made = rebuilt(tensor, in_memory)
        assert not any(isinstance(leaf, FileTensor) for leaf in leaves(made))
        same(name, made.numpy(), tensor.numpy())
        assert (made.block_size, made.shape) == (tensor.block_size, tensor.shape)


def test_every_node_of_the_room_is_among_them() -> None:
    seen = {type(node) for case in (*CASES, OTHERS) for _, tensor in graphs(case) for node in walked(tensor)}
    assert not {node.__name__ for node in ROOM - seen}
