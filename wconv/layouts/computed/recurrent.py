"""Recurrent layers of torch as mlx.nn has them: one layer in one direction each, the two biases joined."""

from __future__ import annotations

import re
from collections.abc import Mapping

from wconv.errors import LayoutError
from wconv.layouts.rules import State, TracedTensor
from wconv.tensors import operations
from wconv.tensors.lazy import LazyTensor

PARAMETER = re.compile(r"(weight|bias)_(ih|hh)(?:_l(\d{1,6})(_reverse)?)?")
"""torch's names: `weight_ih_l0_reverse` of a layer, `weight_ih` of a cell."""

PROJECTION = re.compile(r"weight_hr_l\d+(_reverse)?")
"""The projection of an LSTM with `proj_size`, which MLX has not."""


def lstm(own: State, path: str) -> State:
    """`mlx.nn.LSTM`: the gates i, f, g, o as torch orders them; one bias, the sum of torch's two."""
    return _layers(own, path, "bias")


def rnn(own: State, path: str) -> State:
    """`mlx.nn.RNN`: Wxh and Whh; one bias, the sum of torch's two."""
    named = {"Wx": "Wxh", "Wh": "Whh", "bias": "bias"}
    outputs = _layers(own, path, "bias")
    return {_last_part(name, named): entry for name, entry in outputs.items()}


def gru(own: State, path: str) -> State:
    """`mlx.nn.GRU`: the gates r, z, n as torch orders them.

    The new gate multiplies its hidden part by r with the bias within, so that bias stays apart as `bhn`; `b`
    is the sum of torch's two for r and z, and the input's bias for n.
    """
    return _layers(own, path, "b")


def summed(first: LazyTensor, second: LazyTensor) -> LazyTensor:
    """torch's two biases as MLX's one.

    Raises:
        LayoutError: they are not alike.
    """
    try:
        return operations.add_tensors(first, second)
    except ValueError as error:
        raise LayoutError(f"two biases cannot be added: {error}") from None


def _layers(own: State, path: str, bias: str) -> State:
    """Groups a module's parameters by layer and direction, and names each group's tensors.

    More than one layer or direction becomes lists of MLX layers: `layers` and `reverse_layers`.

    Raises:
        LayoutError: a layer lacks one of its tensors, or their shapes do not fit each other.
    """
    groups: dict[tuple[bool, int], dict[str, TracedTensor]] = {}
    for name, entry in own.items():
        match = PARAMETER.fullmatch(name)
        if match is None:
            raise LayoutError(f"{path}.{name} is no tensor of a recurrent layer")
        kind, side, layer, reverse = match.groups()
        groups.setdefault((bool(reverse), int(layer or 0)), {})[f"{kind}_{side}"] = entry
    outputs: State = {}
    for (reverse, layer), parts in groups.items():
        prefix = "" if len(groups) == 1 else f"{'reverse_layers' if reverse else 'layers'}.{layer}."
        for name, entry in _one(parts, path, bias).items():
            outputs[prefix + name] = entry
    return outputs


def _one(parts: Mapping[str, TracedTensor], path: str, bias: str) -> State:
    biases = [name for name in ("bias_ih", "bias_hh") if name in parts]
    if not {"weight_ih", "weight_hh"} <= parts.keys() or len(biases) == 1:
        lacking = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"} - parts.keys()
        raise LayoutError(f"{path} lacks {', '.join(sorted(lacking))}: its layers need all of their tensors")
    outputs = {"Wx": parts["weight_ih"], "Wh": parts["weight_hh"]}
    if not biases:
        return outputs
    input_bias, hidden_bias = parts["bias_ih"], parts["bias_hh"]
    both = (*input_bias.sources, *hidden_bias.sources)
    try:
        if bias == "bias":
            outputs[bias] = TracedTensor(operations.add_tensors(input_bias.tensor, hidden_bias.tensor), both)
            return outputs
        gates, new = _gates(input_bias), _gates(hidden_bias)
        joined = [operations.add_tensors(gates[0].tensor, new[0].tensor), gates[1].tensor]
        outputs[bias] = TracedTensor(operations.concat(joined), both)
        outputs["bhn"] = new[1]
    except ValueError as error:
        raise LayoutError(f"{path}: {error}") from None
    return outputs


def _gates(entry: TracedTensor) -> tuple[TracedTensor, TracedTensor]:
    """A GRU's bias: the part for r and z, and the part for n."""
    tensor = entry.tensor
    if tensor.ndim != 1 or tensor.shape[0] % 3:
        raise ValueError(f"{entry.sources[0]} has the shape {tensor.shape}, which is no three gates")
    first, last = tensor.split([tensor.shape[0] // 3 * 2, tensor.shape[0] // 3])
    return TracedTensor(first, entry.sources), TracedTensor(last, entry.sources)


def _last_part(name: str, named: Mapping[str, str]) -> str:
    prefix, _, last = name.rpartition(".")
    return f"{prefix}.{named[last]}" if prefix else named[last]
