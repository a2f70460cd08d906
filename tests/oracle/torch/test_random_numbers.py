"""The numbers that follow a seed are torch's, whatever is drawn in whatever order."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

import wconv.torch as shim
from tests.oracles import oracle

pytestmark = pytest.mark.oracle

FLOATS = ["float32", "float64", "float16", "bfloat16"]


def drawn(t: Any, seed: int) -> list[Any]:
    """A dozen draws from one stream, chosen by the seed."""
    choose = random.Random(seed)
    t.manual_seed(seed)
    found = []
    for _ in range(12):
        n = choose.choice([0, 1, 3, 15, 16, 17, 33, 100])
        kind = getattr(t, choose.choice(FLOATS))
        low, high = sorted((choose.uniform(-5, 5), choose.uniform(-5, 5)))
        end = choose.choice([7, 1 << 27, 1 << 40])
        calls: dict[str, Callable[[], Any]] = {
            "randn": lambda n=n, kind=kind: t.randn(n, dtype=kind),
            "rand": lambda n=n, kind=kind: t.rand(n, 2, dtype=kind),
            "randint": lambda n=n, end=end: t.randint(-5, end, (n,)),
            "randperm": lambda n=n: t.randperm(n),
            "uniform": lambda n=n, kind=kind, a=low, b=high: t.empty(n, 3, dtype=kind).t().uniform_(a, b),
            "normal": lambda n=n, kind=kind, a=low, b=high: t.empty(n, 3, dtype=kind).normal_(a, b - a),
            "normal view": lambda n=n, kind=kind, a=low, b=high: (
                t.empty(n, 3, dtype=kind).t().normal_(a, b - a)
            ),
        }
        name = choose.choice(list(calls))
        made = calls[name]()
        found.append((name, n, str(made.dtype), list(made.shape), made.to(t.float64).tolist()))
    return found


@pytest.mark.parametrize("seed", [*range(-10, 190), 2**40 + 3])
def test_draws_equal_torchs(seed: int) -> None:
    assert drawn(shim, seed) == drawn(oracle("torch"), seed)


def test_a_million_normal_numbers_equal_torchs() -> None:
    torch = oracle("torch")
    torch.manual_seed(1)
    shim.manual_seed(1)
    assert shim.randn(1 << 20).numpy().tobytes() == torch.randn(1 << 20).numpy().tobytes()
