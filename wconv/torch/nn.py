"""`torch.nn` for weights: parameters and modules that hold names, and an error for everything else."""

from __future__ import annotations

import sys
from typing import Any

from wconv.torch import missing
from wconv.torch.containers import ModuleDict, ModuleList, ParameterList, Sequential
from wconv.torch.modules import Module
from wconv.torch.parameter import Parameter

__all__ = ["Module", "ModuleDict", "ModuleList", "Parameter", "ParameterList", "Sequential"]

parameter = sys.modules[__name__]
"""`torch.nn.parameter` holds the same class."""


def __getattr__(name: str) -> Any:
    if name in ("functional", "modules"):
        from wconv.torch.submodules import submodule

        return submodule(f"nn.{name}")
    raise missing.attribute(f"nn.{name}")
