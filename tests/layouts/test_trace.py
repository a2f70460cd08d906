"""Which rules concern each tensor."""

from __future__ import annotations

import numpy as np

from wconv.layouts.apply import Layout
from wconv.layouts.rules import drop, rename, transpose
from wconv.layouts.trace import rules_of
from wconv.tensors.lazy import from_array


def test_rules_are_told_by_the_names_of_the_source() -> None:
    rules = (rename("a.**", "b.**"), drop("mask", "not used"), transpose("b.#.w", "matrix"))
    layout = Layout(("p",), ("m",), names=("b.#.w", "c"), rules=rules)
    names = ("a.0.w", "a.1.w", "c", "mask")
    found = rules_of(layout, {name: from_array(np.ones((2, 3))) for name in names})
    assert found == {"a.0.w": (rules[0], rules[2]), "a.1.w": (rules[0], rules[2]), "mask": (rules[1],)}
