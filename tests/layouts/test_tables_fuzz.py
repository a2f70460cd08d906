"""Tables over tensors of any shape and dtype, under configs of any values: laid out, or refused in a line."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from wconv.consumers.registry import automatic_names, tables
from wconv.errors import WconvError
from wconv.layouts.apply import Layout, apply
from wconv.layouts.conditions import Setting, When
from wconv.layouts.inverse import restore
from wconv.layouts.patterns import sample
from wconv.layouts.rules import Rule
from wconv.tensors import dtypes
from wconv.tensors.lazy import FileTensor, LazyTensor

DTYPES = ("bfloat16", "bfloat16", "bfloat16", "float32", "uint8", "float8_e4m3fn", "bool", "float4_e2m1fn_x2")
LENGTHS = (0, 1, 2, 3, 4, 8, 128, 129)
VALUES: Sequence[Any] = (
    0,
    1,
    2,
    4,
    -1,
    10**12,
    10**60,
    1.5,
    float("inf"),
    "x",
    None,
    True,
    [],
    [1],
    {},
    {"a": 1},
)
SECONDS = 0.5


def rules_of(layout: Layout) -> tuple[Rule, ...]:
    return (*layout.alias_rules, *layout.rules)


def fields_of(layout: Layout) -> Iterator[str]:
    """The fields of config.json that the rules look at."""
    for rule in rules_of(layout):
        for name in rule.__dataclass_fields__:
            value = getattr(rule, name)
            for one in value if isinstance(value, tuple) else (value,):
                what = one.what if isinstance(one, When) else one
                if isinstance(what, Setting):
                    yield from (path.strip() for text in what.path.split("|") for path in text.split(" - "))


def state(layout: Layout, random_: random.Random) -> dict[str, LazyTensor]:
    targets = [target for rule in rules_of(layout) for target in rule.targets]
    patterns = [*(rule.source for rule in rules_of(layout)), *layout.names, *targets]
    found: dict[str, LazyTensor] = {}
    for pattern in random_.sample(patterns, min(len(patterns), random_.randrange(1, 20))):
        for name in random_.sample(sample(pattern), 1):
            shape = tuple(random_.choices(LENGTHS, k=random_.randrange(6)))
            found[name] = FileTensor("x", 0, dtypes.by_name(random_.choice(DTYPES)), shape)
    return found


def config(layout: Layout, random_: random.Random) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for path in fields_of(layout):
        *parts, last = path.split(".")
        place = made
        for part in parts:
            if not isinstance(place.get(part), dict):
                place[part] = {}
            place = place[part]
        place[last] = random_.choice(VALUES)
    return made


@pytest.mark.parametrize("consumer", automatic_names())
def test_every_table_lays_out_or_refuses(consumer: str) -> None:
    random_ = random.Random(consumer)
    done = refused = 0
    # derived tables are many and alike
    for layout in [one for one in tables(consumer) for _ in range(2 if one.derived_from else 12)]:
        tensors, said = state(layout, random_), config(layout, random_)
        for way in (apply, restore):
            began = time.process_time()
            try:
                way(layout, tensors, said)
                done += 1
            except WconvError:
                refused += 1
            assert time.process_time() - began < SECONDS, (layout.model_types, sorted(tensors), said)
    assert done
    assert refused
