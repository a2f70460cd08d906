"""Files beside the weights are copied as they are; what is not copied is told."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from wconv.writing import sidecars


@pytest.fixture
def model(tmp_path: Path) -> Path:
    model = tmp_path / "model"
    (model / "onnx" / "deep").mkdir(parents=True)
    for name in (
        "config.json",
        "merges.txt",
        "chat_template.jinja",
        "onnx/deep/notes.md",
        "sentencepiece.model",
    ):
        (model / name).write_text(name)
    (model / "model.safetensors").write_bytes(b"w")
    return model


def test_everything_else_is_copied_with_sub_directories(model: Path, tmp_path: Path) -> None:
    found = sidecars.find(model, [model / "model.safetensors"])
    assert set(found.copied) == {
        "config.json", "merges.txt", "chat_template.jinja", "onnx/deep/notes.md", "sentencepiece.model",
    }  # fmt: skip
    assert not found.left_out
    (tmp_path / "out").mkdir()
    sidecars.copy(found, model, tmp_path / "out", but=["config.json"])
    assert (tmp_path / "out" / "onnx" / "deep" / "notes.md").read_text() == "onnx/deep/notes.md"
    assert not (tmp_path / "out" / "config.json").exists()


def test_other_weights_are_left_out_and_told(model: Path) -> None:
    (model / "pytorch_model.bin").write_bytes(b"PK\3\4")
    (model / "onnx" / "model.onnx").write_bytes(b"x")
    (model / "tokens.bin").write_bytes(b"not a pickle")
    found = sidecars.find(model, [model / "model.safetensors"])
    assert set(found.left_out) == {"pytorch_model.bin", "onnx/model.onnx"}
    assert "tokens.bin" in found.copied


def test_links_stay_within_the_model(model: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("key")
    (model / "leak.json").symlink_to("../secret")
    (model / "inside.txt").symlink_to("merges.txt")
    (model / "loop").symlink_to(".")
    (model / "dangling").symlink_to("nothing")
    os.mkfifo(model / "pipe")
    found = sidecars.find(model, [model / "model.safetensors"])
    assert "inside.txt" in found.copied
    assert set(found.left_out) == {"leak.json", "loop", "dangling", "pipe"}


def test_what_downloading_leaves_is_not_copied(model: Path) -> None:
    for name in (".git", ".cache"):
        (model / name).mkdir()
        (model / name / "huge").write_bytes(b"x")
    found = sidecars.find(model, [model / "model.safetensors"])
    assert not any(".git" in path or ".cache" in path for path in (*found.copied, *found.left_out))


def test_half_a_character_in_a_config_stays_escaped(tmp_path: Path) -> None:
    value = {"half": "\ud83d", "whole": "\U0001f600ü"}
    (tmp_path / "config.json").write_bytes(sidecars.json_bytes(value))
    text = (tmp_path / "config.json").read_text(encoding="utf-8")
    assert json.loads(text) == value
    assert "\U0001f600ü" in text
