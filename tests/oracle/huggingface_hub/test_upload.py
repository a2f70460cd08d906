"""`--upload-repo`: the hub's own client sends the result, a card and a receipt to a hub on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.making import random, write_directory
from tests.oracle.huggingface_hub.upload_hub import UploadHub, upload_hub
from tests.oracles import oracle

pytestmark = pytest.mark.oracle

TOKEN = "hf_a-secret-that-nobody-sees"
CARD = "---\nlicense: apache-2.0\ntags:\n- chat\nlibrary_name: transformers\n---\n\n# Tiny\n"


@pytest.fixture
def hub() -> Iterator[UploadHub]:
    oracle("huggingface_hub")
    with upload_hub() as made:
        yield made


@pytest.fixture
def model(tmp_path: Path) -> Path:
    shards = [{"a.weight": random((300, 400))}, {"b.weight": random((200, 400))}]
    directory = write_directory(tmp_path / "m", shards, {"model_type": "of-my-own"})
    (directory / "README.md").write_text(CARD)
    return directory


def run(hub: UploadHub, *words: object) -> subprocess.CompletedProcess[str]:
    base = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    more = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-m", "wconv", *map(str, words)]
    return subprocess.run(command, env={**base, **more}, capture_output=True, text=True, check=False)


def test_what_was_written_is_there_with_a_card_and_a_receipt(
    hub: UploadHub, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = run(hub, model, "-o", out, "--dtype", "float16", "--upload-repo", "me/made")
    assert done.returncode == 0, done.stderr
    there = {path.name for path in out.iterdir()}
    assert set(hub.files) == there >= {"README.md", "wconv.json", "config.json"}
    for path in out.iterdir():
        assert hub.files[path.name] == path.read_bytes(), path.name
    assert hub.order[0].endswith(".safetensors")
    card = hub.files["README.md"].decode()
    assert "license: apache-2.0" in card
    assert "- chat\n- mlx" in card
    assert card.count("library_name") == 1
    assert "# me/made" in card
    assert "me/made: " in done.stdout
    assert hub.tokens <= {f"Bearer {TOKEN}", ""}


def test_what_the_hub_has_is_not_sent_again(hub: UploadHub, model: Path, tmp_path: Path) -> None:
    words = (model, "--dtype", "float16", "--upload-repo", "me/made", "-o")
    assert run(hub, *words, tmp_path / "a").returncode == 0
    sent = list(hub.sent)
    hub.files.clear()
    assert run(hub, *words, tmp_path / "b").returncode == 0
    assert hub.sent == sent
    assert len(hub.files) > len(sent)


def test_a_refusal_comes_before_the_work_and_without_the_token(
    hub: UploadHub, model: Path, tmp_path: Path
) -> None:
    hub.refuse = 403
    out = tmp_path / "out"
    done = run(hub, model, "-o", out, "--upload-repo", "me/made")
    assert done.returncode == 1
    assert not out.exists()
    assert done.stderr.count("\n") == 1
    assert "me/made cannot be made on the hub" in done.stderr
    assert TOKEN not in done.stdout + done.stderr


def test_a_dry_run_makes_nothing(hub: UploadHub, model: Path, tmp_path: Path) -> None:
    done = run(hub, model, "-o", tmp_path / "out", "--upload-repo", "me/made", "--dry-run")
    assert done.returncode == 0
    assert not hub.tokens
