"""Models of the hub, read by range or in its cache. Covers `stores/hub.py`, `stores/stand_ins.py`,
`checkpoints/locate.py`."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.running import run
from tests.making import random, write_directory
from tests.serving import COMMIT, Served, put_model, serving
from wconv.checkpoints.locate import locate
from wconv.errors import FormatError
from wconv.stores import hub, patience, remote, spans

MODEL = "someone/Tiny-Llama"
SECRET = "hf_verysecrettoken"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model directory: shards with an index, a config, a tokenizer."""
    shards = [
        {"model.embed_tokens.weight": random((600, 384)), "model.norm.weight": random((384,), seed=1)},
        {"lm_head.weight": random((600, 384), seed=2)},
    ]
    directory = write_directory(tmp_path / "local" / "Tiny-Llama", shards, {"model_type": "llama"})
    (directory / "tokenizer.json").write_text("{}" + " " * 100_000)
    (directory / "README.md").write_text("A model.")
    return directory


@pytest.fixture
def server(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A hub with the model; this machine has an empty cache and is in an empty directory."""
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN_PATH", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(hub, "_given", [])
    monkeypatch.setattr(patience, "PAUSE", 0.001)
    remote.reset()
    with serving() as served:
        put_model(served, MODEL, contents(model))
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        yield served


def contents(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def cached(tmp_path: Path, model: Path, names: list[str] | None = None) -> Path:
    """Files of the model in the hub's cache."""
    folder = tmp_path / "hf" / "hub" / "models--someone--Tiny-Llama"
    snapshot = folder / "snapshots" / COMMIT
    for number, (name, data) in enumerate(contents(model).items()):
        if names is None or name in names:
            (folder / "blobs").mkdir(parents=True, exist_ok=True)
            (folder / "blobs" / str(number)).write_bytes(data)
            snapshot.mkdir(parents=True, exist_ok=True)
            (snapshot / name).symlink_to(f"../../blobs/{number}")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    return snapshot


def test_a_model_of_the_hub_gives_the_bytes_of_its_directory(server: Served, model: Path) -> None:
    told = run(MODEL, "--dtype", "float16")
    assert told.exit_code == 0, told.output
    assert f"{MODEL}\n" in told.output
    assert "wconv-" not in told.output
    assert run(model, Path("expected"), "--dtype", "float16").exit_code == 0
    assert contents(Path("Tiny-Llama-MLX")) == contents(Path("expected"))


@pytest.mark.parametrize("words", [["-q", "--q-group-size", "32"], ["--max-shard-size", "300KB"]])
def test_whatever_is_done_is_done_alike(server: Served, model: Path, words: list[str]) -> None:
    assert run(f"hf://{MODEL}@{COMMIT}", "there", *words).exit_code == 0
    assert run(model, "expected", *words).exit_code == 0
    assert contents(Path("there")) == contents(Path("expected"))


def test_weights_are_fetched_once(server: Served, model: Path) -> None:
    assert run(MODEL, "there").exit_code == 0
    weights = sum(len(data) for data in contents(model).values())
    assert server.sent < weights + 10_000


def test_inspect_and_dry_run_fetch_headers_alone(server: Served) -> None:
    for words in (["inspect", MODEL, "--revision", COMMIT], [MODEL, "--dry-run"]):
        server.sent = 0
        remote.reset()
        told = run(*words)
        assert told.exit_code == 0, told.output
        assert "lm_head.weight" in told.output
        assert "wconv-" not in told.output
        assert server.sent < 2 * spans.FIRST + 10_000


def test_redirected_weights_are_read_without_the_token(
    server: Served, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    with serving() as store:
        server.files.clear()
        put_model(server, MODEL, contents(model), store=store)
        assert run(MODEL, "there").exit_code == 0
        assert len(store.asked) >= 2
        assert not any("authorization" in headers for _, headers in store.asked)
        assert all(headers["authorization"] == f"Bearer {SECRET}" for _, headers in server.asked)


def test_weights_that_are_not_those_of_the_listing_are_refused(server: Served, model: Path) -> None:
    with serving() as store:
        put_model(server, MODEL, contents(model), store=store)
        name = next(path for path in server.links if path.endswith("-00002-of-00002.safetensors"))
        server.links[name]["X-Linked-Etag"] = '"another"'
        told = run(MODEL, "there")
    assert told.exit_code == 1
    assert "changed since it was opened" in told.stderr
    assert f"{MODEL}/model-00002-of-00002.safetensors" in told.stderr
    assert not Path("there").exists()


def test_tokens_come_from_the_usual_places(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hub.token() == ""
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "token").write_text("hf_of_login\n")
    assert hub.token() == "hf_of_login"
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "nothing"))
    assert hub.token() == ""
    monkeypatch.setenv("HF_TOKEN", SECRET)
    assert hub.token() == SECRET
    assert hub.authorization("https://elsewhere.example/x") == ""
    assert run("inspect", MODEL, "--token", "hf_given").exit_code == 0
    assert server.asked[-1][1]["authorization"] == "Bearer hf_given"


