"""Known shapes against the programs themselves: wconv refuses what they refuse, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from tests.derive import fixtures, shape_proof
from tests.derive.programs import program
from tests.oracles import oracle
from wconv.consumers import shapes

pytestmark = pytest.mark.oracle

PACKAGES = {"mlx-lm": "mlx_lm", "mlx-vlm": "mlx_vlm"}
EVERY = 4
"""Of so many models one is tried here; `python -m tests.derive.shapes PROGRAM --prove` tries them all."""

MOST = 100
"""Kinds of tensors of a model that is tried here."""

PROVED = [
    (name, model_type)
    for name, rows in shape_proof.load().items()
    for model_type in [one for one, row in rows.items() if row["kinds"] <= MOST][::EVERY]
]


@pytest.mark.parametrize(("name", "model_type"), PROVED, ids=[f"{one}-{two}" for one, two in PROVED])
def test_the_programs_own_model_passes_and_a_changed_one_is_refused(name: str, model_type: str) -> None:
    oracle(PACKAGES[name])
    table = shapes.find(name, model_type.lower())
    assert table is not None
    found = shape_proof.count(program(name), model_type, fixtures.load(name)[model_type]["config"], table)
    assert found.pop("false") == []
    assert found["passed"] == found["configs"]
    kept: dict[str, Any] = shape_proof.load()[name][model_type]
    assert {key: kept[key] for key in found} == found
