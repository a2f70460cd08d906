"""`nn.Parameter`: a tensor that a state dict marks as trainable."""

from __future__ import annotations

from typing import Any

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
