"""Where in a checkpoint the state dict lies, and what wrappers put before its names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wconv.errors import FormatError
from wconv.formats.torch.objects import LEAVES, Record
from wconv.formats.torch.state_dict import CONTAINERS, holds_tensors, is_module, is_script, key_name, members

WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "params_ema",
    "params",
    "best_state",
    "ema_model_state_dict",
    "model_state",
    "model",
    "module",
    "ema",
    "weights",
    "net",
    "network",
)
"""Keys under which training programs keep the weights, the preferred ones first."""

CERTAIN = frozenset({"state_dict", "model_state_dict", "params_ema", "best_state", "ema_model_state_dict"})
"""Wrappers of which there is no doubt, whatever lies beside them."""

TRAINING = frozenset(
    {"optimizer", "optimizers", "optimizer_state_dict", "optimizer_states", "epoch", "global_step"}
)
"""Keys that tell the checkpoint of a training run."""

COMPANIONS = frozenset(
    """
    optimizer optimizers optimizer_state optimizer_states optimizer_state_dict optim
    optim_state_dict scheduler lr_scheduler lr_schedulers scheduler_state_dict
    lr_scheduler_state_dict callbacks loops scaler grad_scaler amp ema ema_state ema_state_dict
    ema_model ema_model_state_dict model_ema params_ema params state_dict_ema train_state rng_state
    rng_states random_state cuda_rng_state torch_rng_state random_rng_state hyper_parameters args
    config cfg hparams epoch step iteration global_step last_optimizer_state extra_state history
    metrics loss best_state optimizer_history task_state criterion trainer updates
    """.split()  # noqa: SIM905
)
"""Keys beside the weights whose tensors are not weights, or are another copy of them."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The part of the object that is the state dict: where it is, itself, and what the user should know.

    `beside`: what lay among the weights and is none.
    """

    path: tuple[Any, ...]
    value: Any
    notes: tuple[str, ...] = ()
    beside: Mapping[Any, Any] = field(default_factory=dict)


def choose_state_dict(root: Any, key: str | None, where: str) -> Chosen:
    """Finds the state dict within a checkpoint.

    Raises:
        FormatError: there is nothing at `key`, or no tensor anywhere.
    """
    if key is not None:
        picked, value = _pick(root, key, where)
        if not holds_tensors(value):
            raise FormatError(f"{where} has no tensors at {key!r:.200}")
        return Chosen(picked, value, (f"took {key}",))
    path: tuple[Any, ...] = ()
    value, notes = root, list[str]()
    beside_taken: list[str] = []
    for _ in range(4):
        step = _wrapper(value)
        if step is None:
            break
        name, others = step
        beside_taken += [".".join(map(str, (*path, other))) for other in others]
        path, value = (*path, name), _entries(value)[name]
    if path:
        not_taken = f", not {', '.join(beside_taken)}; --key picks another" if beside_taken else ""
        notes.append(f"took {'.'.join(map(str, path))}{not_taken}")
    beside = _training_state(value)
    if beside:
        value = {name: item for name, item in value.items() if name not in beside}
        notes.append(f"left out {', '.join(map(str, beside))}; --key picks another")
    return Chosen(path, value, tuple(notes), beside)


def _training_state(value: Any) -> dict[Any, Any]:
    """The optimizer and its like, where they lie among the weights and there are others."""
    if not isinstance(value, dict):
        return {}
    held = [name for name, item in value.items() if _may_be_weights(item)]
    found = {name: value[name] for name in held if name in COMPANIONS and name not in WRAPPERS}
    return found if len(found) < len(held) or any(isinstance(item, LEAVES) for item in value.values()) else {}


def _may_be_weights(value: Any) -> bool:
    return isinstance(value, (*CONTAINERS, Record)) and holds_tensors(value)


def _entries(value: Any) -> Mapping[Any, Any]:
    """A mapping's entries: of a dict, or of a record that acts as one."""
    if isinstance(value, dict):
        return value
    if isinstance(value, Record) and not is_module(value) and not is_script(value):
        return value.items
    return {}


def _wrapper(value: Any) -> tuple[str, list[str]] | None:
    """The key of a wrapper that the weights lie under, and the keys of its other copies of weights."""
    entries = _entries(value)
    held = [name for name, item in entries.items() if _may_be_weights(item)]
    candidates = [name for name in WRAPPERS if name in held]
    if not candidates:
        return None
    taken = candidates[0]
    loose = [name for name in held if name not in candidates and name not in COMPANIONS]
    loose += [name for name, item in entries.items() if isinstance(item, LEAVES) and name not in COMPANIONS]
    if loose and taken not in CERTAIN and entries.keys().isdisjoint(TRAINING):
        return None
    others = [str(name) for name in (*held, *loose) if name != taken]
    others = [name for name in dict.fromkeys(others) if not name.startswith(("optim", "lr_", "sched"))]
    return taken, others


def _pick(root: Any, key: str, where: str) -> tuple[tuple[Any, ...], Any]:
    """The value at a dotted path; a key with dots in it is found too."""
    path: tuple[Any, ...] = ()
    value, rest = root, key.split(".")
    while rest:
        entries = {key_name(name): (name, item) for name, item in members(value) or []}
        for count in range(len(rest), 0, -1):
            found = entries.get(".".join(rest[:count]))
            if found is not None:
                path, value, rest = (*path, found[0]), found[1], rest[count:]
                break
        else:
            known = ", ".join(list(entries)[:8]) or "nothing"
            place = ".".join(map(str, path)) or "the top"
            raise FormatError(f"{where} has no {key!r:.200}: at {place} there is {known:.300}")
    return path, value
