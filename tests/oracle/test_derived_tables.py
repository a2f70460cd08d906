"""Every model of the programs that are probed: what wconv writes is what the program's own conversion makes.

The checkpoints are those of `fixtures/derived`: tiny, of the names that are published where they are known.
"""

from __future__ import annotations

import pkgutil
from pathlib import Path
from typing import Any

import pytest

from tests.derive import fixtures, page, proof, published, speech, watch
from tests.derive.programs import Program, probe, program
from tests.derive.sources import Source
from tests.oracles import BESIDE, directory_of, oracle

pytestmark = pytest.mark.oracle

PROGRAMS = {
    "mlx-lm": "mlx_lm",
    "mlx-vlm": "mlx_vlm",
    "mlx-audio": "mlx_audio",
    "mlx-embeddings": "mlx_embeddings",
}
ROWS = [(name, model_type, row) for name in PROGRAMS for model_type, row in fixtures.load(name).items()]
BY_NAME = ("mlx-audio", "mlx-embeddings")
"""Programs whose names may be the hub's names of another: `--layout hf` lays them back by rules alone."""

OTHER_NAMES = {"aya_vision", "internvl", "llava_onevision"}
"""Models whose checkpoints here have newer names than those to which mlx-vlm's tables lay back."""

COMPARED = [(name, model_type, row) for name, model_type, row in ROWS if "shapes" in row]


def installed(name: str) -> Program:
    """A program, which may lie beside the environment."""
    if name in BESIDE:
        speech.reachable(directory_of(name))
    oracle(PROGRAMS[name])
    return program(name)


@pytest.mark.parametrize(
    ("name", "model_type", "row"), COMPARED, ids=[f"{one[0]}-{one[1]}" for one in COMPARED]
)
def test_it_converts_as_the_consumer_does(
    name: str, model_type: str, row: dict[str, Any], tmp_path: Path
) -> None:
    prog = installed(name)
    shapes = {one: tuple(shape) for one, shape in row["shapes"].items()}
    model = probe(prog, model_type, row["config"])
    source = Source(row["source"], row["config"], shapes, model, frozenset(row["integers"]))
    if row["kind"] == published.KIND:
        found = published.compare(prog, model_type, source, tmp_path)
        assert (found["own"], found["float16"]) == ("same", "same")
        return
    (tmp_path / "source").mkdir()
    found = proof.compare(prog, model_type, source, None, tmp_path)
    assert (found["own"], found["float16"]) == ("same", "same")
    if name in BY_NAME or (name == "mlx-vlm" and model_type in OTHER_NAMES):
        return
    if row["back"].startswith("same"):
        assert found["back"].startswith("same"), found["back"]


def test_a_version_that_does_something_else_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    module = oracle("mlx_lm.models.jamba")
    prog = program("mlx-lm")
    assert not list(watch.changes(prog, ["jamba", "granite"]))
    monkeypatch.setattr(module.Model, "sanitize", lambda _, weights: weights)
    assert [name for name, _ in watch.changes(prog, ["jamba", "granite"])] == ["jamba"]


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_module_of_the_consumer_is_accounted_for(name: str) -> None:
    prog = installed(name)
    rows = {model_type for one, model_type, _ in ROWS if one == name}
    assert rows == set(prog.model_types())


@pytest.mark.parametrize("name", page.SHARED)
def test_every_other_module_is_named_on_the_page_or_shared_by_models(name: str) -> None:
    models = oracle(f"{PROGRAMS[name]}.models")
    modules = {found.name for found in pkgutil.iter_modules(models.__path__)}
    assert modules - fixtures.load(name).keys() == {*page.OTHERS.get(name, {}), *page.SHARED[name]}
