"""`torch.nn` for weights: `Parameter`, `Module` for `isinstance`, and an error for everything else."""

from __future__ import annotations

import sys
from typing import Any

from wconv.torch import missing
from wconv.torch.casting import detach
from wconv.torch.tensor import Tensor


class Parameter(Tensor):
    """A tensor that a state dict marks as trainable."""

    __module__ = "torch.nn.parameter"

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Parameter:
        if data is None:
            from wconv.torch.creation import zeros

            data = zeros(0)
        made = detach(data)._as(cls)
        made.requires_grad = requires_grad
        assert isinstance(made, Parameter)
        return made

    def __reduce__(self) -> Any:
        return _rebuild, (self.detach().clone(), self.requires_grad)


def _rebuild(data: Tensor, requires_grad: bool) -> Parameter:
    return Parameter(data, requires_grad)


class Module:
    """Stands for torch's class in `isinstance` and annotations: nothing is one, and none can be made."""

    __module__ = "torch.nn"

    def __new__(cls, *args: Any, **kwargs: Any) -> Module:
        raise NotImplementedError(missing.sentence("nn.Module"))

    def __init_subclass__(cls) -> None:
        raise NotImplementedError(missing.sentence("nn.Module"))


parameter = sys.modules[__name__]
"""`torch.nn.parameter` holds the same class."""


def __getattr__(name: str) -> Any:
    if name == "functional":
        from wconv.torch.submodules import submodule

        return submodule("nn.functional")
    raise missing.attribute(f"nn.{name}")
