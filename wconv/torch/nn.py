"""`torch.nn` for weights: parameters and modules that hold names; layers can be named, not made."""

from __future__ import annotations

import sys
from typing import Any

from wconv.torch import missing
from wconv.torch.containers import ModuleDict, ModuleList, ParameterList, Sequential
from wconv.torch.modules import Module
from wconv.torch.parameter import Parameter
from wconv.torch.placeholders import LAYERS, layer

__path__: list[str] = []
"""Modules below it are found where wconv.torch stands in torch's place."""

__all__ = ["Module", "ModuleDict", "ModuleList", "Parameter", "ParameterList", "Sequential"]

parameter = sys.modules[__name__]
"""`torch.nn.parameter` holds the same class."""


def __getattr__(name: str) -> Any:
    if name in LAYERS:
        return layer(name)
    from wconv.torch.submodules import is_known, submodule

    if is_known(f"nn.{name}"):
        return submodule(f"nn.{name}")
    raise missing.attribute(f"nn.{name}")
