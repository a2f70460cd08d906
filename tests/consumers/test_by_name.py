"""Derived tables of programs that `--layout` alone leads to: those for speech and for embeddings.

Covers `consumers/mlx_audio/consumer.py`, `consumers/mlx_embeddings/consumer.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import wconv
from tests.derive import fixtures, published
from tests.making import random, write_directory
from wconv.consumers import registry, table_files
from wconv.consumers.layout_choice import choose_layout

PROGRAMS = ("mlx-audio", "mlx-embeddings")


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_table_counts_for_its_own_checkpoint_if_it_is_asked_for(program: str) -> None:
    consumer = registry.find_consumer(program)
    assert consumer is not None
    assert consumer.role == "by name"
    count = 0
    for model_type, row in fixtures.load(program).items():
        if "shapes" not in row:
            continue
        layout = choose_layout(program, row["config"], row["shapes"])
        if row["kind"] == published.KIND:
            assert layout is None, model_type
            continue
        assert layout is not None, model_type
        assert layout.consumers == (program,)
        assert layout.derived_from
        auto: Any = choose_layout("auto", row["config"], row["shapes"])
        assert auto is None or program not in auto.consumers
        count += 1
    assert count == len(set(table_files.model_types(consumer.table_folder)) & fixtures.load(program).keys())
    assert count > 5


def test_a_model_of_embeddings_is_laid_out_by_name_alone(tmp_path: Path) -> None:
    row = fixtures.load("mlx-embeddings")["qwen3"]
    tensors = {name: random(tuple(shape)) for name, shape in row["shapes"].items()}
    source = write_directory(tmp_path / "model", [tensors], row["config"])
    result = wconv.convert(source, tmp_path / "out", layout="mlx-embeddings")
    assert set(wconv.open(tmp_path / "out")) != set(tensors)
    assert result.layout == "mlx-embeddings"
    known = registry.find_consumer("mlx-embeddings")
    assert known is not None
    assert known.command == "mlx_embeddings.load('{model}')"


def test_a_model_that_has_no_table_there_is_told(tmp_path: Path) -> None:
    source = write_directory(tmp_path / "model", [{"a.weight": random((2, 2))}], {"model_type": "llama"})
    with pytest.raises(wconv.LayoutError, match="--layout mlx-embeddings has no rules for llama"):
        wconv.convert(source, tmp_path / "out", layout="mlx-embeddings")
