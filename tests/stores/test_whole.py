"""The hub's digests are compared, and `--keep-source` leaves a cache that the hub's own programs know.

Covers `stores/digests.py`, `stores/held.py`, `stores/expected.py`, `stores/spans.py`, `stores/ranges.py`,
`writing/reads.py`, `stores/http_file.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.running import run
from tests.making import random, write_directory
from tests.serving import COMMIT, Served, put_model, serving
from wconv.stores import hub, patience, remote

MODEL = "someone/Tiny"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    shards = [{"a.weight": random((300, 400))}, {"b.weight": random((200, 400))}]
    directory = write_directory(tmp_path / "m", shards, {"model_type": "of-my-own"})
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture
def server(tmp_path: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN_PATH", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hub, "_given", [])
    monkeypatch.setattr(patience, "PAUSE", 0.001)
    monkeypatch.chdir(tmp_path)
    remote.reset()
    with serving() as served:
        put_model(served, MODEL, files)
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        yield served
    remote.reset()


def test_digests_of_what_came_whole_are_proved(server: Served, tmp_path: Path) -> None:
    result = run(MODEL, "-o", tmp_path / "o", "--dtype", "float16")
    assert result.exit_code == 0, result.stderr
    assert "4 of 4 files proved by the hub's digests" in result.stdout


def test_a_file_that_is_not_what_the_hub_says_is_refused(server: Served, tmp_path: Path) -> None:
    path = next(path for path in server.files if path.endswith("2-of-00002.safetensors"))
    data = bytearray(server.files[path])
    data[-5] ^= 1
    server.files[path] = bytes(data)
    result = run(MODEL, "-o", tmp_path / "o", "--dtype", "float16")
    assert result.exit_code == 1
    assert "is not what the hub says: it has another SHA-256" in result.stderr
    assert not (tmp_path / "o").exists()


def test_what_is_kept_is_a_snapshot_that_needs_no_network(
    server: Served, files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(MODEL, "-o", tmp_path / "o", "--include", "a.weight", "--keep-source")
    assert result.exit_code == 0, result.stderr
    assert "kept in the hub's cache" in result.stdout
    folder = tmp_path / "hf/hub/models--someone--Tiny"
    assert (folder / "refs/main").read_text() == COMMIT
    for name, data in files.items():
        place = folder / "snapshots" / COMMIT / name
        if place.exists():
            assert place.is_symlink()
            assert place.read_bytes() == data, name
    assert (folder / "snapshots" / COMMIT / "config.json").exists()
    assert not list(folder.rglob("*wconv-*"))


def test_kept_whole_it_is_opened_offline(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(MODEL, "-o", tmp_path / "o", "--keep-source").exit_code == 0
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    remote.reset()
    result = run(MODEL, "-o", tmp_path / "again")
    assert result.exit_code == 0, result.stderr
    for path in (tmp_path / "o").iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_a_file_that_is_kept_and_wrong_leaves_nothing_in_the_cache(server: Served, tmp_path: Path) -> None:
    path = next(path for path in server.files if path.endswith("1-of-00002.safetensors"))
    server.files[path] = server.files[path][:-1] + bytes([server.files[path][-1] ^ 1])
    result = run(MODEL, "-o", tmp_path / "o", "--keep-source")
    assert result.exit_code == 1
    wrong = tmp_path / "hf/hub/models--someone--Tiny/snapshots" / COMMIT / "model-00001-of-00002.safetensors"
    assert not wrong.exists()
