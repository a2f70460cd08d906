"""An optimizer's state as mlx.optimizers holds it, flattened as `mlx.utils.tree_flatten` does.

`step`, `learning_rate`, and for each parameter `name.m` and `name.v`, under the name and in the layout that
the parameter itself has been given. Groups with different options are different optimizers for MLX: the
state is then that of a `MultiOptimizer`, `states.0.step` and so on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wconv.checkpoints.checkpoint import Checkpoint
from wconv.errors import FormatError, LayoutError
from wconv.layouts.apply import LayoutResult
from wconv.optimizers import torch_state
from wconv.optimizers.kinds import COMPARED, OptimizerKind, constructor, kind_of, remarks
from wconv.optimizers.matching import match
from wconv.optimizers.torch_state import Group, TorchState
from wconv.tensors.graph import rebuilt
from wconv.tensors.lazy import LazyTensor, from_array
from wconv.tensors.nodes import AddNumberNode, AddTensorsNode

FILENAME = "optimizer.safetensors"

OWN_KEYS = ("step", "learning_rate")
"""What an optimizer of MLX keeps beside the parameters' states."""


@dataclass(frozen=True, slots=True)
class MlxOptimizerState:
    """The state of an optimizer, ready to be written.

    Attributes:
        tensors: by MLX's flattened names.
        sources: for each the source parameters that it belongs to.
        metadata: of the file's header: the optimizer's class and arguments as JSON.
        notes: what the user should be told, one sentence each.
        files: of the optimizer's own, beside the weights.
    """

    tensors: dict[str, LazyTensor]
    sources: dict[str, tuple[str, ...]]
    metadata: dict[str, str]
    notes: tuple[str, ...]
    files: tuple[Path, ...]


def lay_out_state(
    opened: Checkpoint,
    picked: dict[str, LazyTensor],
    laid_out: Callable[[Mapping[str, LazyTensor]], LayoutResult],
) -> MlxOptimizerState:
    """The state of a checkpoint's optimizer under the names, and in the layout, of its weights.

    Only steps and options are read, a number each.

    Args:
        picked: the weights that are converted.
        laid_out: gives a state dict with the names and shapes of `picked` the layout of the weights.

    Raises:
        FormatError: there is no state, or it does not belong to the weights without a doubt.
        LayoutError: a parameter becomes something that has no state of its own.
    """
    state = torch_state.find_state(opened)
    kind = kind_of(state)
    kept = any(slots for slots in state.slots.values())
    names = match(state, opened) if kept else {}
    groups = _merged(state.groups)
    tensors: dict[str, LazyTensor] = {}
    sources: dict[str, tuple[str, ...]] = {}
    for at, group in enumerate(groups):
        prefix = f"states.{at}." if len(groups) > 1 else ""
        tensors[prefix + "step"] = from_array(np.array(_step(kind, state, group), np.uint64))
        rate = constructor(kind, group)[1]["learning_rate"]
        tensors[prefix + "learning_rate"] = from_array(np.array(rate, np.float32))
    place = {identity: at for at, group in enumerate(groups) for identity in group.ids}
    prefixes = {
        names[identity]: f"states.{at}." if len(groups) > 1 else "" for identity, at in place.items() if names
    }
    for slot, target in kind.slots.items():
        moments = {names[identity]: slots[slot] for identity, slots in state.slots.items() if slot in slots}
        for name, (tensor, made_of) in _laid_out(moments, opened, picked, laid_out, state).items():
            where = {prefixes[source] for source in made_of}
            if len(where) > 1:
                raise LayoutError(f"{name} is made of parameters of different groups: {', '.join(made_of)}")
            if name.partition(".")[0] in OWN_KEYS:
                raise LayoutError(
                    f"MLX keeps {name.partition('.')[0]!r} in the place of the parameter {name}"
                )
            full = f"{where.pop()}{name}.{target}"
            tensors[full], sources[full] = tensor, made_of
    described = [constructor(kind, group) for group in groups]
    metadata = {"format": "mlx", "optimizer": json.dumps([{"class": c, **a} for c, a in described])}
    notes = tuple(_notes(kind, state, groups, names, picked))
    return MlxOptimizerState(tensors, sources, metadata, notes, state.files)


