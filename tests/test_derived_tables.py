"""Derived tables: found by model type alone, they account for the checkpoint they came from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from tests.derive import fixtures, page
from tests.making import random, write_directory
from wconv import layouts
from wconv.consumers import derived_tables
from wconv.layouts import rules_file
from wconv.layouts.engine import matches
from wconv.layouts.inverse import restore
from wconv.tensor import from_array

PROGRAMS = ("mlx-lm", "mlx-vlm")
FOLDER = Path(derived_tables.__file__).parent


@pytest.fixture(scope="module", params=PROGRAMS)
def rows(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return request.param, fixtures.load(request.param)


def zeros(row: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint with the names and shapes that a table was derived from."""
    return {name: from_array(np.zeros(shape, np.float16)) for name, shape in row["shapes"].items()}


def test_every_table_reads_and_writes_and_names_no_other_file_than_its_own() -> None:
    paths = sorted(FOLDER.glob("*/tables/*.toml"))
    assert len(paths) > 200
    for path in paths:
        consumer = path.parents[1].name.replace("_", "-")
        layout = derived_tables.find(consumer, path.stem)
        assert layout is not None
        assert layout.consumers == (consumer,)
        assert layout.model_types == (path.stem,)
        assert rules_file.parse(rules_file.write(layout)) == layout
        text = path.read_text()
        assert text.startswith(("# Derived from", "same_as = "))


def test_every_checkpoint_becomes_what_the_consumer_knows_and_comes_back(
    rows: tuple[str, dict[str, Any]],
) -> None:
    program, found = rows
    derived = {name: row for name, row in found.items() if "shapes" in row}
    assert len(derived) > 100
    for name, row in derived.items():
        layout = derived_tables.find(program, name.lower())
        assert layout is not None, name
        tensors = zeros(row)
        assert derived_tables.accounts_for(layout, row["config"], tensors), name
        applied = layouts.apply(layout, tensors, row["config"])
        assert all(matches(layout.names, one) for one in applied.tensors)
        again = layouts.apply(layout, applied.tensors, row["config"])
        assert {one: tensor.shape for one, tensor in again.tensors.items()} == {
            one: tensor.shape for one, tensor in applied.tensors.items()
        }
        if str(row.get("back", "")).startswith("same"):
            back = restore(layout, applied.tensors, row["config"])
            restored = tensors if back is None else back.tensors
            assert all(tensors[one].shape == tensor.shape for one, tensor in restored.items()), name


def test_a_table_counts_only_where_it_accounts_for_every_name(tmp_path: Path) -> None:
    config = {"model_type": "granite", "tie_word_embeddings": False}
    names = ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"]
    chosen = layouts.choose("auto", config, names)
    assert chosen is not None
    assert chosen.consumers == ("mlx-lm",)
    assert layouts.choose("mlx-lm", config, [*names, "model.something.weight"]) is None
    assert layouts.choose("mlx-lm", {**config, "tie_word_embeddings": True}, names) is not None
    assert layouts.choose("hf", config, names) is None
    source = write_directory(tmp_path / "model", [{name: random((4, 4)) for name in names}], config)
    report = wconv.convert(source, dtype="float16")
    assert report.layout == "mlx-lm"
    assert set(wconv.open(report.output)) == set(names)


def test_the_page_of_all_architectures_is_what_was_derived() -> None:
    assert page.PAGE.read_text() == page.text(), "run python -m tests.derive --page"


def test_the_chooser_gives_each_checkpoint_its_table(rows: tuple[str, dict[str, Any]]) -> None:
    program, found = rows
    for name, row in found.items():
        if "shapes" not in row:
            continue
        config = {**row["config"], "model_type": name}
        chosen = layouts.choose(program, config, row["shapes"])
        assert chosen is not None, name
        assert program in chosen.consumers


def test_a_number_that_counts_nothing_is_no_layer() -> None:
    row = fixtures.load("mlx-lm")["glm4_moe"]
    layout = derived_tables.find("mlx-lm", "glm4_moe")
    assert layout is not None
    assert derived_tables.accounts_for(layout, row["config"], row["shapes"])
    beyond = [*row["shapes"], "model.layers.123.eh_proj.weight"]
    assert derived_tables.accounts_for(layout, row["config"], beyond)
    name = f"model.layers.{'9' * 5000}.eh_proj.weight"
    assert not derived_tables.accounts_for(layout, row["config"], [*row["shapes"], name])


def test_a_table_whose_field_config_json_does_not_have_does_not_count() -> None:
    row = fixtures.load("mlx-lm")["jamba"]
    assert layouts.choose("mlx-lm", row["config"], row["shapes"]) is not None
    config = {key: value for key, value in row["config"].items() if key != "num_experts"}
    assert layouts.choose("mlx-lm", config, row["shapes"]) is None


def test_only_the_consumer_that_is_asked_first_lays_a_model_out_anew() -> None:
    hub = ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight", "model.of.its.own"]
    laid_out = [f"language_model.{name}" for name in hub[:3]]
    config = {"model_type": "granite", "tie_word_embeddings": False}
    assert layouts.choose("auto", config, hub) is None
    for_vlm = layouts.choose("mlx-vlm", config, hub[:3])
    assert for_vlm is not None
    assert for_vlm.consumers == ("mlx-vlm",)
    assert layouts.choose("auto", config, hub[:3]) == derived_tables.find("mlx-lm", "granite")
    assert layouts.choose("auto", config, laid_out) == for_vlm


def test_written_tables_come_first() -> None:
    written = next(one for one in layouts.tables("mlx-lm") if "llama" in one.model_types)
    assert layouts.choose("mlx-lm", {"model_type": "llama"}, []) is written
    assert derived_tables.find("mlx-lm", "llama") is not None


@pytest.mark.parametrize("model_type", ["../llama", "", ".", "a/b", "none of these", "llama\n"])
def test_no_model_type_leads_out_of_the_folder(model_type: str) -> None:
    assert derived_tables.choose("auto", {"model_type": model_type}, []) is None


def test_only_the_one_file_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    text = derived_tables._text
    monkeypatch.setattr(derived_tables, "_text", lambda *names: read.append(names) or text(*names))
    derived_tables.find.cache_clear()
    assert derived_tables.choose("mlx-lm", {"model_type": "mixtral"}, []) is not None
    assert read == [("mlx-lm", "mixtral")]


def test_a_file_that_is_the_same_as_another_is_that_for_its_own_model_type() -> None:
    same = [path for path in FOLDER.glob("mlx_lm/tables/*.toml") if path.read_text().startswith("same_as")]
    assert same
    one = derived_tables.find("mlx-lm", same[0].stem)
    said = derived_tables.SAME_AS.search(same[0].read_text())
    assert one is not None
    assert said is not None
    other = derived_tables.find("mlx-lm", said[1])
    assert other is not None
    assert replace(one, model_types=()) == replace(other, model_types=())