@pytest.mark.parametrize(
    ("status", "code", "known", "said"),
    [
        (401, "RepoNotFound", False, "the hub shows no model of that name; for a private one, set HF_TOKEN"),
        (401, "", False, "shows it to nobody without a login"),
        (401, "", True, "does not take the token"),
        (403, "GatedRepo", True, "is gated: accept its terms at"),
        (403, "GatedRepo", False, "then set HF_TOKEN"),
        (404, "RepoNotFound", True, "the hub shows no model of that name"),
        (404, "RevisionNotFound", False, "has no revision main"),
        (429, "", True, "asked too often"),
        (500, "", True, "answers 500"),
    ],
)
def test_refusals_are_one_line_without_the_token(
    server: Served, monkeypatch: pytest.MonkeyPatch, status: int, code: str, known: bool, said: str
) -> None:
    if known:
        monkeypatch.setenv("HF_TOKEN", SECRET)
    server.refused = lambda path, headers: (status, {"X-Error-Code": code})
    told = run(MODEL)
    assert told.exit_code == 1
    assert said in told.stderr
    assert MODEL in told.stderr
    assert told.stderr.count("\n") == 1
    assert SECRET not in told.output + told.stderr


def test_a_gated_file_is_told_of(server: Served) -> None:
    refusal = (403, {"X-Error-Code": "GatedRepo"})
    server.refused = lambda path, headers: refusal if "/resolve/" in path else None
    assert f"{MODEL} is gated: accept its terms at {server.url}/{MODEL}" in run(MODEL).stderr


