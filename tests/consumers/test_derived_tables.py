"""Derived tables account for the checkpoints that they came from, and count for no others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from tests.derive import fixtures, page
from tests.making import random, write_directory
from wconv.consumers import derived_tables, registry, table_files
from wconv.consumers.layout_choice import choose_layout
from wconv.layouts.apply import Layout, apply, matches
from wconv.layouts.inverse import restore
from wconv.tensors.lazy import from_array

PROGRAMS = ("mlx-lm", "mlx-vlm")


def table(program: str, model_type: str) -> Layout:
    found = table_files.find(program.replace("-", "_"), model_type.lower())
    assert found is not None, (program, model_type)
    return found


def rows(program: str) -> dict[str, Any]:
    """The checkpoints of tables that no person wrote."""
    found = fixtures.load(program)
    folder = program.replace("-", "_")
    derived = {name: table_files.find(folder, name.lower()) for name in found}
    return {name: found[name] for name, layout in derived.items() if layout and layout.derived_from}


def zeros(row: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint with the names and shapes that a table was derived from."""
    return {name: from_array(np.zeros(shape, np.float16)) for name, shape in row["shapes"].items()}


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_checkpoint_becomes_what_the_consumer_knows_and_comes_back(program: str) -> None:
    derived = rows(program)
    assert len(derived) > 60
    for name, row in derived.items():
        layout = table(program, name)
        tensors = zeros(row)
        assert derived_tables.accounts_for(layout, row["config"], tensors), name
        applied = apply(layout, tensors, row["config"])
        assert all(matches(layout.names, one) for one in applied.tensors)
        again = apply(layout, applied.tensors, row["config"])
        assert {one: tensor.shape for one, tensor in again.tensors.items()} == {
            one: tensor.shape for one, tensor in applied.tensors.items()
        }
        if str(row.get("back", "")).startswith("same"):
            back = restore(layout, applied.tensors, row["config"])
            restored = tensors if back is None else back.tensors
            assert all(tensors[one].shape == tensor.shape for one, tensor in restored.items()), name


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_chooser_gives_each_checkpoint_its_table(program: str) -> None:
    for name, row in rows(program).items():
        config = {**row["config"], "model_type": name}
        chosen = choose_layout(program, config, row["shapes"])
        assert chosen is not None, name
        assert program in chosen.consumers


def test_a_table_counts_only_where_it_accounts_for_every_name(tmp_path: Path) -> None:
    config = {"model_type": "granite", "tie_word_embeddings": False}
    names = ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"]
    chosen = choose_layout("auto", config, names)
    assert chosen is not None
    assert chosen.consumers == ("mlx-lm",)
    assert choose_layout("mlx-lm", config, [*names, "model.something.weight"]) is None
    assert choose_layout("mlx-lm", {**config, "tie_word_embeddings": True}, names) is not None
    assert choose_layout("hf", config, names) is None
    source = write_directory(tmp_path / "model", [{name: random((4, 4)) for name in names}], config)
    report = wconv.convert(source, dtype="float16")
    assert report.layout == "mlx-lm"
    assert set(wconv.open(report.output)) == set(names)


def test_the_page_of_all_architectures_is_what_was_derived() -> None:
    assert page.PAGE.read_text() == page.text(), "run python -m tests.derive --page"


def test_a_number_that_counts_nothing_is_no_layer() -> None:
    row = fixtures.load("mlx-lm")["solar_open"]
    layout = table("mlx-lm", "solar_open")
    assert derived_tables.accounts_for(layout, row["config"], row["shapes"])
    name = "model.layers.{}.self_attn.q_proj.weight"
    assert derived_tables.accounts_for(layout, row["config"], [*row["shapes"], name.format(123)])
    assert not derived_tables.accounts_for(layout, row["config"], [*row["shapes"], name.format("9" * 5000)])


def test_a_table_whose_field_config_json_does_not_have_does_not_count() -> None:
    row = fixtures.load("mlx-lm")["jamba"]
    assert choose_layout("mlx-lm", row["config"], row["shapes"]) is not None
    config = {key: value for key, value in row["config"].items() if key != "num_experts"}
    assert choose_layout("mlx-lm", config, row["shapes"]) is None


@pytest.mark.parametrize(
    ("root", "part", "tied"), [(True, False, False), (False, True, True), (True, None, True)]
)
def test_a_head_is_tied_by_the_field_that_the_consumer_reads(
    root: bool, part: bool | None, tied: bool
) -> None:
    row = fixtures.load("mlx-vlm")["cohere_compass"]
    text = {**row["config"]["text_config"], "tie_word_embeddings": part}
    config = {**row["config"], "tie_word_embeddings": root, "text_config": text}
    tensors = zeros(row)
    tensors["lm_head.weight"] = tensors["model.language_model.embed_tokens.weight"]
    layout = choose_layout("mlx-vlm", config, tensors)
    assert layout is not None
    assert ("lm_head.weight" in apply(layout, tensors, config).dropped) is tied


