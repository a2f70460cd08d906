"""The page of `inspect --html`: one file that needs no other and runs nothing that a model's names hold.

Covers `examine/page/`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
from tests.cli.running import run
from tests.making import random, raw_safetensors, write_directory, write_file
from tests.serving import put_model, serving
from wconv.stores import remote

MODEL = Path(__file__).parents[3] / "fixtures" / "qwen2_5_vl"

HOSTILE = "</script><script>alert(1)</script>"


def made(source: Path, to: Path, *words: str) -> str:
    done = run("inspect", source, "--html", to, *words)
    assert done.exit_code == 0, done.output
    return to.read_text("utf-8")


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script id="data" type="text/plain">([^<]*)</script>', page)
    assert found is not None
    return dict(json.loads(zlib.decompress(base64.b64decode(found[1], validate=True)).decode("utf-8")))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return made(MODEL, tmp_path_factory.mktemp("page") / "m.html", "--stats")


def test_nothing_outside_of_the_file_is_named(page: str) -> None:
    assert not re.findall(r"""(?:src|href|action)\s*=|url\(|@import|\bimport\s*\(""", page)
    assert set(re.findall(r"https?://[^\s\"']+", page)) == {"http://www.w3.org/2000/svg"}
    assert not re.findall(r"\beval\b|new Function|innerHTML|insertAdjacentHTML|document\.write", page)


def test_the_policy_names_the_style_and_the_script_by_their_digests(page: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    for tag in ("style", "script"):
        text = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert len(text) == 1
        digest = base64.b64encode(hashlib.sha256(text[0].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy[1]


def test_every_tensor_has_its_place_its_rule_and_what_becomes_of_it(page: str) -> None:
    data = data_of(page)
    with wconv.open(MODEL) as opened:
        assert data["names"] == list(opened)
        at = data["names"].index("visual.patch_embed.proj.weight")
        tensor = opened["visual.patch_embed.proj.weight"]
        path, offset = tensor.file_position
    assert data["kinds"][data["kind"][at]] == ["bfloat16", [32, 3, 2, 14, 14], tensor.nbytes]
    assert (data["start"][at], data["end"][at]) == (offset, offset + tensor.nbytes)
    assert data["files"][data["file"][at]] == [Path(path).name, Path(path).stat().st_size]
    assert data["texts"][data["rules"][at]].splitlines() == [
        "rename visual.** → vision_tower.**",
        "transpose vision_tower.patch_embed.proj.weight as conv3d",
    ]
    output = data["output"]
    place = output["from"].index(at)
    assert output["names"][place] == "vision_tower.patch_embed.proj.weight"
    (step,) = output["steps"][output["way"][place]]
    assert step == {"op": "transpose", "from": [32, 3, 2, 14, 14], "axes": [0, 2, 3, 4, 1]}
    assert data["recipes"][0][0] == "4 bits in groups of 64"


def test_statistics_have_histograms(page: str) -> None:
    rows = data_of(page)["stats"]["rows"]
    assert len(rows) == 57
    assert all(len(row[-1]) in (0, 32) for row in rows)
    assert any(len(row[-1]) == 32 for row in rows)


def test_what_is_left_out_says_why(tmp_path: Path) -> None:
    tensors = {
        "model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(4, np.float32),
        "model.embed_tokens.weight": random((8, 4)),
        "model.norm.weight": random((4,)),
        "lm_head.weight": random((8, 4)),
    }
    config = {"model_type": "llama", "hidden_size": 4, "vocab_size": 8, "tie_word_embeddings": False}
    source = write_directory(tmp_path / "m", [tensors], config)
    data = data_of(made(source, tmp_path / "m.html"))
    ((at, reason),) = data["output"]["dropped"]
    assert data["names"][at].endswith("inv_freq")
    assert data["texts"][reason]


def test_hostile_names_are_no_markup(tmp_path: Path) -> None:
    header = {
        name: {"dtype": "F32", "shape": [1], "data_offsets": [4 * at, 4 * at + 4]}
        for at, name in enumerate((HOSTILE, "a\u202eb", "__proto__", "{{script}}", "<!--", "a" * 1500))
    }
    header["__metadata__"] = {HOSTILE: HOSTILE, "format": HOSTILE}
    folder = tmp_path / "<b>{{script}}"
    folder.mkdir()
    source = raw_safetensors(folder / "{{data}}.safetensors", header, b"\0" * 24)
    page = made(source, tmp_path / "m.html")
    assert "alert(1)" not in page
    assert page.count("<script") == 2
    assert "<title>{{data}}.safetensors" in page
    assert set(data_of(page)["names"]) == header.keys() - {"__metadata__"}


def test_pickles_say_what_they_name(tmp_path: Path) -> None:
    source = wconv.convert(MODEL, tmp_path / "m.pt").output
    data = data_of(made(source, tmp_path / "m.html"))
    assert ["harmless", "torch._utils._rebuild_tensor_v2"] in data["pickles"]["names"]
    assert not data["pickles"]["runs"]


def test_what_cannot_be_converted_is_shown_all_the_same(tmp_path: Path) -> None:
    source = write_directory(tmp_path / "m", [{"odd": random((4,))}], {"model_type": "llama"})
    data = data_of(made(source, tmp_path / "m.html"))
    assert "odd" in data["output"]["refusal"]


def test_the_place_of_the_page_is_looked_at(tmp_path: Path) -> None:
    source = write_file(tmp_path / "m.safetensors", {"w": np.ones(2)})
    before = source.read_bytes()
    for place in (source, tmp_path / "page", tmp_path / "absent" / "p.html"):
        done = run("inspect", source, "--html", place)
        assert done.exit_code == 1, place
        assert done.stderr.count("\n") == 1
    assert source.read_bytes() == before
    done = run("inspect", source, "--html", tmp_path / "p.html", "--json")
    assert json.loads(done.stdout)["bytes"] == (tmp_path / "p.html").stat().st_size


def test_a_hundred_thousand_tensors_are_a_small_page(tmp_path: Path) -> None:
    """Of 20,000 here, a fifth of the 5 MB that the page may have."""
    names = [f"model.layers.{at // 500}.mlp.experts.{at % 500}.up_proj.weight" for at in range(20_000)]
    header = {
        name: {"dtype": "BF16", "shape": [1, 2], "data_offsets": [4 * at, 4 * at + 4]}
        for at, name in enumerate(names)
    }
    source = raw_safetensors(tmp_path / "m.safetensors", header, b"\0" * (4 * len(names)))
    page = made(source, tmp_path / "m.html")
    assert len(page) < 1_000_000


def test_a_model_of_the_hub_is_called_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_cache", type(remote._cache)())
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN_PATH", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    with serving() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        put_model(server, "someone/Tiny", {path.name: path.read_bytes() for path in MODEL.glob("*.*")})
        done = run("inspect", "someone/Tiny", "--html", tmp_path / "m.html")
    assert done.exit_code == 0, done.output
    data = data_of((tmp_path / "m.html").read_text("utf-8"))
    assert data["title"] == "Tiny"
    assert len(data["output"]["names"]) == 57
    assert str(tmp_path) not in json.dumps({**data, "files": [], "output": {}})
