"""Every function takes what torch's own stubs list, with the same defaults; what is not taken is listed.

Covers `torch/`.
"""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest

import wconv.torch as shim
from tests.shim.signatures import EXPECTED, offered
from wconv.torch import calls

TABLE: dict[str, list[dict[str, Any]]] = json.loads(EXPECTED.read_text(encoding="utf-8"))

NOWHERE = {"out", "names", "self"}
"""Arguments that no function takes: results are new tensors, axes no names, `self` is a number or `input`."""

NOT_TAKEN: dict[str, set[str]] = {
    "addmm": {"out_dtype"},
    "bmm": {"out_dtype"},
    "mm": {"out_dtype"},
    "result_type": {"other", "scalar", "scalar1", "scalar2", "tensor"},
    "rsub": {"alpha"},
}
"""Arguments that single functions do not take."""


def taken(name: str) -> dict[str, Any]:
    """The names of arguments that a function takes, and their defaults."""
    function = getattr(shim, name)
    own = inspect.signature(function).parameters.values()
    return {
        each.name: each.default for each in own if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    }


@pytest.mark.parametrize("name", sorted(TABLE))
def test_arguments_are_torchs(name: str) -> None:
    wanted = {argument for overload in TABLE[name] for argument in overload} - NOWHERE
    function = getattr(shim, name)
    missing = {each for each in wanted if not calls.takes(function, each)}
    assert missing == NOT_TAKEN.get(name, set())


@pytest.mark.parametrize("name", sorted(TABLE))
def test_defaults_are_torchs(name: str) -> None:
    ours = taken(name)
    different = set()
    for overload in TABLE[name]:
        for argument, default in overload.items():
            if default in ("…", None) or ours.get(argument) in (inspect.Parameter.empty, None):
                continue
            if default != (list(ours[argument]) if isinstance(ours[argument], tuple) else ours[argument]):
                different.add(argument)
    assert different == set()


def test_the_table_is_of_what_is_offered() -> None:
    assert set(TABLE) <= set(offered())
    assert len(TABLE) > 150
