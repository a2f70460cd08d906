"""Every row of the conformance table does on the shim what it does on torch 2.13.

Covers `torch/`.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

import wconv.torch as shim
from tests.oracles import oracle
from tests.shim.conformance import TABLE
from tests.shim.observe import agree, observe
from tests.shim.record import EXPECTED
from tests.shim.table import Row


@pytest.fixture(scope="module")
def expected() -> Any:
    return json.loads(EXPECTED.read_text(encoding="utf-8"))


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_the_shim_does_what_torch_was_recorded_doing(row: Row, expected: Any) -> None:
    found = json.loads(json.dumps(observe(shim, row)))
    assert agree(row, found, expected[row.name]), f"\ntorch: {expected[row.name]}\nshim:  {found}"


@pytest.mark.oracle
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_the_shim_does_what_torch_does(row: Row) -> None:
    torch = oracle("torch")
    found, wanted = observe(shim, row), observe(torch, row)
    assert agree(row, found, wanted), f"\ntorch: {wanted}\nshim:  {found}"


def test_the_record_holds_every_row_once_and_no_other(expected: Any) -> None:
    names = [row.name for row in TABLE]
    assert len(set(names)) == len(names) >= 400
    assert set(expected) == set(names)


def test_a_row_that_differs_is_told_apart() -> None:
    """The comparison itself can fail: on values, dtype, shape, strides, errors."""
    row = Row("made up", lambda t: t.ones(2, 2))
    right = observe(shim, row)
    for key, value in {
        "values": [*right["values"][:3], "nan"],
        "tensor": "torch.float64",
        "shape": [4],
        "strides": [1, 2],
    }.items():
        assert not agree(row, right, right | {key: value})
    assert agree(row, right, dict(right))
    assert not agree(row, {"raises": "KeyError"}, {"raises": "IndexError"})
    assert not agree(row, right, {"raises": "RuntimeError"})
    assert not agree(row, [True], [1])
