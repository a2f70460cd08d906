"""`wconv.open` finds the weights of a file or directory, and names what is damaged or missing.

Covers `checkpoints/hints.py`, `checkpoints/variants.py`, `checkpoints/weights_files.py`,
`checkpoints/index.py`, `checkpoints/open.py`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from tests.making import bits, random, write_directory, write_file
from wconv.errors import FormatError, WconvError

A, B, C = random((4, 3), seed=1), random((5,), np.float32, seed=2), np.arange(6)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_directory(tmp_path / "model", [{"a": A}, {"b": B, "c": C}])


def index_of(model: Path) -> Any:
    return json.loads((model / "model.safetensors.index.json").read_text())


def set_index(model: Path, weight_map: Any) -> None:
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def refused(path: Path, *words: str) -> str:
    with pytest.raises(WconvError) as caught:
        wconv.open(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    return message


def test_a_mapping_of_lazy_tensors(model: Path) -> None:
    opened = wconv.open(model)
    assert list(opened) == ["a", "c", "b"] or list(opened) == ["a", "b", "c"]
    assert len(opened) == 3
    assert "a" in opened
    assert opened["a"].shape == (4, 3)
    assert bits(opened["b"].numpy()) == bits(B)
    assert opened.config == {"model_type": "nobody_knows"}
    assert opened.nbytes == A.nbytes + B.nbytes + C.nbytes


def test_without_index_shards_are_found_by_their_numbers(model: Path) -> None:
    (model / "model.safetensors.index.json").unlink()
    assert set(wconv.open(model)) == {"a", "b", "c"}
    (model / "model-00002-of-00002.safetensors").unlink()
    refused(model, "model-00002-of-00002.safetensors is missing")


def test_one_file_in_a_directory_or_by_itself(tmp_path: Path) -> None:
    directory = write_directory(tmp_path / "model", [{"a": A}])
    assert list(wconv.open(directory)) == ["a"]
    opened = wconv.open(directory / "model.safetensors")
    assert list(opened) == ["a"]
    assert opened.config is None


def test_a_hub_cache_of_links_is_fine(model: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a--b" / "snapshots" / "123"
    blobs = tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(model.iterdir()):
        path.rename(blobs / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    assert set(wconv.open(snapshot)) == {"a", "b", "c"}


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", "a\0b", 7, None]
)
def test_index_names_that_leave_the_directory_are_refused(name: Any, model: Path) -> None:
    set_index(model, {"a": name})
    refused(model, "no plain file name")


@pytest.mark.parametrize("kind", ["pipe", "device", "directory"])
def test_shards_that_are_no_files_are_refused_at_once(kind: str, model: Path) -> None:
    shard = model / "model-00001-of-00002.safetensors"
    shard.unlink()
    if kind == "pipe":
        os.mkfifo(shard)
    elif kind == "device":
        shard.symlink_to("/dev/zero")
    else:
        shard.mkdir()
    refused(model, "model-00001-of-00002.safetensors", "not a regular file")


def test_index_and_shards_must_agree(model: Path) -> None:
    whole = index_of(model)["weight_map"]
    shards = sorted(set(whole.values()))
    set_index(model, {**whole, "d": shards[0]})
    refused(model, "d is missing", shards[0])
    set_index(model, {name: shard for name, shard in whole.items() if name != "c"})
    refused(model, "holds c", "does not list")
    set_index(model, {**whole, "c": shards[0]})
    refused(model, "holds c", f"places in {shards[0]}")
    set_index(model, {**whole, "a": "model-00007-of-00007.safetensors"})
    refused(model, "model-00007-of-00007.safetensors is missing")
    set_index(model, {})
    refused(model, "no weight_map")


def test_a_tensor_in_two_shards_is_named(model: Path) -> None:
    (model / "model.safetensors.index.json").unlink()
    write_file(model / "model-00002-of-00002.safetensors", {"a": A})
    refused(model, "a stands in both")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
            ["Git LFS pointer", "git lfs pull"],
        ),
        (b"<!DOCTYPE html>\n<html><head><title>Login</title>", ["HTML"]),
        (b'{"error": "Repository not found"}', ["JSON"]),
        (b"", ["empty"]),
    ],
)
def test_what_downloads_leave_instead_of_weights_is_named(
    content: bytes, words: list[str], model: Path
) -> None:
    (model / "model-00001-of-00002.safetensors").write_bytes(content)
    refused(model, "model-00001-of-00002.safetensors", *words)


def test_a_truncated_shard_is_named(model: Path) -> None:
    shard = model / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    refused(model, "model-00002-of-00002.safetensors", "truncated")


def test_other_weights_in_the_directory_are_told(model: Path) -> None:
    write_file(model / "consolidated.safetensors", {"x": A})
    (model / "pytorch_model.bin").write_bytes(b"PK")
    (model / "training_args.bin").write_bytes(b"PK")
    assert set(wconv.open(model).left_out) == {"consolidated.safetensors", "pytorch_model.bin"}


def test_several_weights_without_a_usual_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    write_file(tmp_path / "m" / "x.safetensors", {"a": A})
    write_file(tmp_path / "m" / "y.safetensors", {"a": A})
    refused(tmp_path / "m", "x.safetensors, y.safetensors", "name the one")


def test_nothing_there(tmp_path: Path) -> None:
    refused(tmp_path, "no weights")
    refused(tmp_path / "absent", "does not exist")
    refused(tmp_path / "absent" / "deeper", "does not exist", "no directory")


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_config_is_named(content: bytes, model: Path) -> None:
    (model / "config.json").write_bytes(content)
    refused(model, "config.json", "JSON")


def test_a_config_that_is_a_pointer_is_named(model: Path) -> None:
    (model / "config.json").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(FormatError, match="Git LFS"):
        wconv.open(model)
