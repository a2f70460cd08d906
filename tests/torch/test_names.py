"""The page `drop-torch` lists the names that there are.

Covers `torch/`.
"""

from __future__ import annotations

import functools

import wconv.torch as shim
from tests.shim import compared, names


def test_the_page_is_up_to_date() -> None:
    page = names.PAGE.read_text(encoding="utf-8")
    assert names.replaced(page) == page, "run python -m tests.shim.names"


def test_what_was_compared_is_as_the_tables_have_it() -> None:
    page = names.PAGE.read_text(encoding="utf-8")
    assert compared.replaced(page) == page, "run python -m tests.shim.compared"


def test_every_listed_name_is_there() -> None:
    found = names.listed()
    for name in found["Functions of `torch`"] + found["dtypes"] + found["In other modules"]:
        assert functools.reduce(getattr, name.split("."), shim) is not NotImplemented
    for name in found["`safetensors.torch`"]:
        from wconv.torch import safetensors_torch

        assert callable(getattr(safetensors_torch, name))
