"""Packed weights through a layout: the form of MLX's that has gone the way of the dense values.

A layout moves dense values: it renames, stacks, cuts, joins, turns and reshapes them. `packed_form` walks
what came of that back to the stored weights, and moves their codes, scales and biases likewise. So no rule
knows of packed weights, and what cannot be moved packed is decoded, with the reason.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from wconv.quantized.mlx_forms import Widened
from wconv.quantized.stored import MlxForm, StoredWeights
from wconv.tensors import operations
from wconv.tensors.graph import rebuilt
from wconv.tensors.lazy import Array, LazyTensor, Shape
from wconv.tensors.nodes import ConcatNode, ReshapeNode, SliceNode, TransposeNode, UnaryNode
from wconv.tensors.quantize import Quantization

NONE_HOLDS = "no form of MLX's holds every value"
"""Why a weight becomes dense whatever the layout is."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class StoredValues(UnaryNode):
    """The dense values of a stored weight, marked so that its packed form is found again.

    Attributes:
        form: gives that form; None where none holds every value.
        title: of the scheme, for messages.
    """

    form: Callable[[], MlxForm | None]
    title: str

    def read_into(self, start: int, stop: int, out: Array) -> None:
        self.parent.read_into(start, stop, out)


def marked(tensors: Mapping[str, LazyTensor], scheme: StoredWeights) -> dict[str, LazyTensor]:
    """Decoded tensors, of which those of stored weights carry their mark."""
    found = scheme.weights
    return {
        name: StoredValues(tensor, _remembered(found[name].packed), scheme.title) if name in found else tensor
        for name, tensor in tensors.items()
    }


def _remembered(packed: Callable[[], MlxForm | None] | None) -> Callable[[], MlxForm | None]:
    """A form that is looked for once: it reads scales."""
    return functools.cache(packed) if packed is not None else _none


def _none() -> None:
    return None


def stored_values(tensor: LazyTensor) -> StoredValues | None:
    """The first stored weight whose values a tensor is made of; None where it is made of none."""
    left = [tensor]
    while left:
        one = left.pop()
        if isinstance(one, StoredValues):
            return one
        left += reversed(one.parents)
    return None


def unmarked(tensor: LazyTensor) -> LazyTensor:
    """The same tensor without the marks, and without turning what is turned back."""
    return rebuilt(tensor, _without_mark)


def _without_mark(one: LazyTensor) -> LazyTensor | None:
    if isinstance(one, StoredValues):
        return one.parent
    if isinstance(one, TransposeNode) and isinstance(one.parent, StoredValues):
        return operations.transpose(one.parent.parent, one.axes)
    return None


def packed_form(tensor: LazyTensor) -> MlxForm | str:
    """The form of a tensor that layouts made of stored weights' values, or why there is none."""
    found = _moved(tensor)
    if isinstance(found, str):
        return found
    axes = found.order
    if axes[-1] != len(axes) - 1:
        return "the layout exchanges its axes"
    parts = [part.transpose(axes) for part in found.parts]
    return MlxForm(found.how, parts[0], parts[1], parts[2] if len(parts) > 2 else None)


