"""Whisper's alignment heads stand in the hub's generation_config.json and among mlx-whisper's weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.making import random, write_directory
from wconv import WconvError, convert

CONFIG = {
    "model_type": "whisper",
    "num_mel_bins": 8,
    "max_source_positions": 6,
    "d_model": 4,
    "encoder_attention_heads": 2,
    "encoder_layers": 1,
    "vocab_size": 10,
    "max_target_positions": 5,
    "decoder_attention_heads": 2,
    "decoder_layers": 3,
}


def model(tmp_path: Path, heads: Any) -> Path:
    tensors = {"model.decoder.embed_tokens.weight": random((10, 4))}
    source = write_directory(tmp_path / "model", [tensors], CONFIG)
    (source / "generation_config.json").write_text(json.dumps({"alignment_heads": heads}))
    return source


def test_they_become_a_tensor(tmp_path: Path) -> None:
    report = convert(model(tmp_path, [[1, 0], [2, 1]]), tmp_path / "out", dtype="float16")
    written = load_file(tmp_path / "out" / "weights.safetensors")
    assert written["alignment_heads"].tolist() == [[1, 0], [2, 1]]
    assert written["alignment_heads"].dtype == np.int64
    assert "alignment_heads: made of generation_config.json" in report.notes


def test_without_them_nothing_is_made_up(tmp_path: Path) -> None:
    convert(model(tmp_path, None), tmp_path / "out")
    assert "alignment_heads" not in load_file(tmp_path / "out" / "weights.safetensors")


@pytest.mark.parametrize(
    "heads", [[[3, 0]], [[0, 2]], [[0]], [["0", 1]], [[-1, 0]], "all", [], [[True, 0]], {}]
)
def test_what_are_no_heads_of_the_model_is_refused(tmp_path: Path, heads: Any) -> None:
    with pytest.raises(WconvError, match=r"generation_config\.json: alignment_heads is"):
        convert(model(tmp_path, heads), tmp_path / "out")


def test_a_link_out_of_the_directory_is_not_read(tmp_path: Path) -> None:
    source = model(tmp_path, [[1, 0]])
    (source / "generation_config.json").rename(tmp_path / "elsewhere")
    (source / "generation_config.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WconvError, match=r"generation_config\.json is a link out of the directory"):
        convert(source, tmp_path / "out")