def _merged(groups: Sequence[Group]) -> list[Group]:
    """Groups with the same options joined."""
    merged: dict[str, Group] = {}
    for group in groups:
        key = repr([group.options.get(name) for name in COMPARED])
        known = merged.get(key)
        merged[key] = Group(group.options, (*known.ids, *group.ids) if known else group.ids)
    return list(merged.values())


def _step(kind: OptimizerKind, state: TorchState, group: Group) -> int:
    if not kind.counts:
        return 0
    steps = {state.steps[identity]: identity for identity in group.ids if identity in state.steps}
    if len(steps) > 1:
        counts = ", ".join(map(str, sorted(steps)[:4]))
        raise FormatError(
            f"{state.where}: its parameters have seen different numbers of steps ({counts}); MLX counts them"
            " once for all parameters of an optimizer"
        )
    return next(iter(steps), 0)


def _laid_out(
    moments: Mapping[str, LazyTensor],
    opened: Checkpoint,
    picked: dict[str, LazyTensor],
    laid_out: Callable[[Mapping[str, LazyTensor]], LayoutResult],
    state: TorchState,
) -> dict[str, tuple[LazyTensor, tuple[str, ...]]]:
    """What the layout makes of the moments, in the places of their parameters among all other tensors."""
    first = {name: group[0] for group in opened.ties for name in group}
    own = {name: moments.get(first.get(name, name)) for name in picked}
    applied = laid_out(picked | {name: moment for name, moment in own.items() if moment is not None})
    done: dict[str, tuple[LazyTensor, tuple[str, ...]]] = {}
    for name, tensor in applied.tensors.items():
        made_of = applied.sources[name]
        having = [source for source in made_of if own.get(source) is not None]
        if not having:
            continue
        if len(having) < len(made_of):
            lacking = next(source for source in made_of if source not in having)
            raise LayoutError(
                f"{name} is made of {having[0]} and {lacking}, which has no state: {state.where}"
            )
        made_of = tuple(dict.fromkeys(first.get(source, source) for source in made_of))
        done[name] = (_unshifted(tensor, name, made_of), made_of)
    return done


def _unshifted(tensor: LazyTensor, name: str, made_of: tuple[str, ...]) -> LazyTensor:
    """The tensor without what a layout adds to a weight: a shift does not change its gradients.

    Raises:
        LayoutError: it is a sum of two parameters, each with a state of its own.
    """

    def change(node: LazyTensor) -> LazyTensor | None:
        if isinstance(node, AddTensorsNode):
            raise LayoutError(
                f"{name} is the sum of {' and '.join(made_of)}, each with an optimizer state of its own,"
                " which MLX cannot hold: leave --optimizer out"
            )
        return node.parent if isinstance(node, AddNumberNode) else None

    return rebuilt(tensor, change)


def _notes(
    kind: OptimizerKind,
    state: TorchState,
    groups: Sequence[Group],
    names: Mapping[Any, str],
    picked: dict[str, LazyTensor],
) -> list[str]:
    calls = [_call(*constructor(kind, group)) for group in groups]
    if len(calls) > 1:
        made = f"mlx.optimizers.MultiOptimizer of {', '.join(calls)}, filtered as {FILENAME} divides them"
    else:
        made = f"mlx.optimizers.{calls[0]}"
    step = _step(kind, state, groups[0])
    at = f" at step {step:,}" if kind.counts and len(groups) == 1 else ""
    notes = [f"{FILENAME}: {kind.name}'s state of {len(state.slots):,} parameters{at}; it continues {made}"]
    notes += dict.fromkeys(remark for group in groups for remark in remarks(kind, group))
    without = [names[one] for group in groups for one in group.ids if names and not state.slots.get(one)]
    if without and kind.counts:
        more = f" and {len(without) - 4} more" if len(without) > 4 else ""
        notes.append(f"without a state in the checkpoint, so new in MLX: {', '.join(without[:4])}{more}")
    left = [name for name in names.values() if name not in picked]
    if left:
        notes.append(f"the states of {len(left)} parameters are left out with them")
    return notes


def _call(name: str, arguments: Mapping[str, Any]) -> str:
    return f"{name}({', '.join(f'{key}={value}' for key, value in arguments.items())})"
