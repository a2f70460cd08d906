"""`torch.load`: every file of the zoo, lazily, with shared storages shared and nothing executed."""

from __future__ import annotations

import io
import mmap
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv.torch as torch
from tests.oracles import oracle
from tests.shim.observe import plain
from wconv import formats
from wconv.errors import WconvError
from wconv.formats import open_file
from wconv.stores import files
from wconv.torch import storage as storages
from wconv.torch.dtypes import BY_NAME
from wconv.torch.loading import NotOffered, Unpickled

ZOO = Path(__file__).parent.parents[1] / "fixtures" / "torch"
FILES = sorted(path.name for path in ZOO.glob("*.bin"))

NOT_FOR_TORCH = """
    detectron2 dtypes_v3_legacy exported legacy_big_endian module_in_wrapper npy npz numpy_protocol_5
    plain_pickle script_json tensor_kinds whole_module whole_module_legacy
"""
NOT_FOR_TORCH = {f"{name}.bin" for name in NOT_FOR_TORCH.split()}
"""Files that torch.load itself cannot read, or not without the classes that they name."""

SPARSE = ("torch.sparse_coo", "torch.sparse_csr", "torch.sparse_csc")
"""Layouts that are offered; blocks and batches are not."""

WITHOUT_TENSORS = """
    bare_storage complex32 float4 quantized quantized_four_bits sparse frozen scripted traced script_json
    whole_module whole_module_legacy module_in_wrapper detectron2 numpy_protocol_5 npy
"""
WITHOUT_TENSORS = {f"{name}.bin" for name in WITHOUT_TENSORS.split()}
"""Files that hold no dense tensor in dicts and lists: modules, arrays, what has no dtype here."""

RENAMED = {"esrgan.bin", "compiled.bin"}
"""Files in which the readers pick among copies, or shorten names from the middle."""


def tensors(tree: Any, path: str = "") -> dict[str, Any]:
    """Tensors in nested dicts and lists, by their path."""
    if isinstance(tree, torch.Tensor):
        return {path: tree}
    pairs = (
        tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, (list, tuple)) else ()
    )
    return {name: leaf for key, value in pairs for name, leaf in tensors(value, f"{path}/{key}").items()}


def saved(tmp_path: Path, obj: Any) -> Path:
    path = tmp_path / "file.pt"
    torch.save(obj, path)
    return path


def by_last_names(tree: Any, wanted: str) -> Any:
    """The tensor whose path ends as `wanted` does: readers leave wrappers away."""
    paths = {path.strip("/").replace("/", "."): tensor for path, tensor in tensors(tree).items()}
    return next((t for path, t in paths.items() if f".{path}".endswith(f".{wanted}")), None)


@pytest.mark.parametrize("name", [name for name in FILES if name not in WITHOUT_TENSORS | RENAMED])
def test_tensors_of_the_zoo_have_the_values_that_the_readers_give(name: str) -> None:
    """Two ways to the same bytes: views of mapped storages here, gathered elements there."""
    tree, compared = torch.load(ZOO / name), 0
    for key, expected in open_file(str(ZOO / name)).tensors.items():
        found = by_last_names(tree, key) if isinstance(tree, dict) else tree
        if found is not None and found.dtype.name == expected.dtype.name:
            assert tuple(found.shape) == expected.shape
            raw = found.contiguous()._array.reshape(-1)
            assert np.array_equal(raw.view(np.uint8), expected.read_range().view(np.uint8)), key
            compared += 1
    assert compared


@pytest.mark.oracle
@pytest.mark.parametrize("name", [name for name in FILES if name not in NOT_FOR_TORCH])
def test_the_zoo_loads_as_torch_loads_it(name: str) -> None:
    """Every tensor has its dtype, shape, strides, values, kind and requires_grad."""
    real = oracle("torch")
    expected = real.load(ZOO / name, weights_only=False)
    compared = compare(real, torch.load(ZOO / name), expected)
    assert compared or name in WITHOUT_TENSORS


