"""A head that config.json calls tied is left out only where it is the embedding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.making import Array, random, write_directory
from wconv import WconvError, convert
from wconv.layouts import tied_heads
from wconv.tensors.lazy import from_array


def model(path: Path, model_type: str, head: Array | None, embedding: Array, **config: Any) -> Path:
    tensors = {"model.embed_tokens.weight": embedding, "model.norm.weight": random((8,))}
    if head is not None:
        tensors["lm_head.weight"] = head
    return write_directory(path, [tensors], {"model_type": model_type, **config})


EMBEDDING = random((16, 8))
OTHER = random((16, 8), seed=1)


@pytest.mark.parametrize(
    ("model_type", "config"),
    [("llama", {"tie_word_embeddings": True}), ("gemma3_text", {}), ("qwen2", {"tie_word_embeddings": True})],
)
def test_another_head_is_kept_and_the_config_untied(
    tmp_path: Path, model_type: str, config: dict[str, Any]
) -> None:
    source = model(tmp_path / "model", model_type, OTHER, EMBEDDING, **config)
    report = convert(source, tmp_path / "out")
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert written["lm_head.weight"].tobytes() == OTHER.tobytes()
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is False
    assert not report.dropped
    assert any("lm_head.weight differs" in note for note in report.notes)


def test_the_embedding_itself_is_dropped(tmp_path: Path) -> None:
    source = model(tmp_path / "model", "llama", EMBEDDING.copy(), EMBEDDING, tie_word_embeddings=True)
    report = convert(source, tmp_path / "out")
    assert report.dropped == {"lm_head.weight": "tied to the embedding"}
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is True


def test_a_consumer_that_never_uses_it_is_a_refusal(tmp_path: Path) -> None:
    source = model(tmp_path / "model", "gemma2", OTHER, EMBEDDING)
    with pytest.raises(WconvError, match=r"lm_head\.weight differs from model.embed_tokens.weight") as caught:
        convert(source, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    report = convert(source, tmp_path / "out", exclude=r"^lm_head\.weight$")
    assert "lm_head.weight" in report.dropped


def test_a_part_of_the_config_is_untied_too(tmp_path: Path) -> None:
    tensors = {
        "model.language_model.embed_tokens.weight": EMBEDDING,
        "model.language_model.norm.weight": random((8,)),
        "lm_head.weight": OTHER,
    }
    config = {"model_type": "qwen3_vl", "text_config": {"tie_word_embeddings": True}}
    convert(write_directory(tmp_path / "model", [tensors], config), tmp_path / "out")
    new = json.loads((tmp_path / "out" / "config.json").read_text())
    assert new["tie_word_embeddings"] is new["text_config"]["tie_word_embeddings"] is False


def test_one_differing_value_at_the_end_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tied_heads, "CHUNK", 10)
    one = np.zeros((7, 9), np.float32)
    other = one.copy()
    assert tied_heads.same_values(from_array(one), from_array(other))
    other[-1, -1] = 1
    assert not tied_heads.same_values(from_array(one), from_array(other))
    assert tied_heads.same_values(from_array(one), from_array(one.astype(np.float16)))
    assert not tied_heads.same_values(from_array(one), from_array(one.reshape(9, 7)))


def test_not_a_number_is_the_same_as_itself() -> None:
    one = np.full((2, 2), np.nan, np.float32)
    assert tied_heads.same_values(from_array(one), from_array(one.copy()))
    assert tied_heads.same_values(from_array(one), from_array(one.astype(np.float16)))
