"""The hub's own client: what it downloads, where it keeps that, and which token and cache it takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import wconv
from tests.making import random, write_directory
from tests.oracles import oracle
from tests.serving import COMMIT, Served, put_model, serving
from wconv.checkpoints.locate import locate
from wconv.stores import hub, remote

pytestmark = pytest.mark.oracle

MODEL = "someone/Tiny"

FACTS = """
import json
from huggingface_hub import constants, get_token
print(json.dumps([get_token() or "", constants.HF_HUB_CACHE, constants.ENDPOINT, constants.is_offline_mode()
    if hasattr(constants, "is_offline_mode") else constants.HF_HUB_OFFLINE]))
"""


def client(code: str, environment: dict[str, str]) -> str:
    """What the client prints, in a process that has this environment alone."""
    base = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**base, "HF_HUB_DISABLE_XET": "1", **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    oracle("huggingface_hub")
    for name in list(os.environ):
        if name.startswith(("HF_", "HUGGING")):
            monkeypatch.delenv(name)
    shards = [{"a.weight": random((300, 400))}, {"b.weight": random((200, 400))}]
    directory = write_directory(tmp_path / "m", shards, {"model_type": "llama"})
    with serving() as served:
        put_model(served, MODEL, {path.name: path.read_bytes() for path in directory.iterdir()})
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        yield served


@pytest.mark.parametrize("patterns", ["None", "['*.json', '*-00001-*']"])
def test_what_the_client_downloads_is_used_and_is_what_is_read(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patterns: str
) -> None:
    there = wconv.load(MODEL)
    code = f"import huggingface_hub as h; print(h.snapshot_download({MODEL!r}, allow_patterns={patterns}))"
    printed = client(code, {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "hf")})
    snapshot = Path(printed.strip().splitlines()[-1])
    assert snapshot.name == COMMIT
    server.asked.clear()
    remote.reset()
    again = wconv.load(MODEL)
    assert {name: array.tobytes() for name, array in there.items()} == {
        name: array.tobytes() for name, array in again.items()
    }
    fetched = {path.rpartition("/")[2] for path, _ in server.asked if "/resolve/" in path}
    if patterns == "None":
        assert locate(MODEL) == snapshot
        assert not fetched
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert locate(MODEL) == snapshot
    else:
        assert fetched == {"model-00002-of-00002.safetensors"}


def test_wconv_leaves_the_clients_cache_alone(server: Served, tmp_path: Path) -> None:
    wconv.convert(MODEL, tmp_path / "out", layout="hf")
    assert not (tmp_path / "hf").exists()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"HF_TOKEN": "hf_one"},
        {"HF_TOKEN": " hf_one\n"},
        {"HUGGING_FACE_HUB_TOKEN": "hf_old"},
        {"HF_TOKEN": "hf_one", "HUGGING_FACE_HUB_TOKEN": "hf_old"},
        {"HF_TOKEN_PATH": "{home}/file"},
        {"HF_HOME": "{home}"},
        {"XDG_CACHE_HOME": "{home}"},
        {"HF_HUB_CACHE": "{home}/c"},
        {"HUGGINGFACE_HUB_CACHE": "{home}/old"},
        {"HF_ENDPOINT": "https://hub.example/"},
        {"HF_HUB_OFFLINE": "yes"},
        {"HF_HUB_OFFLINE": "0"},
        {"TRANSFORMERS_OFFLINE": "1"},
    ],
)
def test_the_environment_means_the_same(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle("huggingface_hub")
    for name, text in (("file", "hf_file"), ("token", "hf_token"), ("huggingface/token", "hf_xdg")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    given = {name: text.format(home=tmp_path) for name, text in environment.items()}
    token, cache, endpoint, offline = json.loads(client(FACTS, given))
    for name in list(os.environ):
        if name.startswith(("HF_", "HUGGING", "XDG_CACHE", "TRANSFORMERS_OFFLINE")):
            monkeypatch.delenv(name)
    for name, text in given.items():
        monkeypatch.setenv(name, text)
    assert hub.token() == token
    assert str(hub._cache()) == cache
    assert hub.endpoint() == endpoint
    assert hub.is_offline() == bool(offline)
