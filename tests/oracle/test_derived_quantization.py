"""Models with derived tables are quantized by `-q` as their program's own converter quantizes them."""

from __future__ import annotations

import pytest

from tests.derive import fixtures, quantizing
from tests.derive.programs import program
from tests.oracle.test_derived_tables import PROGRAMS
from tests.oracles import oracle

pytestmark = pytest.mark.oracle

NOT_BY_THEM = {
    ("mlx-lm", "afm7"): "the converter fails at a module of its own",
    ("mlx-vlm", "afm7"): "the converter fails at a module of its own",
    ("mlx-lm", "bitnet"): "it is published in two bits alone",
    ("mlx-vlm", "bitnet"): "it is published in two bits alone",
    ("mlx-lm", "pixtral"): "the tiny checkpoint has no output layer",
}
COMPARED = [
    (name, model_type)
    for name in ("mlx-lm", "mlx-vlm")  # the others have no converter that quantizes
    for model_type, row in fixtures.load(name).items()
    if "shapes" in row and (name, model_type) not in NOT_BY_THEM
]


@pytest.mark.parametrize(("name", "model_type"), COMPARED, ids=[f"{one[0]}-{one[1]}" for one in COMPARED])
def test_the_same_weights_are_quantized(name: str, model_type: str) -> None:
    oracle(PROGRAMS[name])
    row = fixtures.load(name)[model_type]
    assert quantizing.differing(program(name), model_type, row) == []
