"""What will be read, in order. Covers `stores/expected.py`, `stores/spans.py`, `stores/held.py`,
`stores/digests.py`, `writing/reads.py`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import wconv
from tests.making import random, write_directory, write_file
from tests.serving import Served, put_model, serving
from wconv.stores import patience, remote, spans
from wconv.stores.expected import GAP, Expected, Read
from wconv.stores.stand_ins import Remote

ONE, TWO = (Remote(f"http://host/{name}", "", 1 << 30, name) for name in ("one", "two"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(patience, "PAUSE", 0.001)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    remote.reset()
    with serving() as served:
        yield served


def extents(expected: Expected) -> list[tuple[str, int, int]]:
    return [(one.remote.name, one.start, one.stop) for one in expected._order]


def test_neighbours_are_one_extent_and_what_lies_between_them_is_fetched_too() -> None:
    reads = [(100, 200), (200, 300), (310, 400), (400 + GAP + 1, 400 + GAP + 9), (350, 360)]
    expected = Expected([*(Read(ONE, *one) for one in reads), Read(TWO, 0, 5), Read(ONE, 50, 60)])
    assert extents(expected) == [
        ("one", 100, 400),
        ("one", 400 + GAP + 1, 400 + GAP + 9),
        ("two", 0, 5),
        ("one", 50, 60),
    ]
    assert list(expected.again[ONE]) == [(350, 360)]
    assert expected.needed[ONE].overlap(0, 1000) == 200 + 90 + 10
    assert expected.find(ONE, 400) is None
    assert not expected.again[TWO].nbytes


def test_what_came_with_its_neighbours_and_is_read_later_is_held() -> None:
    expected = Expected([Read(ONE, 0, 10), Read(ONE, 20, 30), Read(TWO, 0, 5), Read(ONE, 10, 20)])
    assert extents(expected) == [("one", 0, 30), ("two", 0, 5)]
    assert list(expected.again[ONE]) == [(10, 20)]
    assert expected.nbytes == 35


EXPERTS = 8


def mixture() -> dict[str, np.ndarray]:
    """A model of which a layer's experts are stacked, their matrices by kinds."""
    shapes = {"gate_proj": (128, 512), "up_proj": (128, 512), "down_proj": (512, 128)}
    model = {"model.embed_tokens.weight": random((300, 512), np.float32)}
    for layer in range(2):
        at = f"model.layers.{layer}"
        for number in range(EXPERTS):
            for name, shape in shapes.items():
                weight = random(shape, np.float32, seed=number)
                model[f"{at}.mlp.experts.{number}.{name}.weight"] = weight
        model[f"{at}.mlp.gate.weight"] = random((EXPERTS, 512), np.float32)
        model[f"{at}.input_layernorm.weight"] = random((512,), np.float32)
    return model


@pytest.mark.parametrize("jobs", [1, 4])
def test_stacks_fetch_every_byte_once(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    """Also where no span fits the cache together with the next one."""
    monkeypatch.setattr(spans, "CACHED", 1 << 20)
    monkeypatch.setattr(spans, "NEAR", 1 << 19)
    monkeypatch.setattr(remote, "SPAN", 128 << 10)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    config = {"model_type": "qwen3_moe", "num_experts": EXPERTS, "num_hidden_layers": 2}
    local = write_directory(tmp_path / "m", [mixture()], config)
    put_model(server, "some/Mixture", {path.name: path.read_bytes() for path in local.iterdir()})
    report = wconv.convert("some/Mixture", tmp_path / "out", jobs=jobs)
    assert report.layout == "mlx-lm"
    wconv.convert(local, tmp_path / "here")
    name = "model.safetensors"
    assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    config_size = (local / "config.json").stat().st_size
    assert server.sent - len(server.files["/api/models/some/Mixture/revision/main"]) <= (
        (local / name).stat().st_size + 2 * config_size + 2000
    )


def test_a_large_transpose_is_fetched_once_and_held_on_the_disk_meanwhile(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wconv.tensors import nodes

    monkeypatch.setattr(nodes, "WHOLE_LIMIT", 1 << 20)
    monkeypatch.setattr(spans, "CACHED", 1 << 20)
    monkeypatch.setattr(remote, "SPAN", 256 << 10)
    path = write_file(tmp_path / "x.safetensors", {"w": random((1000, 900), np.float32)})
    server.files["/x.safetensors"] = path.read_bytes()
    there, here = wconv.open(f"{server.url}/x.safetensors"), wconv.open(path)
    assert there["w"].transpose((1, 0)).passes == 4
    wconv.save({"w": there["w"].transpose((1, 0))}, tmp_path / "there.safetensors")
    wconv.save({"w": here["w"].transpose((1, 0))}, tmp_path / "here.safetensors")
    assert (tmp_path / "there.safetensors").read_bytes() == (tmp_path / "here.safetensors").read_bytes()
    assert server.sent == path.stat().st_size
    assert {one.name for one in tmp_path.iterdir()} == {
        "x.safetensors",
        "here.safetensors",
        "there.safetensors",
    }


def test_spans_that_somebody_waits_for_are_never_dropped() -> None:
    cache, wanted = spans.SpanCache(), spans.Span(0, spans.CACHED)
    with cache.lock:
        cache.add(ONE, wanted)
        assert not cache.make_room(1, ahead=True)
        wanted.ready.set()
        assert not cache.make_room(1, ahead=True)
        wanted.left = 0
        assert cache.make_room(1, ahead=True)
    assert not cache.spans
    assert isinstance(cache.lock, type(threading.Lock()))
