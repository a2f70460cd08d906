"""A new consumer is one folder: registered, it converts, and everything that names consumers names it.

Covers `consumers/consumer.py`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import wconv
from tests.consumers.toy.consumer import TOY
from tests.making import random, write_directory
from wconv.consumers import layout_choice, registry

ROOT = str(Path(__file__).parents[2])

PROGRAM = f"""
import sys

sys.path.append({ROOT!r})

from tests.consumers.toy.consumer import TOY
from wconv.consumers import registry

registry.CONSUMERS = (*registry.CONSUMERS, TOY)

from wconv.cli.program import entry

entry()
"""


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "CONSUMERS", (*registry.CONSUMERS, TOY))


def run(*words: str) -> str:
    """What the command prints, with the toy registered."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, check=True
    ).stdout


def source(tmp_path: Path) -> tuple[Path, np.ndarray]:
    weight = random((2, 3), np.float32)
    config = {"model_type": "toy_model"}
    return write_directory(tmp_path / "model", [{"layers.0.weight": weight}], config), weight


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("layout", ["toy", "auto"])
def test_a_registered_consumer_converts(tmp_path: Path, layout: str) -> None:
    model, weight = source(tmp_path)
    report = wconv.convert(model, layout=layout)
    suffix = "TOY" if layout == "toy" else "MLX"
    assert report.output == tmp_path / f"model-{suffix}"
    assert report.layout == "toy"
    assert report.command == f"toy run {report.output}"
    written = wconv.load(report.output)
    assert list(written) == ["blocks.0.weight"]
    np.testing.assert_array_equal(written["blocks.0.weight"], weight.T)
    assert wconv.open(report.output).metadata["format"] == "pt"


@pytest.mark.usefixtures("toy")
def test_a_registered_consumer_is_listed() -> None:
    assert "toy" in registry.layout_names()
    assert ("toy", "toy_model", "rename, transpose") in layout_choice.describe()
    assert layout_choice.layout_of_model_type("toy_model", "toy").command == "toy run {model}"


def test_the_command_names_it(tmp_path: Path) -> None:
    assert "mlx-examples, mlx-whisper, mlx-audio, mlx-embeddings, diffusers, toy;" in " ".join(
        run("convert", "--help").split()
    )
    assert "toy_model" in run("rules")
    model, _ = source(tmp_path)
    shown = run(str(model), "--layout", "toy")
    assert f"load it: toy run {model}-TOY" in shown
    assert "laid out for toy" in shown


def test_without_it_nothing_knows_it(tmp_path: Path) -> None:
    model, _ = source(tmp_path)
    with pytest.raises(wconv.WconvError, match="'toy' is not a layout"):
        wconv.convert(model, layout="toy")


def test_no_two_consumers_share_a_name() -> None:
    for names in ([one.name for one in registry.CONSUMERS], [one.layout_name for one in registry.CONSUMERS]):
        assert len(set(names)) == len(names)


def test_the_list_of_consumers_loads_nothing_heavy() -> None:
    code = "import sys; from wconv.consumers import registry; print('numpy' in sys.modules, len(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.startswith("False")
