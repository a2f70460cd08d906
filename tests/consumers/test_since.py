"""The summary says from which version of a program on a result is for it."""

from __future__ import annotations

from pathlib import Path

import pytest

import wconv
from tests.making import random, write_directory
from wconv.consumers import since


def note(tmp_path: Path, model_type: str, **more: object) -> list[str]:
    config = {"model_type": model_type, "tie_word_embeddings": False, **more}
    source = write_directory(tmp_path / model_type, [{"lm_head.weight": random((8, 4))}], config)
    report = wconv.prepare(source, tmp_path / "o", layout="mlx-lm").report
    return [one for one in report.notes if "and newer" in one]


def test_a_version_is_told_where_older_ones_want_it_otherwise(tmp_path: Path) -> None:
    version = since.since("mlx-lm", "gemma4_text")
    assert version
    (told,) = note(tmp_path, "gemma4_text")
    assert told.startswith(f"compared with mlx-lm {version} and newer: an older one wants gemma4_text")


def test_nothing_is_told_where_all_versions_agree(tmp_path: Path) -> None:
    assert note(tmp_path, "llama") == []
    assert since.since("mlx-lm", "llama") == ""
    assert since.since("nobody", "llama") == ""


@pytest.mark.parametrize("program", ["mlx-lm", "mlx-vlm"])
def test_versions_are_versions(program: str) -> None:
    for model_type, version in since._read(program.replace("-", "_")).items():
        assert all(part.isdigit() for part in version.split(".")), model_type
