"""Which parameter each number of an optimizer's state stands for: by name, or by the only order that fits."""

from __future__ import annotations

from collections.abc import Mapping

from wconv.checkpoints.checkpoint import Checkpoint
from wconv.errors import FormatError
from wconv.formats.prefixes import strip_prefixes
from wconv.optimizers.torch_state import Identity, TorchState
from wconv.tensors.lazy import Shape

BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
"""Tensors of torch's own layers that no optimizer has."""

WORK_LIMIT = 5_000_000
"""How many groups are looked at, for all partial assignments together; beyond it they count as ambiguous."""

REMEDY = "make the optimizer from named_parameters(), so that its state has the names"


def match(state: TorchState, opened: Checkpoint) -> dict[Identity, str]:
    """The name of each parameter of an optimizer.

    Where the state has names, these count. Where it has only numbers, they follow the order of the model's
    parameters within each group; that must fit the shapes in exactly one way.

    Raises:
        FormatError: a name is not in the model, or the numbers fit the parameters in no way, or in several.
    """
    candidates = _parameters(opened)
    ids = [identity for group in state.groups for identity in group.ids]
    if all(group.names is not None for group in state.groups):
        names = [name for group in state.groups for name in group.names or ()]
        return _by_name(state, ids, names, candidates)
    if opened.format == "safetensors":
        raise FormatError(
            f"{state.where} numbers its parameters, and safetensors do not keep a model's order: {REMEDY}"
        )
    if len(ids) > len(candidates):
        raise FormatError(
            f"{state.where} has {len(ids)} parameters and the model {len(candidates)}: they do not belong"
            " together"
        )
    return _by_order(state, candidates)


def _parameters(opened: Checkpoint) -> dict[str, Shape]:
    """The tensors that can be parameters, in the model's order: no buffers, no second names of one tensor."""
    again = {name for group in opened.ties for name in group[1:]}
    buffers = {
        f"{path}.{name}" if path else name
        for path, module in opened.modules.items()
        for name in module.buffers
    }
    return {
        name: tensor.shape
        for name, tensor in opened.items()
        if tensor.dtype.is_floating
        and name not in again
        and name not in buffers
        and name.rpartition(".")[2] not in BUFFERS
    }


def _by_name(
    state: TorchState, ids: list[Identity], names: list[str], candidates: Mapping[str, Shape]
) -> dict[Identity, str]:
    short, _ = strip_prefixes(names)
    matched: dict[Identity, str] = {}
    for identity, name in zip(ids, names, strict=True):
        known = name if name in candidates else short[name]
        shape = state.shape(identity)
        if known not in candidates:
            raise FormatError(f"{state.where} names a parameter {name!r:.200}, which the model has not")
        if shape is not None and shape != candidates[known]:
            raise FormatError(
                f"{state.where} has {shape} for {known}, which is {candidates[known]}: they do not belong"
                " together"
            )
        matched[identity] = known
    if len(set(matched.values())) != len(matched):
        raise FormatError(f"{state.where} names a parameter twice")
    return matched


Positions = tuple[int, ...]
"""How many parameters of each group have been placed."""


def _by_order(state: TorchState, candidates: Mapping[str, Shape]) -> dict[Identity, str]:
    """Places each group's parameters among the candidates in order; others may lie between (frozen ones).

    One walk over the candidates counts the ways to come to each tuple of positions, up to two.
    """
    groups = [group.ids for group in state.groups]
    shapes = {identity: state.shape(identity) for ids in groups for identity in ids}
    spare = len(candidates) - len(shapes)
    ways: dict[Positions, int] = {(0,) * len(groups): 1}
    trail: list[dict[Positions, int]] = []  # how each tuple of positions came about: group, or -1 for none
    looked_at = 0
    for at, shape in enumerate(candidates.values()):
        came: dict[Positions, int] = {}
        following: dict[Positions, int] = {}
        for positions, count in ways.items():
            steps = [-1] if at - sum(positions) < spare else []
            for group, ids in enumerate(groups):
                place = positions[group]
                if place < len(ids) and shapes[ids[place]] in (None, shape):
                    steps.append(group)
            looked_at += len(groups) * (len(steps) + 1)
            if looked_at > WORK_LIMIT:
                raise FormatError(f"{state.where} fits the model's parameters in too many ways: {REMEDY}")
            for group in steps:
                after = tuple(place + (index == group) for index, place in enumerate(positions))
                following[after] = min(following.get(after, 0) + count, 2)
                came[after] = group
        if not following:
            name = list(candidates)[at]
            raise FormatError(
                f"{state.where} does not fit the order of the model's parameters, at {name} {shape}: they do"
                f" not belong together, or {REMEDY}"
            )
        ways = following
        trail.append(came)
    positions = tuple(len(ids) for ids in groups)
    if ways.get(positions, 0) != 1:
        raise FormatError(
            f"{state.where} fits the model's parameters in several ways"
            f" ({len(shapes)} of {len(candidates)} in {len(groups)} groups): {REMEDY}"
        )
    return _followed_back(groups, trail, positions, list(candidates))


def _followed_back(
    groups: list[tuple[Identity, ...]],
    trail: list[dict[Positions, int]],
    positions: Positions,
    names: list[str],
) -> dict[Identity, str]:
    matched: dict[Identity, str] = {}
    for name, came in zip(reversed(names), reversed(trail), strict=True):
        group = came[positions]
        if group >= 0:
            positions = tuple(place - (index == group) for index, place in enumerate(positions))
            matched[groups[group][positions[group]]] = name
    return matched
