"""Layers that are made because others hold them: their weights, filled as torch fills them; no forward."""

from __future__ import annotations

import math
from typing import Any

from wconv.torch import creation, draws
from wconv.torch.dtypes import dtype
from wconv.torch.modules import Module
from wconv.torch.parameter import Parameter


class Linear(Module):
    """The weight and the bias of a linear layer."""

    __module__ = "torch.nn"

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        made = creation.empty(out_features, in_features, device=device, dtype=dtype)
        self.weight = Parameter(made)
        if bias:
            self.bias = Parameter(creation.empty(out_features, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws weight and bias from the generator, as torch does."""
        if not self.in_features:
            return
        gain = math.sqrt(2.0 / (1 + math.sqrt(5) ** 2))
        bound = math.sqrt(3.0) * (gain / math.sqrt(self.in_features))
        draws.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features)
            draws.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        )
