"""What is odd and right is read: stale indexes, prefixes, macOS's leftovers, old and plain pickles.

Covers `formats/prefixes.py`, `formats/contents.py`, `formats/modules.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
import wconv.torch
from tests.hostile import assemble as pk
from tests.hostile import containers
from tests.making import bits, random, write_directory, write_file
from wconv.errors import FormatError

FIXTURES = Path(__file__).parent.parent.parent / "fixtures" / "reading"
VALUES = np.frombuffer(containers.WEIGHTS, "<f4")
A, B, C = random((4, 3), seed=1), random((5,), np.float32, seed=2), np.arange(6)
INDEX = "model.safetensors.index.json"


def index(directory: Path, weight_map: dict[str, str], name: str = INDEX) -> None:
    (directory / name).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


# prefixes


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_fsdp_wrapped_module."])
def test_a_prefix_of_all_names_is_taken_off_in_safetensors_as_in_pt(prefix: str, tmp_path: Path) -> None:
    path = write_file(tmp_path / "model.safetensors", {f"{prefix}a.w": A, f"{prefix}b": B})
    opened = wconv.open(path)
    assert set(opened) == {"a.w", "b"}
    assert bits(opened["a.w"].numpy()) == bits(A)
    assert any("off the names" in note for note in opened.notes)
    report = wconv.convert(path, tmp_path / "out.safetensors")
    assert any("off the names" in note for note in report.notes)


def test_a_prefix_within_names_goes_too_and_one_of_some_names_stays(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.safetensors", {"layers.0._orig_mod.w": A, "b": B})
    assert set(wconv.open(path)) == {"layers.0.w", "b"}
    path = write_file(tmp_path / "b.safetensors", {"module.w": A, "b": B})
    assert set(wconv.open(path)) == {"module.w", "b"}
    assert wconv.open(path).notes == ()
    path = write_file(tmp_path / "c.safetensors", {"a._orig_mod.w": A, "a.w": A})
    assert set(wconv.open(path)) == {"a._orig_mod.w", "a.w"}


def test_of_shards_the_prefix_goes_where_all_have_it(tmp_path: Path) -> None:
    model = write_directory(tmp_path / "all", [{"module.a": A}, {"module.b": B}])
    opened = wconv.open(model)
    assert set(opened) == {"a", "b"}
    assert len(opened.notes) == 1
    model = write_directory(tmp_path / "some", [{"module.a": A}, {"b": B}])
    assert set(wconv.open(model)) == {"module.a", "b"}


def test_an_index_of_pt_files_lists_names_with_the_prefix(tmp_path: Path) -> None:
    for at, name in enumerate(("a", "b")):
        data = containers.torch_zip(pk.push({f"module.{name}": pk.tensor()}))
        (tmp_path / f"pytorch_model-0000{at + 1}-of-00002.bin").write_bytes(data)
    index(
        tmp_path,
        {f"module.{name}": f"pytorch_model-0000{at + 1}-of-00002.bin" for at, name in enumerate(("a", "b"))},
        "pytorch_model.bin.index.json",
    )
    assert set(wconv.open(tmp_path)) == {"a", "b"}


# indexes


def tied_model(path: Path, **config: Any) -> Path:
    embedding = {"model.embed_tokens.weight": A, "model.norm.weight": B}
    model = write_directory(path, [embedding, {"c": C}], {"model_type": "nobody_knows", **config})
    listed = json.loads((model / INDEX).read_text())["weight_map"]
    index(model, {**listed, "lm_head.weight": "model-00002-of-00002.safetensors"})
    return model


@pytest.mark.parametrize(
    "config",
    [{}, {"tie_word_embeddings": True}, {"text_config": {"tie_word_embeddings": True}}],
    ids=["absent", "true", "text"],
)
def test_an_index_may_list_a_tied_name_that_no_shard_holds(config: dict[str, Any], tmp_path: Path) -> None:
    opened = wconv.open(tied_model(tmp_path / "model", **config))
    assert set(opened) == {"model.embed_tokens.weight", "model.norm.weight", "c"}
    (note,) = opened.notes
    assert "lm_head.weight is in no file" in note
    assert "tied to model.embed_tokens.weight" in note


def test_but_no_other_name_and_none_of_an_untied_model(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"lm_head\.weight is missing"):
        wconv.open(tied_model(tmp_path / "untied", tie_word_embeddings=False))
    model = tied_model(tmp_path / "other", tie_word_embeddings=True)
    listed = json.loads((model / INDEX).read_text())["weight_map"]
    index(model, {**listed, "model.layers.7.weight": "model-00002-of-00002.safetensors"})
    with pytest.raises(FormatError, match=r"model\.layers\.7\.weight is missing"):
        wconv.open(model)


def test_an_old_index_beside_a_complete_file(tmp_path: Path) -> None:
    model = write_directory(tmp_path / "model", [{"a": A, "b": B}])
    index(model, {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"})
    opened = wconv.open(model)
    assert [path.name for path in opened.files] == ["model.safetensors"]
    assert bits(opened["a"].numpy()) == bits(A)
    assert opened.notes == (f"{INDEX} lists files that are not there: model.safetensors is taken",)


def test_with_some_of_its_shards_left_too(tmp_path: Path) -> None:
    model = write_directory(tmp_path / "model", [{"a": A, "b": B}])
    write_file(model / "model-00001-of-00002.safetensors", {"a": B})
    index(model, {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"})
    opened = wconv.open(model)
    assert bits(opened["a"].numpy()) == bits(A)
    assert "model-00001-of-00002.safetensors" in opened.left_out


def test_an_index_of_safetensors_without_its_files_beside_complete_pickles(tmp_path: Path) -> None:
    index(tmp_path, {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"})
    names = {"a": "pytorch_model-00001-of-00002.bin", "b": "pytorch_model-00002-of-00002.bin"}
    for name, file in names.items():
        (tmp_path / file).write_bytes(containers.torch_zip(pk.push({name: pk.tensor()})))
    opened = wconv.open(tmp_path)
    assert set(opened) == {"a", "b"}
    assert any("not there: pytorch_model-00001-of-00002.bin" in note for note in opened.notes)
    index(tmp_path, names, "pytorch_model.bin.index.json")
    opened = wconv.open(tmp_path)
    assert set(opened) == {"a", "b"}
    assert any("not there: pytorch_model.bin.index.json is taken" in note for note in opened.notes)
    (tmp_path / names["b"]).unlink()
    with pytest.raises(FormatError, match=r"model-00001-of-00002\.safetensors and 1 more is missing"):
        wconv.open(tmp_path)


def test_what_may_be_no_model_does_not_stand_in_for_one(tmp_path: Path) -> None:
    model = write_directory(tmp_path / "model", [{"a": A}, {"b": B}])
    (model / "model-00002-of-00002.safetensors").unlink()
    write_file(model / "extra.safetensors", {"x": A})
    with pytest.raises(FormatError, match=r"model-00002-of-00002\.safetensors is missing"):
        wconv.open(model)


# macOS


APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(100)


def test_what_macos_leaves_beside_files_is_passed_over(tmp_path: Path) -> None:
    model = write_directory(tmp_path / "model", [{"a": A}, {"b": B}])
    for path in list(model.iterdir()):
        (model / f"._{path.name}").write_bytes(APPLE_DOUBLE)
    (model / "sub").mkdir()
    (model / "sub" / "._notes.txt").write_bytes(APPLE_DOUBLE)
    opened = wconv.open(model)
    assert set(opened) == {"a", "b"}
    assert not opened.left_out
    report = wconv.convert(model, tmp_path / "out")
    assert not report.left_out
    assert not list((tmp_path / "out").rglob("._*"))
    (model / INDEX).unlink()
    assert set(wconv.open(model)) == {"a", "b"}


def test_nor_is_it_a_pickle_a_component_or_a_variant(tmp_path: Path) -> None:
    (tmp_path / "._pytorch_model.bin.index.json").write_bytes(APPLE_DOUBLE)
    (tmp_path / "._model.safetensors").write_bytes(APPLE_DOUBLE)
    (tmp_path / "._model.fp16.safetensors").write_bytes(APPLE_DOUBLE)
    (tmp_path / "pytorch_model.bin").write_bytes(containers.torch_zip(pk.push({"a": pk.tensor()})))
    assert set(wconv.open(tmp_path)) == {"a"}
    with pytest.raises(FormatError, match="holds no fp16 variant"):
        wconv.open(tmp_path, variant="fp16")
    pipeline = tmp_path / "pipeline"
    write_directory(pipeline / "unet", [{"a": A}], {"_class_name": "UNet2DConditionModel"})
    (pipeline / "scheduler").mkdir()
    (pipeline / "scheduler" / "._model.safetensors").write_bytes(APPLE_DOUBLE)
    entries = {"unet": ["diffusers", "UNet2DConditionModel"], "scheduler": ["diffusers", "DDIMScheduler"]}
    (pipeline / "model_index.json").write_text(json.dumps({"_class_name": "X", **entries}))
    report = wconv.convert(pipeline, tmp_path / "out", layout="hf")
    assert list(report.components) == ["unet"]


def test_opened_by_its_name_it_is_told_for_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "._model.safetensors"
    path.write_bytes(APPLE_DOUBLE)
    with pytest.raises(FormatError, match="AppleDouble"):
        wconv.open(path)
