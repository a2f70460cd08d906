"""The optimizers that torch and MLX share: what each keeps, and how MLX's is made to take the same next step.

Facts of torch 2.13 and mlx 0.32, each proved by a step in both:
- Adam's and AdamW's update is the same, ε outside of the root included, where MLX's corrects the bias, which
  it does only if told so; torch's always does.
- AdamW's weight decay is the same. Adam's, which torch adds to the gradients, MLX's Adam has not.
- SGD's momentum, dampening, Nesterov momentum and weight decay are the same; torch counts no steps.
- MLX counts steps once for all parameters of an optimizer, torch for each parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wconv.errors import FormatError
from wconv.optimizers.torch_state import Group, TorchState


@dataclass(frozen=True, slots=True)
class OptimizerKind:
    """A family of optimizers.

    Attributes:
        name: torch's class.
        marks: options that every group has, and that tell it apart from its relatives.
        others: the rest of its options.
        slots: torch's name for what is kept of each parameter → MLX's.
        counts: whether it counts steps.
        refused: options that MLX has nothing for.
    """

    name: str
    marks: frozenset[str]
    others: frozenset[str]
    slots: Mapping[str, str]
    counts: bool
    refused: tuple[str, ...]


COMMON = frozenset(
    ("lr", "initial_lr", "weight_decay", "maximize", "foreach", "fused", "capturable", "differentiable")
)
"""Options of all kinds, and those that change how a step is computed but not what comes of it."""

KINDS = (
    OptimizerKind(
        "Adam",
        frozenset(("betas", "eps", "amsgrad")),
        frozenset(("decoupled_weight_decay", *COMMON)),
        {"exp_avg": "m", "exp_avg_sq": "v"},
        True,
        ("amsgrad", "maximize"),
    ),
    OptimizerKind(
        "SGD",
        frozenset(("momentum", "dampening", "nesterov")),
        COMMON,
        {"momentum_buffer": "v"},
        False,
        ("maximize",),
    ),
)

COMPARED = (
    "lr",
    "betas",
    "eps",
    "weight_decay",
    "momentum",
    "dampening",
    "nesterov",
    "decoupled_weight_decay",
)
"""Options by which groups differ for MLX, which holds them once for each optimizer."""

NUMBERS = ("lr", "eps", "weight_decay", "momentum", "dampening")
LARGEST = 1e30
"""No option of an optimizer is negative or beyond this; `not a number` is neither."""


def kind_of(state: TorchState) -> OptimizerKind:
    """The family of the optimizer that saved a state.

    Raises:
        FormatError: MLX has none like it, or it was set to do what MLX's does not.
    """
    kept = {slot for slots in state.slots.values() for slot in slots}
    for kind in KINDS:
        if not all(group.options.keys() >= kind.marks for group in state.groups):
            continue
        for option in kind.refused:
            if any(group.options.get(option) for group in state.groups):
                raise FormatError(f"{state.where} is of {kind.name} with {option}, which MLX has not")
        if kept <= set(kind.slots):
            for group in state.groups:
                _check_options(state.where, group)
            return kind
    known = ", ".join(sorted(kept)) or "nothing"
    raise FormatError(
        f"{state.where} keeps {known:.200} of each parameter: it is not of Adam, AdamW or SGD, whose states"
        " wconv can write"
    )


def constructor(kind: OptimizerKind, group: Group) -> tuple[str, dict[str, Any]]:
    """MLX's class and the arguments that make it take the next step as torch's would."""
    options = group.options
    arguments: dict[str, Any] = {"learning_rate": float(options["lr"])}
    decay = options.get("weight_decay", 0)
    if kind.name == "SGD":
        for name in ("momentum", "weight_decay", "dampening", "nesterov"):
            if options.get(name):
                arguments[name] = options[name]
        return "SGD", arguments
    arguments |= {"betas": options["betas"], "eps": options["eps"]}
    decoupled = decay and options.get("decoupled_weight_decay", True)
    if decoupled:
        arguments["weight_decay"] = decay
    arguments["bias_correction"] = True
    return ("AdamW" if decoupled else "Adam"), arguments


def remarks(kind: OptimizerKind, group: Group) -> list[str]:
    """What keeps MLX's optimizer from taking the same step, with the remedy; what the state does not say."""
    options = group.options
    notes = []
    foreign = sorted(options.keys() - kind.marks - kind.others)
    if foreign:
        notes.append(f"options that torch's {kind.name} has not are ignored: {', '.join(foreign)[:200]}")
    decay = options.get("weight_decay", 0)
    if kind.name != "Adam" or not decay:
        return notes
    if "decoupled_weight_decay" not in options:
        notes.append(
            f"the state does not say whether it is of AdamW or of Adam with weight decay {decay:g}:"
            " if of Adam, make mlx.optimizers.Adam and add weight decay × parameter to the gradients"
        )
    elif not options["decoupled_weight_decay"]:
        notes.append(f"mlx.optimizers.Adam has no weight decay: add {decay:g} × parameter to the gradients")
    return notes


def _check_options(where: str, group: Group) -> None:
    """Refuses options that are not the numbers that torch's optimizers have. Raises FormatError."""
    options = {"lr": None, **group.options}
    betas = options.get("betas", [0, 0])
    numbers = {name: options[name] for name in NUMBERS if name in options}
    if isinstance(betas, list) and len(betas) == 2:
        numbers |= {"the first of betas": betas[0], "the second of betas": betas[1]}
    else:
        numbers["betas"] = betas
    for name, value in numbers.items():
        if not isinstance(value, int | float) or not 0 <= value < LARGEST:
            raise FormatError(f"{where} has {value!r:.60} for {name}, which is no such number")
