"""The state that torch's optimizers save: found in a checkpoint, checked, its options as plain numbers.

`optimizer.state_dict()` is `{"state": {id: {slot: tensor}}, "param_groups": [{"params": [id, …], "lr": …}]}`;
ids count the parameters in the order in which the optimizer was given them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wconv import formats
from wconv.checkpoints.checkpoint import Checkpoint
from wconv.errors import FormatError
from wconv.formats.torch.materialise import materialise
from wconv.formats.torch.objects import LEAVES, Record, UnavailableError, plain_number
from wconv.tensors.lazy import LazyTensor, Shape

BESIDE = ("optimizer.pt", "optimizer.bin")
"""Where trainers save the state beside a model directory's weights."""

Identity = int | str
"""What a state dict calls a parameter: its number, or its name where the program that saved it gave one."""


@dataclass(frozen=True, slots=True)
class Group:
    """Parameters that are optimized with the same options.

    Attributes:
        options: "lr", "betas" and the like, as plain values.
        ids: the parameters.
        names: their names in the same order, where the state dict has them.
    """

    options: Mapping[str, Any]
    ids: tuple[Identity, ...]
    names: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class TorchState:
    """One optimizer's state.

    Attributes:
        where: the file and the place in it, for errors.
        slots: for each parameter what is kept of it: tensors by the names that torch has for them.
        steps: how many steps each parameter has seen, of optimizers that count them.
        files: the file that it lies in, where that is not the weights' own.
    """

    where: str
    groups: tuple[Group, ...]
    slots: Mapping[Identity, Mapping[str, LazyTensor]]
    steps: Mapping[Identity, int]
    files: tuple[Path, ...] = ()

    def shape(self, identity: Identity) -> Shape | None:
        """The parameter's shape, known from its state; None where it has none."""
        shapes = {tensor.shape for tensor in self.slots.get(identity, {}).values()}
        if len(shapes) > 1:
            raise FormatError(f"{self.where}: the state of parameter {identity} has several shapes")
        return shapes.pop() if shapes else None


def find_state(opened: Checkpoint) -> TorchState:
    """The optimizer state that belongs to a checkpoint.

    It lies beside the weights in a training checkpoint, or in a file of its own in a model directory.

    Raises:
        FormatError: there is none, several, or what there is is no state dict of an optimizer.
    """
    found = list(_candidates(opened))
    if not found:
        # one sharded by parameter or by bucket has no `param_groups`: only its tensors' names tell it
        held = any(name.startswith("optimizer.") for name in (*opened, *opened.metadata))
        if opened.in_pieces and (held or not opened.format.startswith("torch.distributed.checkpoint")):
            raise FormatError(
                f"{opened.path} is {opened.format}, of which wconv reads no optimizer state:"
                " leave --optimizer out"
            )
        objects = [name for name, value in opened.metadata.items() if isinstance(value, Record)]
        hint = f" ({objects[0]} is an object: save its state_dict())" if "optimizer" in objects else ""
        raise FormatError(f"{opened.path} holds no optimizer state{hint}: leave --optimizer out")
    if len(found) > 1:
        names = ", ".join(where for where, *_ in found[:4])
        raise FormatError(f"{opened.path} holds the states of {len(found)} optimizers ({names}), not of one")
    where, value, files = found[0]
    return _read(f"{opened.path}: {where}", value, files)


def _candidates(opened: Checkpoint) -> Iterator[tuple[str, Mapping[Any, Any], tuple[Path, ...]]]:
    for name, value in opened.metadata.items():
        for where, state in _states(name, value):
            yield where, state, ()
    if opened.path.is_dir():
        for file in (opened.path / name for name in BESIDE):
            if file.is_file():
                for where, state in _states(file.name, formats.load_tree(str(file))):
                    yield where, state, (file,)


