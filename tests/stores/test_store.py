"""A store of somebody's own. Covers `stores/store_file.py`, `stores/uploads.py`, `conversion/uploads.py`,
`cli/uploading.py`, `stores/fsspec_store.py`, `stores/patience.py`,
`testing/stores.py`, `stores/schemes.py`."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import wconv
from tests.cli.running import run
from tests.making import random, write_directory
from wconv import testing
from wconv.errors import FormatError
from wconv.stores import patience, remote, schemes
from wconv.stores.store import ChangedError, StoreFile


class Box:
    """Files in memory, by address."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.reads: list[tuple[str, int, int]] = []
        self.version = "1"
        self.failures = 0

    def find(self, url: str) -> dict[str, StoreFile]:
        if url in self.files:
            return {"": StoreFile(len(self.files[url]), self.version)}
        base = url.rstrip("/") + "/"
        found = {name[len(base) :]: data for name, data in self.files.items() if name.startswith(base)}
        if not found:
            raise FileNotFoundError
        return {name: StoreFile(len(data), self.version) for name, data in found.items()}

    def read(self, url: str, start: int, stop: int, identity: str) -> bytes:
        if self.failures:
            self.failures -= 1
            raise OSError("busy")
        if identity != self.version:
            raise ChangedError("changed")
        self.reads.append((url, start, stop))
        return self.files[url][start:stop]


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    monkeypatch.setattr(patience, "PAUSE", 0.001)
    monkeypatch.setattr(schemes, "_registered", {})
    remote.reset()
    made = Box()
    schemes.register("mine", made)
    yield made
    remote.reset()


@pytest.fixture
def model(tmp_path: Path, box: Box) -> Path:
    shards = [{"a.weight": random((300, 400))}, {"b.weight": random((200, 400))}]
    directory = write_directory(tmp_path / "Tiny", shards, {"model_type": "of-my-own"})
    for path in directory.iterdir():
        box.files[f"mine://box/Tiny/{path.name}"] = path.read_bytes()
    return directory


def test_a_directory_of_a_store_is_converted_as_a_local_one(box: Box, model: Path, tmp_path: Path) -> None:
    local = wconv.convert(model, tmp_path / "local", dtype="float16").output
    there = wconv.convert("mine://box/Tiny", tmp_path / "there", dtype="float16").output
    assert {path.name for path in there.iterdir()} == {path.name for path in local.iterdir()}
    assert all((there / path.name).read_bytes() == path.read_bytes() for path in local.iterdir())


def test_no_byte_of_the_weights_is_asked_for_twice(box: Box, model: Path, tmp_path: Path) -> None:
    wconv.convert("mine://box/Tiny", tmp_path / "there", dtype="float16")
    for path in model.glob("*.safetensors"):
        read = sorted((start, stop) for url, start, stop in box.reads if url.endswith(path.name))
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(read))
        assert read[-1][1] == path.stat().st_size


def test_a_directory_elsewhere_is_compared_with_a_local_one(box: Box, model: Path) -> None:
    (model / "tokenizer.json").write_text("{}")
    box.files["mine://box/Tiny/tokenizer.json"] = b"{}"
    assert run("diff", "mine://box/Tiny", model).exit_code == 0
    box.files["mine://box/Tiny/tokenizer.json"] = b"{ }"
    remote.reset()
    told = run("diff", "mine://box/Tiny", model)
    assert "tokenizer.json" in told.stdout


def test_one_file_is_opened_by_its_address(box: Box) -> None:
    data = np.arange(12, dtype=np.float32).reshape(3, 4)
    box.files["mine://box/x.npy"] = b"\x93NUMPY\x01\x00v\x00" + (
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }".ljust(117) + b"\n" + data.tobytes()
    )
    (found,) = wconv.load("mine://box/x.npy").values()
    assert np.array_equal(found, data)


def test_a_store_that_fails_is_asked_again_and_one_that_changed_is_refused(box: Box, model: Path) -> None:
    box.failures = 2
    assert set(wconv.open("mine://box/Tiny")) == {"a.weight", "b.weight"}
    opened = wconv.open("mine://box/Tiny")
    remote.reset()
    box.version = "2"
    with pytest.raises(FormatError, match="changed since it was opened"):
        opened["a.weight"].numpy()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("mine://box/nothing",), "there is nothing at that address"),
        (("nobody://box/x",), "nobody:// "),
        (("mine://box/Tiny", "--revision", "main"), "--revision is for models of the hub"),
        (("mine://box/Tiny", "--keep-source"), "--keep-source is for models of the hub"),
        (("mine://box/Tiny", "-o", "mine://box/out"), "that store can only be read"),
        (("mine://box/Tiny", "-o", "mine://x/y", "--upload-repo", "me/x"), "does not go with an output"),
        (("mine://box/Tiny", "--upload-repo", "x"), "is not org/name"),
    ],
)
def test_what_cannot_be_is_one_line(
    box: Box, model: Path, words: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    result = run(*words)
    assert result.exit_code in (1, 2)
    assert said in result.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_bandwidth_is_what_comes_in_a_second_at_most(box: Box, model: Path, tmp_path: Path) -> None:
    size = sum(path.stat().st_size for path in model.glob("*.safetensors"))
    began = time.monotonic()
    try:
        result = run("mine://box/Tiny", "-o", tmp_path / "o", "--bandwidth", f"{size * 2}")
    finally:
        patience.limit(0)
    assert result.exit_code == 0, result.stderr
    assert time.monotonic() - began > 0.35


def test_the_kit_checks_a_store(box: Box) -> None:
    box.files["mine://box/x"] = b"some bytes"
    testing.check_store(box, "mine://box/x", b"some bytes")
    with pytest.raises(AssertionError, match="read from 0 to 1"):
        testing.check_store(box, "mine://box/x", b"Some bytes")
    with pytest.raises(AssertionError, match="has the methods"):
        testing.check_store(object(), "mine://box/x", b"some bytes")  # type: ignore[arg-type]


@pytest.mark.parametrize("scheme", ["https", "hf", "file", "no scheme"])
def test_schemes_that_are_taken_cannot_be_registered(box: Box, scheme: str) -> None:
    with pytest.raises(ValueError, match="is not a scheme that a store can have"):
        schemes.register(scheme, box)
