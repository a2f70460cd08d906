"""A module that TorchScript can read the source of."""

from __future__ import annotations

from typing import Any


def made(torch: Any) -> Any:
    class Inner(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.w = torch.nn.Parameter(torch.ones(2))
            self.register_buffer("b", torch.zeros(3, dtype=torch.float16))
            self.register_buffer("passing", torch.zeros(1), persistent=False)
            self.k = 3

        def forward(self, x):  # type: ignore[no-untyped-def]
            return x * self.w.sum()

    class Outer(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()
            self.lin = torch.nn.Linear(2, 2)
            self.layers = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
            self.tied = self.lin.weight
            self.plain = torch.ones(4)
            self.lin.bias.requires_grad_(False)

        def forward(self, x):  # type: ignore[no-untyped-def]
            return self.lin(self.inner(x))

    return Outer().eval()
