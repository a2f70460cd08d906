"""Chapter: random numbers, which follow from the seed."""

from __future__ import annotations

from typing import Any

from tests.shim.table import Row, each, rows

FLOATS = ["float32", "float64", "float16", "bfloat16"]


def seeded(t: Any, number: int = 7) -> Any:
    t.manual_seed(number)
    return t


EXACT = {
    "rand": lambda t: [seeded(t).rand(5), t.rand(2, 3), t.rand((0,)), t.rand(())],
    "randn of 16 and more": lambda t: [seeded(t).randn(16), t.randn(33), t.randn(10, 10)],
    "randn large": lambda t: seeded(t, 3).randn(3000)[::97],
    "seeds": lambda t: [seeded(t, number).rand(2) for number in (0, -1, -5, 2**32 + 7, 2**63, 2**64 - 1)],
    "seed too large": lambda t: t.manual_seed(2**64),
    "initial_seed": lambda t: [seeded(t, 11).initial_seed(), seeded(t, -1).initial_seed()],
    "randint": lambda t: [
        seeded(t).randint(10, (4,)),
        t.randint(-3, 3, (2, 2)),
        t.randint(0, 1 << 40, (3,)),
        t.randint(high=5, size=(3,)),
        t.randint(low=2, high=5, size=(3,)),
        t.randint(2, high=5, size=(3,)),
        t.randint(1 << 28, (2,)),
    ],
    "randint dtypes": lambda t: [
        seeded(t).randint(0, 99, (3,), dtype=getattr(t, name)) for name in ("uint8", "int32", *FLOATS)
    ],
    "randint empty range": lambda t: t.randint(3, 3, (2,)),
    "randint beyond the dtype": lambda t: t.randint(0, 300, (2,), dtype=t.uint8),
    "randint without a size": lambda t: t.randint(3),
    "randperm": lambda t: [seeded(t).randperm(9), t.randperm(0), t.randperm(1), t.randperm(4, dtype=t.int32)],
    "like": lambda t: [
        seeded(t).rand_like(t.zeros(2, 2)),
        t.randn_like(t.zeros(4, 4, dtype=t.half)),
        t.randint_like(t.zeros(3), 9),
        t.randint_like(t.zeros(3), 5, 9),
    ],
    "uniform_": lambda t: [
        seeded(t).empty(4).uniform_(-1.3, 2.7),
        t.empty(3, 2).t().uniform_(),
        t.empty(3, dtype=t.float64).uniform_(0.1, 0.3),
    ],
    "uniform_ backwards": lambda t: t.empty(2).uniform_(2, 1),
    "uniform_ of integers": lambda t: t.empty(2, dtype=t.int64).uniform_(),
    "normal_ of 16 and more": lambda t: seeded(t).empty(20).normal_(3, 0.37),
    "normal_ negative deviation": lambda t: t.empty(2).normal_(0, -1),
    "normal": lambda t: seeded(t).normal(2.0, 0.5, (4, 5)),
    "random_": lambda t: [seeded(t).empty(3).random_(5), t.empty(3, dtype=t.int8).random_(-4, 4)],
    "a generator of one's own": lambda t: [
        t.rand(3, generator=t.Generator().manual_seed(5)),
        t.randn(16, generator=t.Generator().manual_seed(5)),
        t.randint(9, (3,), generator=t.Generator().manual_seed(5)),
        t.randperm(5, generator=t.Generator().manual_seed(5)),
        t.Generator().initial_seed(),
    ],
    "a generator of one's own leaves the default one": lambda t: [
        seeded(t) and None,
        t.rand(1, generator=t.Generator().manual_seed(5)),
        t.rand(1),
    ],
    "drawn from the same stream": lambda t: [
        seeded(t).rand(1, dtype=t.float64),
        t.rand(1),
        t.randint(5, (1,)),
        t.rand(1),
    ],
}

BY_LIBM = {
    "randn of less than 16": lambda t: [seeded(t).randn(3), t.randn(2), t.randn(()), t.rand(1), t.randn(1)],
    "randn of a view that is not contiguous": lambda t: seeded(t).empty(6, 5).t().normal_(1, 2),
}

ROWS: list[Row] = [
    *rows("random", EXACT),
    *rows("random", BY_LIBM, close=True),
    *each("random: rand of", FLOATS, lambda t, name: seeded(t).rand(4, dtype=getattr(t, name))),
    *each(
        "random: randn of", FLOATS, lambda t, name: seeded(t).randn(37, dtype=getattr(t, name)), close=True
    ),
]
