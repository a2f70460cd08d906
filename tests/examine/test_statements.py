"""What is said of a checkpoint as a whole, and how it is known.

Covers `consumers/needs.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from tests.making import random, write_directory
from wconv.examine.statements import loading, statements
from wconv.quantized.names import recognise

LLAMA: dict[str, Any] = {"model_type": "llama", "tie_word_embeddings": True}


def said(path: Path) -> dict[str, tuple[str, str]]:
    with wconv.open(path) as opened:
        return {
            one.what: (one.text, one.how)
            for one in statements(opened, recognise(opened.tensors, opened.description))
        }


def states(path: Path) -> dict[str, tuple[str, str]]:
    with wconv.open(path) as opened:
        return {
            one.program: (one.state, one.text)
            for one in loading(opened, recognise(opened.tensors, opened.description))
        }


def test_statements_say_how_they_are_known(tmp_path: Path) -> None:
    model = write_directory(tmp_path / "m", [{"w": random((4,))}], LLAMA)
    found = said(model)
    assert found["model_type"] == ("llama", "read")
    assert found["header"][1] == "read"
    assert found["tied"] == ("the output layer is the embedding", "read")
    file = tmp_path / "f.npz"
    np.savez(file, w=np.ones(2))
    assert said(file)["model_type"] == ("no file says it", "unknown")


def test_few_bits_are_inferred_where_nothing_says_so(tmp_path: Path) -> None:
    tensors = {
        "a.weight": np.zeros((8, 8), np.uint32),
        "a.scales": random((8, 1)),
        "a.biases": random((8, 1)),
    }
    model = write_directory(tmp_path / "m", [tensors], LLAMA)
    assert said(model)["quantization"][1] == "inferred"


@pytest.mark.parametrize(
    ("config", "state"),
    [
        (LLAMA, "as it is"),
        ({"model_type": "nobody_knows"}, "no"),
        ({**LLAMA, "architectures": ["LlamaForSequenceClassification"]}, "unknown"),
        ({**LLAMA, "quantization_config": {"quant_method": "odd"}}, "converted"),
    ],
)
def test_what_loads_it(config: dict[str, Any], state: str, tmp_path: Path) -> None:
    model = write_directory(tmp_path / "m", [{"w": random((4,))}], config)
    assert states(model)["mlx-lm"][0] == state


def test_files_that_a_program_does_not_read_are_converted_first(tmp_path: Path) -> None:
    model = write_directory(tmp_path / "m", [{"w": random((4,))}], LLAMA)
    (model / "model.safetensors").rename(model / "weights.safetensors")
    found = states(model)
    assert found["mlx-lm"] == (
        "converted",
        "loads it once converted: it reads model*.safetensors, and not weights.safetensors",
    )
    assert found["mlx-vlm"][0] == "as it is"