def _states(name: str, value: Any) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """The value itself, or what a list or dict of optimizers holds."""
    if _is_state(value):
        yield name, value
        return
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for at, (key, item) in enumerate(items):
        if _is_state(item):
            yield f"{name}[{repr(key)[:50] if type(key) is str else at}]", item


def _is_state(value: Any) -> bool:
    return isinstance(value, dict) and "state" in value and "param_groups" in value


def _read(where: str, value: Mapping[Any, Any], files: tuple[Path, ...]) -> TorchState:
    state, groups = value["state"], value["param_groups"]
    if not isinstance(state, dict) or not isinstance(groups, list | tuple) or not groups:
        raise FormatError(f"{where} is no state dict of an optimizer")
    read = tuple(_group(where, group) for group in groups)
    ids = [identity for group in read for identity in group.ids]
    if len(set(ids)) != len(ids):
        raise FormatError(f"{where} has a parameter in two groups")
    slots: dict[Identity, dict[str, LazyTensor]] = {}
    steps: dict[Identity, int] = {}
    known = set(ids)
    for identity, kept in state.items():
        if identity not in known or not isinstance(kept, dict):
            raise FormatError(f"{where} keeps a state for a parameter that is in none of its groups")
        slots[identity] = {}
        for slot, item in kept.items():
            if type(slot) is not str:
                raise FormatError(f"{where} keeps things without names of a parameter: it is not supported")
            if slot == "step":
                steps[identity] = _step(where, item)
            elif isinstance(item, LEAVES):
                slots[identity][slot] = _lazy(where, item)
            elif item is not None:
                raise FormatError(f"{where} keeps {slot!r:.60} of another kind than a tensor: not supported")
    return TorchState(where, read, slots, steps, files)


def _group(where: str, group: Any) -> Group:
    ids = group.get("params") if isinstance(group, dict) else None
    if not isinstance(ids, list | tuple) or not all(_is_identity(one) for one in ids):
        raise FormatError(f"{where} is no state dict of an optimizer: its groups do not number parameters")
    names = group.get("param_names")
    if isinstance(names, list | tuple):
        if len(names) != len(ids) or not all(type(name) is str for name in names):
            raise FormatError(f"{where} has {len(ids)} parameters and {len(names)} names in a group")
        named: tuple[str, ...] | None = tuple(names)
    else:
        named = tuple(ids) if ids and all(type(one) is str for one in ids) else None
    options = {
        name: _plain(where, value)
        for name, value in group.items()
        if type(name) is str and name not in ("params", "param_names")
    }
    return Group(options, tuple(ids), named)


def _is_identity(value: Any) -> bool:
    return type(value) is str or (type(value) is int and 0 <= value < 2**63)


def _plain(where: str, value: Any) -> Any:
    """Numbers and sequences of them; a tensor of one element is its number. Of all else the text."""
    value = plain_number(value)
    if (
        value is None
        or type(value) in (bool, float, str)
        or (type(value) is int and -(2**63) <= value < 2**63)
    ):
        return value
    if isinstance(value, LEAVES):
        return _number(where, value)
    if isinstance(value, list | tuple) and len(value) < 10:
        return [_plain(where, item) for item in value]
    return type(value).__name__


def _step(where: str, value: Any) -> int:
    number = _number(where, value) if isinstance(value, LEAVES) else plain_number(value)
    if type(number) not in (int, float) or not 0 <= number < 2**53 or number != int(number):
        raise FormatError(f"{where} has a step that is no count of steps")
    return int(number)


def _number(where: str, leaf: Any) -> Any:
    tensor = _lazy(where, leaf)
    if tensor.size != 1:
        raise FormatError(f"{where} has a tensor of {tensor.size:,} elements in place of a number")
    values = tensor.read_range()
    return values.astype("float64").item() if tensor.dtype.is_floating else values.item()


def _lazy(where: str, leaf: Any) -> LazyTensor:
    try:
        tensor = materialise(leaf)
    except UnavailableError as error:
        raise FormatError(f"{where} holds a tensor without values: {error}") from None
    return tensor
