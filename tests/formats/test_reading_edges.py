"""What is odd and right is read: stale indexes, prefixes, macOS's leftovers, old and plain pickles.

Covers `formats/prefixes.py`, `formats/contents.py`, `formats/modules.py`.
"""

from __future__ import annotations

import io
import json
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv
import wconv.torch
from tests.hostile import assemble as pk
from tests.hostile import containers
from tests.making import bits, random, write_directory, write_file
from wconv.errors import FormatError, UnsafeError
from wconv.formats.torch.objects import Global

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


# archives and pickles


def test_a_zip_may_say_with_six_items_which_part_of_a_storage_is_meant(tmp_path: Path) -> None:
    whole = pk.tensor(pk.storage(extra=(None,)))
    part = pk.tensor(pk.storage(extra=(("0", 1, 2),)), size=(2,))
    path = tmp_path / "model.pt"
    path.write_bytes(containers.torch_zip(pk.push({"whole": whole, "part": part})))
    found = wconv.load(path)
    assert found["whole"].tolist() == VALUES.tolist()
    assert found["part"].tolist() == VALUES[1:3].tolist()


@pytest.mark.parametrize(
    "view", [("0", 1, 4), ("0", -1, 2), ("0", 0, -1), ("0", 0), (), "x", 3, ("0", 2**63, 0)]
)
def test_a_part_that_is_none_is_refused(view: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(containers.torch_zip(pk.push({"w": pk.tensor(pk.storage(extra=(view,)))})))
    with pytest.raises(FormatError, match="impossible view"):
        wconv.load(path)


def test_a_plain_pickle_may_hold_hundreds_of_tensors() -> None:
    found = wconv.load(FIXTURES / "many_in_a_pickle.bin")
    assert len(found) == 300
    for at in range(300):
        assert found[f"w{at}"].tolist() == [0, 0.5, 1][: at % 3 + 1]


def test_but_not_the_same_bytes_again_and_again(tmp_path: Path) -> None:
    inner = containers.legacy()
    call = pk.by_global("torch.storage", "_load_from_bytes") + b"h\x07\x85R"
    loads = b"".join(b"X\x02\0\0\0" + f"{at:02}".encode() + call for at in range(99))
    data = b"\x80\x02" + b"B" + len(inner).to_bytes(4, "little") + inner + b"q\x070}("
    path = tmp_path / "model.pt"
    path.write_bytes(data.replace(b"q\x07", b"r\x07\0\0\0") + loads * 20 + b"u.")
    with pytest.raises(UnsafeError, match="again and again"):
        wconv.load(path)


def stream() -> io.BytesIO:
    return io.BytesIO((FIXTURES / "several_objects.bin").read_bytes())


def test_each_load_of_a_stream_reads_the_object_that_follows() -> None:
    file = stream()
    for count in (1, 2, 3):
        assert wconv.torch.load(file)["w"].tolist() == [0, 0.5, 1][:count]
    assert file.read() == b""


def test_so_it_is_for_open_files_plain_pickles_and_what_lies_between(tmp_path: Path) -> None:
    path = tmp_path / "all.bin"
    path.write_bytes(b"head" + pickle.dumps({"a": 1}) + stream().getvalue() + pickle.dumps([2]) + b"tail")
    with path.open("rb") as file:
        assert file.read(4) == b"head"
        assert wconv.torch.load(file) == {"a": 1}
        assert [len(wconv.torch.load(file)["w"]) for _ in range(3)] == [1, 2, 3]
        assert wconv.torch.load(file) == [2]
        assert file.read() == b"tail"


def test_what_cannot_go_back_is_read_all_the_same() -> None:
    class Pipe:
        def __init__(self) -> None:
            self.read = stream().read

    assert wconv.torch.load(Pipe())["w"].tolist() == [0]


def test_arrays_in_dicts_in_an_array_of_objects(tmp_path: Path) -> None:
    path = tmp_path / "model.npy"
    np.save(path, {"a": B, "inner": {"c": C}, "text": "x"}, allow_pickle=True)
    assert {name: bits(array) for name, array in wconv.load(path).items()} == {
        "a": bits(B),
        "inner.c": bits(C),
    }
    assert list(wconv.load(path, key="inner")) == ["c"]
    np.save(path, np.array([{"a": B}, {"a": C}], object), allow_pickle=True)
    assert {name: bits(array) for name, array in wconv.load(path).items()} == {"0.a": bits(B), "1.a": bits(C)}
    np.save(path, np.array(["x", None], object), allow_pickle=True)
    with pytest.raises(FormatError, match=r"not of numbers|no tensors"):
        wconv.load(path)


def test_and_in_an_archive_beside_others(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    boxed = np.array({"a": B}, object)
    np.savez_compressed(path, plain=C, boxed=boxed, row=np.array([{"x": C}], object), names=np.array(["x"]))
    assert {name: bits(array) for name, array in wconv.load(path).items()} == {
        "plain": bits(C),
        "boxed.a": bits(B),
        "row.0.x": bits(C),
    }
    assert "not of numbers" in wconv.open(path).skipped["names"]


def test_an_array_within_itself_ends(tmp_path: Path) -> None:
    ring = np.empty((), object)
    ring[()] = {"again": ring, "w": B}
    path = tmp_path / "model.npy"
    np.save(path, ring, allow_pickle=True)
    assert "w" in wconv.load(path)


# functions that are told and not called


def never() -> None:
    raise AssertionError


@pytest.mark.parametrize("name", ["print", "eval", "open", "exit"])
def test_a_function_as_a_setting_is_an_inert_name(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    function = pk.by_global("builtins", name)
    path.write_bytes(
        containers.torch_zip(
            pk.push({"state_dict": {"w": pk.tensor()}, "hparams": {"log": function}, "act": function})
        )
    )
    opened = wconv.open(path)
    assert opened.metadata["act"] == Global("builtins", name)
    assert opened["w"].numpy().tolist() == VALUES.tolist()


def test_python_writes_such_settings(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    settings = {"log": print, "bound": partial(print, end=""), "walk": __import__("os").walk}
    path.write_bytes(pickle.dumps({"model": {"w": B}, "settings": settings}))
    opened = wconv.open(path)
    assert bits(opened["w"].numpy()) == bits(B)
    assert opened.metadata["settings"]["log"] == Global("builtins", "print")


PRINT = pk.by_global("builtins", "print")
CALLS = {
    "reduce": pk.reduce(PRINT, ("x",)),
    "inst": pk.inst("builtins", "print", "x"),
    "obj": pk.obj(PRINT, "x"),
    "newobj": pk.newobj(PRINT, ("x",)),
    "newobj-ex": pk.newobj_ex(PRINT, ("x",)),
    "map": pk.call("builtins", "map", PRINT, ["x"]),
    "partial that is called": pk.reduce(pk.call("functools", "partial", PRINT, "x")),
    "reconstructor": pk.call("copyreg", "_reconstructor", PRINT, pk.by_global("builtins", "object"), None),
    "named beside": pk.newobj_ex(pk.by_global("x", "Y"), (), {"call": PRINT}),
    "rebuilt": pk.call("torch._tensor", "_rebuild_from_type_v2", PRINT, pk.by_global("x", "Y"), ("x",), {}),
}


@pytest.mark.parametrize("how", CALLS)
def test_but_a_call_of_one_is_refused(how: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(containers.torch_zip(pk.push({"w": pk.tensor(), "x": CALLS[how]})))
    with pytest.raises(UnsafeError, match=r"builtins\.print"):
        wconv.open(path)


# TorchScript's model.json


def model_json(path: Path, **changes: Any) -> Path:
    described = {
        "dataType": "FLOAT",
        "dims": ["4"],
        "strides": ["1"],
        "offset": "0",
        "data": {"key": "tensors/0"},
    }
    module = {
        "parameters": [{"name": "w", "tensorId": changes.pop("tensor_id", "0")}],
        **changes.pop("module", {}),
    }
    model = {"tensors": [{**described, **changes}] * 2, "mainModule": module}
    entries = [
        containers.Entry("m/model.json", json.dumps(model).encode()),
        containers.Entry("m/tensors/0", containers.WEIGHTS),
    ]
    path.write_bytes(containers.zipped(entries))
    return path


def test_a_model_json_is_read(tmp_path: Path) -> None:
    for number in ("0", 1):
        assert wconv.load(model_json(tmp_path / "m.pt", tensor_id=number))["w"].tolist() == VALUES.tolist()


@pytest.mark.parametrize("number", [-1, "-1", "-0", 1.0, True, 2, "2", None, "x", "9" * 5000, "²"])
def test_a_tensor_number_that_is_none_is_refused(number: Any, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"model\.json"):
        wconv.load(model_json(tmp_path / "m.pt", tensor_id=number))


@pytest.mark.parametrize("change", [{"dims": [-4]}, {"strides": ["-1"]}, {"offset": -1}, {"dims": [4.0]}])
def test_so_is_a_negative_length(change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"model\.json"):
        wconv.load(model_json(tmp_path / "m.pt", **change))


def test_a_tensor_among_its_attributes_is_named(tmp_path: Path) -> None:
    attributes = [{"name": "scale", "type": "Tensor", "id": 0}, {"name": "n", "type": "int", "id": 1}]
    path = model_json(tmp_path / "m.pt", module={"attributes": attributes})
    with pytest.raises(FormatError, match="scale cannot be read"):
        wconv.load(path)
    assert list(wconv.load(path, skip_unreadable=True)) == ["w"]


# safetensors' headers


ENTRY = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}


def with_header(path: Path, header: Any) -> Path:
    path.write_bytes(containers.safetensors(header, containers.WEIGHTS))
    return path


@pytest.mark.parametrize("metadata", [0, 1, False, "", "x", [], ["a"], {"a": 1}, {"a": None}, {"a": {}}])
def test_metadata_that_is_no_object_of_strings_is_refused(metadata: Any, tmp_path: Path) -> None:
    path = with_header(tmp_path / "m.safetensors", {"__metadata__": metadata, "w": ENTRY})
    with pytest.raises(FormatError, match="__metadata__ must map strings to strings"):
        wconv.load(path)


@pytest.mark.parametrize("extra", [1, 1.5, "x", None, [True], [1.5], {"a": {"b": -1}}, {"dtype": "F64"}])
def test_a_field_that_the_format_does_not_have_is_ignored(extra: Any, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    path = with_header(tmp_path / "m.safetensors", {"w": {**ENTRY, "extra": extra}})
    assert wconv.load(path)["w"].tolist() == VALUES.tolist() == load_file(path)["w"].tolist()
