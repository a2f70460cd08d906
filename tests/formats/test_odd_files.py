"""What is odd within one file and right is read: pickles, TorchScript, headers; calls are refused."""

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
from tests.formats.test_reading_edges import FIXTURES, VALUES, B, C
from tests.hostile import assemble as pk
from tests.hostile import containers
from tests.making import bits
from wconv.errors import FormatError, UnsafeError
from wconv.formats.torch.objects import Global

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