def compare(real: Any, found: Any, expected: Any, where: str = "") -> int:
    """How many tensors were compared; fails where one differs. What the shim does not offer must say so."""
    if isinstance(expected, real.Tensor):
        plain_dtype = str(expected.dtype).removeprefix("torch.") in BY_NAME
        if str(expected.layout) in SPARSE and isinstance(found, torch.Tensor):
            assert str(found.layout) == str(expected.layout), where
            dense = found.to_dense(), expected.to_dense()
            assert plain(torch, dense[0])["values"] == plain(real, dense[1])["values"], where
            return 1
        if expected.layout != real.strided or expected.is_meta or expected.is_quantized or not plain_dtype:
            assert isinstance(found, NotOffered), where
            return 0
        if expected.is_nested or isinstance(found, NotOffered):
            assert isinstance(found, NotOffered), where
            return 0
        if expected.is_conj() or expected.is_neg():
            expected = expected.resolve_conj().resolve_neg()
            assert plain(torch, found.clone())["values"] == plain(real, expected.clone())["values"], where
            return 1
        assert plain(torch, found) == plain(real, expected), where
        assert found.requires_grad == expected.requires_grad, where
        assert type(found).__name__ == type(expected).__name__ or type(expected).__name__ == "Buffer", where
        return 1
    if isinstance(expected, dict):
        assert list(map(str, found)) == list(map(str, expected)), where
        pairs = zip(found.values(), expected.values(), strict=True)
        return sum(compare(real, a, b, f"{where}/{key}") for key, (a, b) in zip(expected, pairs, strict=True))
    if type(expected) in (list, tuple):
        return sum(compare(real, a, b, where) for a, b in zip(found, expected, strict=True))
    if isinstance(expected, (int, float, str, bool, type(None))):
        assert found == expected, where
    return 0


