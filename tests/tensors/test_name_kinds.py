"""Kinds of names say no only where no name has what is asked for."""

from __future__ import annotations

import pytest

from wconv.tensors.name_kinds import _kinds, may_contain, may_end

NAMES = [f"layers.{at}.proj2.weight" for at in range(120)]


@pytest.mark.parametrize(
    ("more", "ending", "text"),
    [
        ("a.weight_scale_2", ".weight_scale_2", "scale_2"),
        ("a\nb.weight_scale", ".weight_scale", "weight_sc"),
        ("7", "7", "7"),
        ("é.SCB", ".SCB", "é"),
        ("", "", ""),
        ("x.quant_state.bitsandbytes__nf4", "nf4", ".quant_state."),
    ],
)
def test_what_is_there_is_never_denied(more: str, ending: str, text: str) -> None:
    assert more.endswith(ending)
    assert text in more
    assert may_end([*NAMES, more], (".none", ending))
    assert may_contain([*NAMES, more], ("none", text))


def test_what_is_in_no_name_is_denied() -> None:
    assert not may_end(NAMES, (".scales", "_blocks"))
    assert not may_contain(NAMES, ("lora", ".quant_state."))
    assert not may_end([], (".scales",))


def test_names_that_differ_by_their_numbers_are_of_one_kind() -> None:
    assert _kinds(tuple(NAMES)) == {"layers..proj.weight"}