@pytest.mark.parametrize("token", ["hf_a b", "hf_é", "hf_a\nHost: b"])
def test_what_is_no_token_is_not_sent_and_not_shown(
    server: Served, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    told = run(MODEL).stderr
    assert "HF_TOKEN holds no token" in told
    assert "hf_" not in told


def test_a_directory_of_that_name_wins(server: Served, model: Path) -> None:
    here = write_directory(Path(MODEL), [{"a": random((3, 4))}])
    assert locate(MODEL) == Path(MODEL)
    assert run(MODEL, "there").exit_code == 0
    assert here.exists()
    assert not server.asked
    assert "--revision is for models of the hub" in run(MODEL, "o", "--revision", "main").stderr


def test_paths_that_are_missing_are_never_looked_for_on_the_hub(server: Served) -> None:
    Path("someone").mkdir()
    for path in (MODEL, "else/model.safetensors", "model", "./a/b", "a/b/c"):
        assert f"{Path(path)} does not exist" in run(path).stderr
    assert not server.asked


def test_a_snapshot_that_is_whole_is_used_as_it_is(server: Served, tmp_path: Path, model: Path) -> None:
    snapshot = cached(tmp_path, model)
    assert locate(MODEL) == snapshot
    assert run(MODEL).exit_code == 0
    assert Path("Tiny-Llama-MLX").is_dir()
    assert all("/resolve/" not in path for path, _ in server.asked)


def test_of_a_snapshot_in_part_only_the_rest_is_fetched(server: Served, tmp_path: Path, model: Path) -> None:
    cached(tmp_path, model, ["config.json", "model-00001-of-00002.safetensors"])
    assert run(MODEL, "there").exit_code == 0
    assert run(model, "expected").exit_code == 0
    assert contents(Path("there")) == contents(Path("expected"))
    assert not any("00001-of" in path or "config.json" in path for path, _ in server.asked)


def test_a_link_out_of_the_cache_is_not_followed(server: Served, tmp_path: Path, model: Path) -> None:
    snapshot = cached(tmp_path, model)
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to(model / "config.json")
    assert locate(MODEL) != snapshot


def test_offline_the_cache_is_all_there_is(
    server: Served, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "not asked because HF_HUB_OFFLINE is set" in run(MODEL).stderr
    snapshot = cached(tmp_path, model)
    assert locate(MODEL) == locate(MODEL, revision=COMMIT) == snapshot
    with pytest.raises(FormatError, match="does not exist here"):
        locate(MODEL, revision="other")
    assert not server.asked


def test_a_hub_that_cannot_be_reached_leaves_the_cache(
    server: Served, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as gone:
        monkeypatch.setenv("HF_ENDPOINT", gone.url)
    assert "does not exist here, and the hub cannot be asked for it: Connection refused" in run(MODEL).stderr
    snapshot = cached(tmp_path, model)
    assert locate(MODEL) == snapshot


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "a\\b", "a//b"])
def test_a_listing_does_not_lead_out_of_its_directory(server: Served, name: str) -> None:
    put_model(server, MODEL, {name: b"evil", "config.json": b"{}"})
    told = run(MODEL)
    assert told.exit_code == 1
    assert "which is not in its directory: refused" in told.stderr


@pytest.mark.parametrize(
    "listing", [b"<html>", b"[]", b"{}", b'{"sha": "main", "siblings": []}', b'{"sha": 1}']
)
def test_a_listing_that_is_none_is_one_line(server: Served, listing: bytes) -> None:
    server.files[f"/api/models/{MODEL}/revision/main"] = listing
    told = run(MODEL)
    assert told.exit_code == 1
    assert "is HF_ENDPOINT right?" in told.stderr or "listing" in told.stderr


def test_a_listing_without_end_is_refused(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "FILES", 3)
    assert "has more than 3 files" in run(MODEL).stderr
    monkeypatch.setattr(hub, "LISTING", 100)
    assert "its listing is more than 100 bytes" in run(MODEL).stderr


def test_pages_of_the_hub_are_models(server: Served, model: Path) -> None:
    assert locate(f"{server.url}/{MODEL}").name == "Tiny-Llama"
    page = f"{server.url}/{MODEL}/blob/{COMMIT}/model-00002-of-00002.safetensors"
    told = run("inspect", page)
    assert told.exit_code == 0, told.stderr
    assert "lm_head.weight" in told.output


def test_a_folder_or_a_file_of_a_model(server: Served, model: Path) -> None:
    files = {f"inner/{name}": data for name, data in contents(model).items()}
    put_model(server, MODEL, files)
    assert run(f"hf://{MODEL}/inner").exit_code == 0
    assert Path("inner-MLX").is_dir()
    one = f"hf://{MODEL}/inner/model-00002-of-00002.safetensors"
    assert run(one, "--dtype", "float16").exit_code == 0
    assert Path("model-00002-of-00002-MLX.safetensors").is_file()
    assert "there is no other in that model" in run(f"hf://{MODEL}/other").stderr
    assert "names no model of the hub" in run("hf://one").stderr


def test_an_address_is_converted_into_the_working_directory(server: Served, model: Path) -> None:
    server.files["/x.safetensors"] = (model / "model-00002-of-00002.safetensors").read_bytes()
    told = run(f"{server.url}/x.safetensors?signature=secret", "--dtype", "float16")
    assert told.exit_code == 0, told.stderr
    assert f"{server.url}/x.safetensors\n" in told.output
    assert "secret" not in told.output
    assert Path("x-MLX.safetensors").is_file()


@pytest.mark.parametrize(
    "words",
    [
        ["-c", f"import os, wconv; print(wconv.open({MODEL!r})); print(os.listdir(os.environ['TMPDIR']))"],
        ["-m", "wconv", "inspect", MODEL],
    ],
)
def test_stand_ins_are_gone_when_the_program_ends(server: Served, tmp_path: Path, words: list[str]) -> None:
    found = subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        check=True,
        env={
            "TMPDIR": str(tmp_path / "work"),
            "HF_ENDPOINT": server.url,
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
    )
    assert "Tiny-Llama" in found.stdout
    assert ("wconv-" in found.stdout) == (words[0] == "-c")
    assert not list((tmp_path / "work").iterdir())


def test_a_head_that_is_the_embedding_is_still_found(server: Served, model: Path) -> None:
    """The comparison begins with a few values and goes on to the last."""
    table = random((600, 384))
    for last in (table[-1], -table[-1]):
        head = table.copy()
        head[-1] = last
        tensors = {"model.embed_tokens.weight": table, "lm_head.weight": head, "model.norm.weight": table[0]}
        directory = write_directory(
            Path("tied" if (head == table).all() else "untied"),
            [tensors],
            {"model_type": "llama", "tie_word_embeddings": True},
        )
        put_model(server, MODEL, contents(directory))
        told = run(MODEL, "--dry-run", "--json")
        assert told.exit_code == 0, told.stderr
        names = [one["name"] for shard in json.loads(told.output)["plan"] for one in shard["tensors"]]
        assert ("lm_head.weight" in names) == (directory.name == "untied")


def test_receipts_and_proofs_are_of_what_is_there(server: Served, model: Path) -> None:
    assert run(MODEL, "there", "--receipt", "receipt.json").exit_code == 0
    said = json.loads(Path("receipt.json").read_text())["files"]
    weights = sorted(model.glob("*.safetensors"))
    assert [(one["name"], one["bytes"]) for one in said] == [
        (path.name, path.stat().st_size) for path in weights
    ]
    assert [one["etag"] for one in said] == [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in weights
    ]
    proved = run("verify", "there", "--against", MODEL)
    assert proved.exit_code == 0, proved.output


def test_json_tells_what_the_source_is(server: Served) -> None:
    told = run(MODEL, "there", "--json")
    assert json.loads(told.output)["source"] == MODEL
