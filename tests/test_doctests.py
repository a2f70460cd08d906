"""The example of every name of the library runs, and prints what it shows."""

from __future__ import annotations

import doctest
import pathlib
import pickle
from pathlib import Path

import pytest

import wconv
from tests import example_world

NAMES = sorted(set(wconv.__all__) - {"__version__"})


@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_a_name_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "load_mlx":
        pytest.importorskip("mlx.core")
    monkeypatch.chdir(tmp_path)
    example_world.prepare("library", tmp_path)
    text = getattr(wconv, name).__doc__ or ""
    world = {"wconv": wconv, "pathlib": pathlib, "pickle": pickle}
    example = doctest.DocTestParser().get_doctest(text, world, name, None, 0)
    assert example.examples, f"wconv.{name} has no example"
    shown: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=shown.append)
    assert not shown, "".join(shown)
