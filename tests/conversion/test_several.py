"""Several outputs of one source: equal bytes, and each byte of the source is read once.

Covers `conversion/opened_once.py`, `writing/in_step.py`, `stores/shared.py`.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from tests.making import random, write_directory
from tests.serving import Served, put_model, ranges, serving
from wconv.errors import FormatError, OutputError
from wconv.stores import files, patience, remote, shared
from wconv.wording import plural

LLAMA = {
    "model_type": "llama",
    "hidden_size": 256,
    "num_hidden_layers": 3,
    "intermediate_size": 512,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 1024,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}

PLANS = {
    "half": wconv.ConvertOptions(dtype="float16"),
    "q4": wconv.ConvertOptions(quantize=wconv.Quantize()),
    "q8": wconv.ConvertOptions(quantize=wconv.Quantize(bits=8), max_shard_size="1MB"),
    "torch": wconv.ConvertOptions(format="pt"),
}


def layer(number: int) -> dict[str, Any]:
    names = {
        **{f"self_attn.{one}_proj.weight": (256, 256) for one in "qkvo"},
        **{f"mlp.{one}_proj.weight": (512, 256) for one in ("gate", "up")},
        "mlp.down_proj.weight": (256, 512),
        "input_layernorm.weight": (256,),
        "post_attention_layernorm.weight": (256,),
    }
    return {f"model.layers.{number}.{name}": random(shape, seed=number) for name, shape in names.items()}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    first = {"model.embed_tokens.weight": random((1024, 256)), **layer(0)}
    last = {**layer(2), "model.norm.weight": random((256,)), "lm_head.weight": random((1024, 256), seed=9)}
    return write_directory(tmp_path_factory.mktemp("source") / "m", [first, layer(1), last], LLAMA)


def assert_as_alone(model: Path, tmp_path: Path, plans: dict[str, wconv.ConvertOptions]) -> None:
    for name, options in plans.items():
        wconv.run(wconv.conversion.prepare.plan(model, tmp_path / f"alone-{name}", options))
        alone, there = tmp_path / f"alone-{name}", tmp_path / name
        files_ = sorted(os.listdir(alone))
        assert files_ == sorted(os.listdir(there))
        for file in files_:
            assert (alone / file).read_bytes() == (there / file).read_bytes(), (name, file)


@pytest.mark.parametrize("jobs", [4])
def test_each_byte_is_read_once(
    jobs: int, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "KEPT", 4 << 20)
    read: Counter[str] = Counter()
    lock, read_into = threading.Lock(), files.SourceFile.read_into

    def counted(self: files.SourceFile, offset: int, buffer: memoryview) -> None:
        if self.path.endswith(".safetensors") and offset + len(buffer) > 1 << 16:  # no header
            with lock:
                read[self.path] += len(buffer)
        read_into(self, offset, buffer)

    monkeypatch.setattr(files.SourceFile, "read_into", counted)
    reports = wconv.convert_several(
        model, {tmp_path / name: options for name, options in PLANS.items()}, jobs=jobs
    )
    monkeypatch.undo()
    assert read == {str(path): path.stat().st_size for path in model.glob("*.safetensors")}
    assert [report.output.name for report in reports.values()] == list(PLANS)
    assert_as_alone(model, tmp_path, PLANS)
    assert not list(tmp_path.glob("*.partial"))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN_PATH", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(patience, "PAUSE", 0.001)
    monkeypatch.setattr(remote, "_cache", type(remote._cache)())
    with serving() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        yield served


def test_a_server_sends_each_byte_once(server: Served, model: Path, tmp_path: Path) -> None:
    put_model(server, "someone/Tiny", {path.name: path.read_bytes() for path in model.iterdir()})
    wconv.convert_several("someone/Tiny", {tmp_path / name: options for name, options in PLANS.items()})
    sent: Counter[str] = Counter()
    for (path, headers), (first, stop) in zip(
        [one for one in server.asked if "range" in one[1]], ranges(server), strict=True
    ):
        assert headers
        if path.endswith(".safetensors"):
            sent[path.rpartition("/")[2]] += stop - first
    sizes = {path.name: path.stat().st_size for path in model.glob("*.safetensors")}
    assert sent.keys() == sizes.keys()
    # a header is asked for once more than its tensors
    assert all(sizes[name] <= count <= sizes[name] + remote.FIRST for name, count in sent.items()), (
        sent,
        sizes,
    )
    assert_as_alone(model, tmp_path, PLANS)


def test_an_output_that_fails_ends_alone(model: Path, tmp_path: Path) -> None:
    source = write_directory(tmp_path / "large", [{"a": np.full((64, 64), 1e9, np.float32)}])
    whole, half = wconv.ConvertOptions(), wconv.ConvertOptions(dtype="float16")
    with pytest.raises(OutputError, match=r"overflow.* \(1 other output written; not .*/half\)"):
        wconv.convert_several(source, {tmp_path / "half": half, tmp_path / "whole": whole}, strict=True)
    assert wconv.load(tmp_path / "whole")["a"][0, 0] == np.float32(1e9)
    assert not (tmp_path / "half").exists()
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("first", ["half", "whole"])
def test_what_cannot_be_begun_begins_none(first: str, model: Path, tmp_path: Path) -> None:
    (tmp_path / "whole.safetensors").write_bytes(b"")
    plans = {tmp_path / "whole.safetensors": wconv.ConvertOptions(), tmp_path / "half": PLANS["half"]}
    with pytest.raises(OutputError, match=r"whole.safetensors exists already: [^(]*$"):
        wconv.convert_several(model, dict(sorted(plans.items(), reverse=first == "whole")))
    assert os.listdir(tmp_path) == ["whole.safetensors"]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="says which file is written")
def test_a_disk_that_is_full_for_one_is_not_for_the_other(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.pwrite

    def full(fd: int, data: Any, offset: int) -> int:
        if "/bad.partial/" in os.readlink(f"/proc/self/fd/{fd}") and offset > 0:
            raise OSError(28, "No space left on device")
        return write(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    plans = {tmp_path / "bad": PLANS["half"], tmp_path / "good": PLANS["q4"]}
    with pytest.raises(OutputError, match="No space left"):
        wconv.convert_several(model, plans)
    monkeypatch.undo()
    assert (tmp_path / "good").exists()
    assert not (tmp_path / "bad").exists()


def test_a_source_that_fails_ends_all_and_what_is_kept_is_resumed(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_into, count = files.SourceFile.read_into, 0

    def failing(self: files.SourceFile, offset: int, buffer: memoryview) -> None:
        nonlocal count
        count += len(buffer)
        if count > 3_000_000:
            try:
                raise OSError(5, "Input/output error")
            except OSError:
                raise FormatError(f"{self.path} cannot be read: Input/output error") from None
        read_into(self, offset, buffer)

    plans = {tmp_path / name: PLANS[name] for name in ("half", "q4")}
    monkeypatch.setattr(files.SourceFile, "read_into", failing)
    with pytest.raises(FormatError, match="Input/output error"):
        wconv.convert_several(model, plans, jobs=1)
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["half.partial", "q4.partial"]
    reports = wconv.convert_several(model, plans, resume=True)
    assert any(report.resumed for report in reports.values())
    assert_as_alone(model, tmp_path, {name: PLANS[name] for name in ("half", "q4")})


def test_two_outputs_in_one_place_are_refused(model: Path, tmp_path: Path) -> None:
    plans = {tmp_path / "a": PLANS["half"], f"{tmp_path}/x/../a": PLANS["q4"], tmp_path / "a/b": PLANS["q8"]}
    with pytest.raises(OutputError, match="two outputs in one place"):
        wconv.convert_several(model, plans)
    assert os.listdir(tmp_path) == []
    assert plural(2, "output") == "2 outputs"