def test_nothing_is_read_until_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, {"a": torch.arange(6).reshape(2, 3), "b": torch.ones(2).bfloat16()})
    maps: list[str] = []
    real_map = storages.map_file
    monkeypatch.setattr("wconv.torch.lazy.map_file", lambda name: maps.append(name) or real_map(name))
    state = torch.load(path)
    assert [tensor._held for tensor in state.values()] == [None, None]
    assert (state["a"].shape, state["a"].stride(), state["b"].dtype) == ((2, 3), (3, 1), torch.bfloat16)
    assert state["a"]._held is None
    assert state["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert maps == [str(path)]
    owner: Any = state["a"].numpy()
    while getattr(owner, "base", None) is not None:
        owner = owner.base
    assert isinstance(owner.obj, mmap.mmap)


def test_coded_entries_are_read_once_and_only_when_used(monkeypatch: pytest.MonkeyPatch) -> None:
    from wconv.formats import deflated

    reads: list[int] = []
    inflate = deflated.DeflatedSource.inflate_into

    def counted(self: Any, offset: int, out: memoryview) -> None:
        reads.append(len(out))
        inflate(self, offset, out)

    monkeypatch.setattr(deflated.DeflatedSource, "inflate_into", counted)
    found = tensors(torch.load(ZOO / "deflated.bin"))
    before = len(reads)
    tensor = next(each for each in found.values() if each._held is None and each.numel())
    first = tensor.tolist()
    after = len(reads)
    assert after > before
    assert tensor.half() is not None
    assert tensor.tolist() == first
    assert len(reads) == after


def test_writing_into_loaded_tensors_never_changes_the_file_nor_another_load(tmp_path: Path) -> None:
    path = saved(tmp_path, {"a": torch.zeros(3)})
    before = path.read_bytes()
    first = torch.load(path)
    first["a"].add_(1)
    assert first["a"].tolist() == [1, 1, 1]
    assert torch.load(path)["a"].tolist() == [0, 0, 0]
    assert path.read_bytes() == before


def test_a_file_may_be_replaced_by_what_was_made_of_it(tmp_path: Path) -> None:
    path = saved(tmp_path, {"a": torch.arange(1000.0), "b": torch.ones(5)})
    state = torch.load(path)
    torch.save({"a": state["a"].half(), "b": state["b"]}, path)
    assert state["a"].sum().item() == 499500
    again = torch.load(path)
    assert again["a"].dtype == torch.float16
    assert again["b"].tolist() == [1] * 5


def test_a_file_replaced_while_it_is_being_loaded_gives_no_other_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = saved(tmp_path, {"a": torch.zeros(3)}), tmp_path / "other.pt"
    torch.save({"a": torch.ones(3)}, other)
    load_first = formats.load_first

    def replaced(name: str, how: Any) -> Any:
        tree = load_first(name, how)
        other.replace(path)
        return tree

    monkeypatch.setattr(formats, "load_first", replaced)
    assert torch.load(path)["a"].tolist() == [0, 0, 0]


def test_without_its_descriptor_a_replaced_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = saved(tmp_path, {"a": torch.zeros(3)}), tmp_path / "other.pt"
    torch.save({"a": torch.ones(3)}, other)
    load_first = formats.load_first

    def replaced(name: str, how: Any) -> Any:
        tree = load_first(name, how)
        other.replace(path)
        files._open.clear()
        return tree

    monkeypatch.setattr(formats, "load_first", replaced)
    with pytest.raises(WconvError, match=r"file\.pt"):
        torch.load(path)


def test_tensors_over_one_storage_share_memory(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    state = torch.load(saved(tmp_path, {"a": base, "t": base.t(), "row": base[1], "same": base}))
    state["row"].fill_(-1)
    assert state["a"][1].tolist() == state["t"][:, 1].tolist() == [-1] * 4
    assert state["a"] is state["same"]
    assert state["row"].storage_offset() == 4
    assert state["t"].untyped_storage() is state["a"].untyped_storage()


def test_streams_are_loaded_as_paths_are(tmp_path: Path) -> None:
    path = saved(tmp_path, OrderedDict(a=torch.ones(2)))
    with open(path, "rb") as file:
        assert torch.load(file)["a"].tolist() == [1, 1]
    assert torch.load(io.BytesIO(path.read_bytes()), map_location="cpu")["a"].tolist() == [1, 1]
    assert isinstance(torch.load(str(path)), OrderedDict)


def test_metadata_of_a_state_dict_is_kept(tmp_path: Path) -> None:
    state = OrderedDict(a=torch.ones(1))
    state._metadata = OrderedDict(version=2)  # type: ignore[attr-defined]
    assert torch.load(saved(tmp_path, state))._metadata == {"version": 2}


@pytest.mark.parametrize(
    "location",
    [
        None,
        "cpu",
        torch.device("cpu"),
        {"cuda:0": "cpu"},
        lambda storage, place: storage,
        lambda storage, place: None,
    ],
)
def test_every_way_to_say_cpu_is_accepted(tmp_path: Path, location: Any) -> None:
    path = saved(tmp_path, {"a": torch.ones(1)})
    assert torch.load(path, map_location=location, weights_only=True, mmap=True)["a"].item() == 1


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"map_location": "cuda"}, RuntimeError),
        ({"map_location": {"cpu": "mps"}}, RuntimeError),
        ({"map_location": 3}, TypeError),
        ({"map_location": lambda storage, place: "cuda"}, RuntimeError),
        ({"pickle_module": io}, TypeError),
        ({"nonsense": 1}, TypeError),
    ],
)
def test_what_load_does_not_offer_is_refused(tmp_path: Path, options: dict[str, Any], error: type) -> None:
    path = saved(tmp_path, {"a": torch.ones(1)})
    with pytest.raises(error):
        torch.load(path, **options)


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        torch.load(tmp_path / "none.pt")
    path = saved(tmp_path, {"a": torch.ones(100)})
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(WconvError, match=r"file\.pt"):
        torch.load(path)
    with pytest.raises(AttributeError):
        torch.load(3)


def test_objects_that_are_no_data_are_inert_but_readable() -> None:
    tree = torch.load(ZOO / "records.bin", weights_only=False)
    found = [value for value in tree.values() if isinstance(value, Unpickled)]
    assert found
    for each in found:
        assert "inert" in repr(each)
        with pytest.raises(AttributeError, match="inert data"):
            _ = each.surely_not_there


def test_what_has_no_tensor_here_says_so_when_it_is_used() -> None:
    tree = torch.load(ZOO / "sparse.bin")
    blocks = [value for value in tree.values() if isinstance(value, NotOffered)]
    for each in blocks:
        with pytest.raises(NotImplementedError, match="layout sparse_"):
            each.to_dense()


def test_sparse_tensors_are_read_as_the_readers_read_them() -> None:
    dense = open_file(str(ZOO / "sparse.bin")).tensors
    found = {k: v for k, v in torch.load(ZOO / "sparse.bin").items() if isinstance(v, torch.Tensor)}
    assert {str(value.layout) for value in found.values()} >= {"torch.sparse_coo", "torch.sparse_csr"}
    for name, value in found.items():
        assert value.to_dense().tolist() == dense[name].read_range().reshape(dense[name].shape).tolist(), name
