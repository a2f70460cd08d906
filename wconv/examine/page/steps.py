"""What is done to a tensor on its way, as plain data that the page draws: casts, transpositions, joins."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from wconv.tensors import nodes
from wconv.tensors.base import LazyTensor
from wconv.tensors.multi import output_of
from wconv.tensors.quantized import QuantizeNode
from wconv.writing.plan import Entry

MOST = 40
"""Steps of one tensor that are told."""

Step = dict[str, Any]


def steps_of(entry: Entry) -> list[Step]:
    """The operations between a tensor of the source and an entry of the plan, the first one first.

    Where several tensors become one, the way of the first of them is followed.
    """
    found = list(_backwards(entry.tensor))[:MOST]
    if entry.dtype is not entry.tensor.dtype:
        found.insert(0, {"op": "cast", "from": entry.tensor.dtype.name, "to": entry.dtype.name})
    return found[::-1]


def _backwards(tensor: LazyTensor) -> Iterator[Step]:
    while True:
        output = output_of(tensor)
        if output is not None:
            node = output.node
            how = str(node.how) if isinstance(node, QuantizeNode) else _words(type(node))
            yield {"op": "quantize", "how": how, "part": output.index}
            parents = tensor.parents
        else:
            parents = tensor.parents
            if not parents:
                return
            yield DESCRIBERS.get(type(tensor), _computed)(tensor)
        if not parents:
            return
        tensor = parents[0]


def _transposed(node: Any) -> Step:
    return {"op": "transpose", "from": list(node.parent.shape), "axes": list(node.axes)}


def _joined(node: Any) -> Step:
    return {"op": "join", "count": len(node.parts), "axis": node.axis, "to": list(node.shape)}


def _sliced(node: Any) -> Step:
    place = {"axis": node.axis, "start": node.start, "stop": node.stop, "step": node.step}
    return {"op": "slice", **place, "of": node.parent.shape[node.axis], "to": list(node.shape)}


DESCRIBERS: Mapping[type[LazyTensor], Callable[[Any], Step]] = {
    nodes.CastNode: lambda node: {"op": "cast", "from": node.parent.dtype.name, "to": node.dtype.name},
    nodes.TransposeNode: _transposed,
    nodes.ReshapeNode: lambda node: {
        "op": "reshape",
        "from": list(node.parent.shape),
        "to": list(node.new_shape),
    },
    nodes.SliceNode: _sliced,
    nodes.ConcatNode: _joined,
    nodes.AddNumberNode: lambda node: {"op": "add", "value": node.value},
    nodes.ViewNode: lambda node: {"op": "view", "to": node.dtype.name},
}
"""Node → what the page is told of it; of others, the first sentence that describes their class."""


def _computed(node: LazyTensor) -> Step:
    return {"op": "compute", "what": _words(type(node)), "to": list(node.shape), "dtype": node.dtype.name}


@functools.cache
def _words(kind: type[Any]) -> str:
    text = (kind.__doc__ or "").strip().partition("\n")[0].rstrip(".")
    return text or kind.__name__