@dataclass(frozen=True, slots=True)
class _Moved:
    """A form on its way.

    Attributes:
        parts: weight, scales and, where the mode has them, biases: packed along their last axis.
        order: for each axis of the dense tensor that of the parts.
        shape: of the dense tensor with the parts' order of axes.
    """

    how: Quantization
    parts: tuple[LazyTensor, ...]
    order: tuple[int, ...]
    shape: Shape

    def along(self, length: int) -> tuple[int, ...]:
        """For so many dense columns the columns of each part."""
        groups = length // self.how.group_size
        return (length * self.how.bits // 32, groups, groups)


def _moved(tensor: LazyTensor) -> _Moved | str:
    if isinstance(tensor, StoredValues):
        return _first(tensor)
    if isinstance(tensor, ConcatNode):
        return _joined(tensor)
    if not isinstance(tensor, ReshapeNode | TransposeNode | SliceNode):
        return "the layout changes its values"
    found = _moved(tensor.parent)
    if isinstance(found, str):
        return found
    if isinstance(tensor, ReshapeNode):
        return _reshaped(found, tensor)
    if isinstance(tensor, TransposeNode):
        return replace(found, order=tuple(found.order[axis] for axis in tensor.axes))
    return _cut(found, tensor)


def _first(tensor: StoredValues) -> _Moved | str:
    form = tensor.form()
    if form is None:
        return NONE_HOLDS
    parts = (form.weight, form.scales, *((form.biases,) if form.biases is not None else ()))
    order = list(range(tensor.ndim))
    if form.turned:
        order[-2:] = order[:-3:-1]
    return _Moved(form.how, parts, tuple(order), tuple(tensor.shape[axis] for axis in order))


def _cut(found: _Moved, node: SliceNode) -> _Moved | str:
    axis, shape = found.order[node.axis], list(found.shape)
    start, stop, step = node.start, node.stop, node.step
    shape[axis] = len(range(start, stop, step))
    if axis < len(shape) - 1:
        parts = tuple(part.slice(axis, start, stop, step) for part in found.parts)
    else:
        size = found.how.group_size
        if step != 1 or start % size or stop % size:
            return f"the layout cuts it within groups of {size}"
        ends = zip(found.parts, found.along(start), found.along(stop), strict=False)
        parts = tuple(part.slice(axis, begin, end) for part, begin, end in ends)
    return replace(found, parts=parts, shape=tuple(shape))


def _joined(node: ConcatNode) -> _Moved | str:
    several: list[_Moved] = []
    for part in node.parts:
        found = _moved(part)
        if isinstance(found, str):
            return found
        several.append(found)
    several = _regrouped(several)
    first = several[0]
    kinds = {
        (one.how, one.order, len(one.parts), *(part.dtype.name for part in one.parts)) for one in several
    }
    if len(kinds) > 1:
        return f"the {len(node.parts)} that the layout joins are stored in several ways"
    axis, shape = first.order[node.axis], list(first.shape)
    shape[axis] = sum(one.shape[axis] for one in several)
    parts = tuple(
        operations.concat([one.parts[at] for one in several], axis) for at in range(len(first.parts))
    )
    return replace(first, parts=parts, shape=tuple(shape))


def _regrouped(several: Sequence[_Moved]) -> list[_Moved]:
    """With the smallest of their groups, where only these differ: each scale is repeated."""
    if len({(one.how.mode, one.how.bits) for one in several}) > 1:
        return list(several)
    size = min(one.how.group_size for one in several)
    return [one if one.how.group_size == size else _with_groups(one, size) for one in several]


def _with_groups(one: _Moved, size: int) -> _Moved:
    more = one.how.group_size // size
    scales = tuple(
        Widened(part, 1, more, (*part.shape[:-1], part.shape[-1] * more)) for part in one.parts[1:]
    )
    return replace(one, how=replace(one.how, group_size=size), parts=(one.parts[0], *scales))


def _reshaped(found: _Moved, node: ReshapeNode) -> _Moved | str:
    shape, count = node.shape, len(found.order)
    if found.order == tuple(range(count)):
        if not shape or shape[-1] % found.how.group_size:
            return f"the layout cuts rows within groups of {found.how.group_size}"
        ends = found.along(shape[-1])
        parts = tuple(part.reshape((*shape[:-1], end)) for part, end in zip(found.parts, ends, strict=False))
        return replace(found, parts=parts, order=tuple(range(len(shape))), shape=shape)
    return _squeezed(found, shape) or "the layout exchanges axes and makes others of them"


def _squeezed(found: _Moved, shape: Shape) -> _Moved | None:
    """Axes of length 1 gained or lost, while the others are in another order; None where that is not all."""
    before = [axis for axis in found.order if found.shape[axis] != 1]
    after = [axis for axis, length in enumerate(shape) if length != 1]
    if [found.shape[axis] for axis in before] != [shape[axis] for axis in after]:
        return None
    if found.shape[-1] == 1:
        return None
    ones = len(shape) - len(after)
    stored = sorted(before)
    order = [0] * len(shape)
    for place, axis in enumerate(one for one, length in enumerate(shape) if length == 1):
        order[axis] = place
    for axis, old in zip(after, before, strict=True):
        order[axis] = ones + stored.index(old)
    lengths = (1,) * ones + tuple(found.shape[axis] for axis in stored)
    parts = tuple(part.reshape((*lengths[:-1], part.shape[-1])) for part in found.parts)
    return replace(found, parts=parts, order=tuple(order), shape=lengths)