def test_a_head_that_differs_from_the_embedding_stays(tmp_path: Path) -> None:
    names = ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"]
    config = {"model_type": "granite", "tie_word_embeddings": True}
    tensors = {name: random((4, 4) if "norm" not in name else (4,), seed=at) for at, name in enumerate(names)}
    report = wconv.convert(write_directory(tmp_path / "model", [tensors], config))
    assert set(wconv.open(report.output)) == set(names)
    assert json.loads((report.output / "config.json").read_text())["tie_word_embeddings"] is False


def test_a_table_does_not_count_where_the_consumer_computes() -> None:
    row = fixtures.load("mlx-lm")["bailing_moe"]
    for config, counts in ((row["config"], True), ({**row["config"], "norm_head": True}, False)):
        assert (choose_layout("mlx-lm", config, row["shapes"]) is not None) is counts
    assert "norm_head (default False) being other than False" in derived_tables.why_not(
        "mlx-lm", {**row["config"], "norm_head": True}, row["shapes"]
    )
    for consumer in ("mlx_lm", "mlx_vlm"):
        assert table_files.find(consumer, "baichuan_m1") is None


def test_only_the_consumer_that_is_asked_first_lays_a_model_out_anew() -> None:
    hub = ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight", "model.of.its.own"]
    laid_out = [f"language_model.{name}" for name in hub[:3]]
    config = {"model_type": "granite", "tie_word_embeddings": False}
    assert choose_layout("auto", config, hub) is None
    for_vlm = choose_layout("mlx-vlm", config, hub[:3])
    assert for_vlm is not None
    assert for_vlm.consumers == ("mlx-vlm",)
    assert choose_layout("auto", config, hub[:3]) == table("mlx-lm", "granite")
    assert choose_layout("auto", config, laid_out) == for_vlm


def test_mlx_vlm_casts_a_bias_of_mimo_v2_flash_that_mlx_lm_keeps() -> None:
    row = fixtures.load("mlx-vlm")["mimo_v2_flash"]
    kept = {}
    for program in PROGRAMS:
        layout = choose_layout(program, row["config"], row["shapes"])
        assert layout is not None
        assert layout.consumers == (program,)
        kept[program] = apply(layout, zeros(row), row["config"]).keep_dtype
    assert "model.layers.1.mlp.gate.e_score_correction_bias" in kept["mlx-lm"]
    assert not kept["mlx-vlm"]


def test_what_is_quantized_by_a_derived_table_is_taken_again(tmp_path: Path) -> None:
    tensors = {name: random((64, 64), seed=at) for at, name in enumerate(("model.embed_tokens", "lm_head"))}
    config = {"model_type": "granite", "tie_word_embeddings": False}
    source = write_directory(
        tmp_path / "m", [{f"{name}.weight": one for name, one in tensors.items()}], config
    )
    small = wconv.convert(source, tmp_path / "small", quantize=wconv.Quantize(bits=4, group_size=32))
    parts = ("weight", "scales", "biases")
    assert small.layout == "mlx-lm"
    assert set(wconv.open(small.output)) == {f"{name}.{part}" for name in tensors for part in parts}
    other = wconv.convert(small.output, tmp_path / "other", layout="mlx-vlm")
    assert set(wconv.open(other.output)) == {
        f"language_model.{name}.{part}" for name in ("model.embed_tokens", "lm_head") for part in parts
    }
    dense = wconv.convert(small.output, tmp_path / "dense", dequantize=True)
    assert set(wconv.open(dense.output)) == {f"{name}.weight" for name in tensors}


def test_tables_of_persons_come_first() -> None:
    written = table("mlx-lm", "qwen3_next")
    assert not written.derived_from
    assert choose_layout("auto", {"model_type": "qwen3_next"}, []) is written
    assert choose_layout("mlx-vlm", {"model_type": "qwen3_next"}, []) is table("mlx-vlm", "qwen3_next")


@pytest.mark.parametrize("model_type", ["llama", "mamba2", "gemma3_text"])
def test_what_is_laid_out_for_another_consumer_than_a_written_table_is_known(
    model_type: str, tmp_path: Path
) -> None:
    row = fixtures.load("mlx-vlm")[model_type]
    config = {**row["config"], "model_type": model_type}
    theirs = table("mlx-vlm", model_type)
    laid_out = apply(theirs, zeros(row), config).tensors
    assert choose_layout("auto", config, row["shapes"]) == table("mlx-lm", model_type)
    assert choose_layout("auto", config, laid_out) == theirs
    arrays = {name: tensor.numpy() for name, tensor in laid_out.items()}
    source = write_directory(tmp_path / "model", [arrays], config)
    back = wconv.open(wconv.convert(source, layout="hf").output)
    assert set(back) == set(row["shapes"])


def test_a_model_type_that_no_consumer_has_a_table_for_has_none() -> None:
    assert derived_tables.choose(registry.AUTO, {"model_type": "none of these"}, []) is None
