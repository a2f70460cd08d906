"""Conversions of models on servers: stopped and resumed, in other processes, with every layout's reads."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import wconv
from tests.conversion.test_interrupted import SLOW, until_logged
from tests.making import random, write_directory, write_file
from tests.serving import Served, put_model, serving
from wconv.stores import patience, remote, spans

MODEL = "someone/Tiny"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN_PATH", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(patience, "PAUSE", 0.001)
    remote.reset()
    with serving() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        yield served


def put(server: Served, directory: Path) -> Path:
    put_model(server, MODEL, {path.name: path.read_bytes() for path in directory.iterdir()})
    return directory


def test_killed_it_goes_on_and_fetches_only_what_is_missing(server: Served, tmp_path: Path) -> None:
    tensors = {f"layers.{at}.weight": random((1024, 2048), np.float32, seed=at) for at in range(6)}
    source = put(server, write_directory(tmp_path / "m", [tensors]))
    wconv.convert(source, tmp_path / "whole", dtype="float16")
    out, size = tmp_path / "out", (source / "model.safetensors").stat().st_size
    words = [MODEL, "-o", str(out), "--dtype", "float16", "-j", "2"]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW.format(pause=0.03), *words], stderr=subprocess.PIPE, text=True
    )
    partial = out.with_name("out.partial")
    until_logged(process, partial)
    while process.poll() is None and server.sent < size // 2:
        time.sleep(0.005)
    time.sleep(0.2)
    process.kill()
    process.communicate()
    server.sent = 0
    report = wconv.convert(MODEL, out, dtype="float16", resume=True)
    assert report.output == out
    assert server.sent < size * 0.9
    for name in ("model.safetensors", "config.json"):
        if (tmp_path / "whole" / name).exists():
            assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_another_file_at_the_address_is_not_resumed(server: Served, tmp_path: Path) -> None:
    path = write_file(tmp_path / "x.safetensors", {"a": random((1024, 2048), np.float32)})
    server.files["/x.safetensors"] = path.read_bytes()
    prepared = wconv.prepare(f"{server.url}/x.safetensors?signature=1", tmp_path / "o.safetensors")
    from wconv.conversion.fingerprint import fingerprint

    def digest(signature: int) -> str:
        made = wconv.prepare(f"{server.url}/x.safetensors?signature={signature}", tmp_path / "o.safetensors")
        return fingerprint(made.plan, made.checkpoint.files, dict(made.parameters))

    first = fingerprint(prepared.plan, prepared.checkpoint.files, dict(prepared.parameters))
    assert digest(2) == first  # a new signature is no other file
    server.files["/x.safetensors"] = path.read_bytes()[:-1] + b"\x77"
    remote.reset()
    assert digest(3) != first


def test_a_cut_connection_leaves_what_resume_goes_on_from(server: Served, tmp_path: Path) -> None:
    tensors = {f"layers.{at}.weight": random((1024, 2048), np.float32, seed=at) for at in range(6)}
    source = put(server, write_directory(tmp_path / "m", [tensors]))
    wconv.convert(source, tmp_path / "whole", dtype="float16")
    server.refused = lambda path, headers: (503, {}) if server.sent > 30_000_000 else None
    with pytest.raises(wconv.FormatError, match="answers 503"):
        wconv.convert(MODEL, tmp_path / "out", dtype="float16", jobs=1)
    assert (tmp_path / "out.partial").exists()
    server.refused = lambda path, headers: None
    wconv.convert(MODEL, tmp_path / "out", dtype="float16", resume=True)
    assert (tmp_path / "out/model.safetensors").read_bytes() == (
        tmp_path / "whole/model.safetensors"
    ).read_bytes()


def test_other_processes_read_from_the_server_too(server: Served, tmp_path: Path) -> None:
    shards = [{f"layers.{at}.weight": random((300, 500), seed=at)} for at in range(3)]
    source = put(server, write_directory(tmp_path / "m", shards))
    wconv.convert(source, tmp_path / "whole", max_shard_size="310KB")
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        wconv.convert(MODEL, tmp_path / "out", max_shard_size="310KB", executor=pool)
    written = sorted(os.listdir(tmp_path / "whole"))
    assert written == sorted(os.listdir(tmp_path / "out"))
    for name in written:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_pickles_and_transposes_are_read_alike(server: Served, tmp_path: Path) -> None:
    source = tmp_path / "a.safetensors"
    write_file(source, {"w": random((1500, 900), np.float32), "v": random((40, 30, 3, 3))})
    wconv.convert(source, tmp_path / "a.pt", layout="hf")
    server.files["/a.pt"] = (tmp_path / "a.pt").read_bytes()
    url = f"{server.url}/a.pt"
    there, here = wconv.load(url), wconv.load(tmp_path / "a.pt")
    assert list(there) == list(here)
    assert all(np.array_equal(there[name], here[name]) for name in here)
    opened = wconv.open(url)
    server.sent = 0
    remote.reset()
    assert np.array_equal(opened["w"].transpose((1, 0)).numpy(), here["w"].T)
    assert server.sent <= here["w"].nbytes + 2 * spans.FIRST


def test_a_pipeline_of_several_components(server: Served, tmp_path: Path) -> None:
    source = tmp_path / "pipe"
    for name in ("transformer", "vae"):
        write_directory(source / name, [{"x.weight": random((64, 64))}], {"_class_name": "Some"})
    (source / "model_index.json").write_text(
        json.dumps({"_class_name": "P", "transformer": ["d", "T"], "vae": ["d", "V"]})
    )
    put_model(
        server,
        MODEL,
        {
            path.relative_to(source).as_posix(): path.read_bytes()
            for path in source.rglob("*")
            if path.is_file()
        },
    )
    wconv.convert(source, tmp_path / "whole", layout="hf", dtype="float16")
    wconv.convert(MODEL, tmp_path / "out", layout="hf", dtype="float16")
    for path in (tmp_path / "whole").rglob("*"):
        if path.is_file():
            assert (tmp_path / "out" / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes()
