"""Attaches the functions that the other modules list to `Tensor`; gathers those that `wconv.torch` offers."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from wconv.torch import (
    arithmetic,
    casting,
    copies,
    creation,
    draws,
    exchange,
    indexing,
    joining,
    linear,
    ordering,
    printing,
    promotion,
    reductions,
    searching,
    shapes,
    sparse_tensors,
)
from wconv.torch.calls import offered
from wconv.torch.tensor import Tensor

MODULES = (
    creation,
    casting,
    exchange,
    shapes,
    copies,
    indexing,
    joining,
    arithmetic,
    reductions,
    ordering,
    searching,
    linear,
    printing,
    draws,
    sparse_tensors,
)
"""Each lists its METHODS and FUNCTIONS; some METHOD_ALIASES, FUNCTION_ALIASES, OPERATORS or PROPERTIES."""


def _attach(module: ModuleType) -> None:
    methods = {each.__name__: each for each in module.METHODS}
    for name in ("OPERATORS", "METHOD_ALIASES"):
        methods |= getattr(module, name, {})
    for name, function in methods.items():
        setattr(Tensor, name, offered(function))
    for name, function in getattr(module, "PROPERTIES", {}).items():
        setattr(Tensor, name, property(offered(function)))


def gathered() -> dict[str, Any]:
    """Every function that `wconv.torch` offers, by name."""
    found: dict[str, Any] = {}
    for module in MODULES:
        found |= {each.__name__: each for each in module.FUNCTIONS}
        found |= getattr(module, "FUNCTION_ALIASES", {})
    names = ("promote_types", "result_type", "can_cast")
    found |= {name: getattr(promotion, name) for name in names}
    return {name: offered(each) for name, each in found.items()}


for each in MODULES:
    _attach(each)
