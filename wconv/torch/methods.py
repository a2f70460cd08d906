"""Attaches the functions that the other modules list to `Tensor`; gathers those that `wconv.torch` offers."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from wconv.torch import (
    arithmetic,
    casting,
    creation,
    indexing,
    joining,
    linear,
    promotion,
    reductions,
    shapes,
)
from wconv.torch.tensor import Tensor

MODULES = (creation, casting, shapes, indexing, joining, arithmetic, reductions, linear)

OFFERED_ALIASES = (arithmetic.ALL, shapes.ALIASES, joining.ALIASES)


def _attach(module: ModuleType) -> None:
    methods = {each.__name__: each for each in module.METHODS}
    for name in ("OPERATORS", "METHOD_ALIASES"):
        methods |= getattr(module, name, {})
    if module is not joining:
        methods |= getattr(module, "ALIASES", {})
    for name, function in methods.items():
        setattr(Tensor, name, function)
    for name, function in getattr(module, "PROPERTIES", {}).items():
        setattr(Tensor, name, property(function))


def gathered() -> dict[str, Any]:
    """Every function that `wconv.torch` offers, by name."""
    offered: dict[str, Any] = {}
    for module in MODULES:
        offered |= {each.__name__: each for each in module.FUNCTIONS}
    for aliases in OFFERED_ALIASES:
        offered |= aliases
    names = ("promote_types", "result_type", "can_cast")
    return offered | {name: getattr(promotion, name) for name in names}


for each in MODULES:
    _attach(each)
