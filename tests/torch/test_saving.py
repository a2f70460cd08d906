"""`torch.save`: zips that PyTorch loads with weights_only=True; storages shared and aligned."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv.torch as torch
from tests.oracles import oracle
from tests.shim.observe import plain
from tests.shim.values import STORED
from wconv.errors import FormatError, OutputError
from wconv.formats import open_file
from wconv.formats.torch import write as torch_write
from wconv.tensors.dtypes import by_name
from wconv.tensors.lazy import FileTensor, LazyTensor, from_array


def everything() -> Any:
    """One object with all that can be saved."""
    base = torch.arange(24.0).reshape(2, 3, 4)
    state: Any = OrderedDict(base=base, view=base[1].t(), part=base[:, ::2, 1], again=base)
    state._metadata = OrderedDict(version=3)
    return {
        "state": state,
        "parameter": torch.nn.Parameter(torch.ones(3).bfloat16()),
        "frozen": torch.nn.Parameter(torch.ones(2), requires_grad=False),
        "grad": torch.ones(2, requires_grad=True),
        "dtypes": {name: torch.tensor([0.0, 1.0, 2.0]).to(getattr(torch, name)) for name in STORED},
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "plain": [
            0,
            255,
            256,
            65536,
            -1,
            2**31,
            -(2**63),
            2**70,
            1.5,
            float("inf"),
            "ü",
            "",
            b"\x00\xff",
            None,
            True,
        ],
        "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        "size": torch.Size([2, 3]),
        "dtype": torch.bfloat16,
        "device": torch.device("cpu"),
        3: {"int": "key", (1, "a"): "tuple key"},
    }


def assert_same(module: Any, found: Any, expected: Any) -> None:
    assert plain(module, found) == plain(torch, expected)


@pytest.mark.oracle
@pytest.mark.parametrize("mmap", [False, True])
def test_torch_loads_it_with_weights_only(tmp_path: Path, mmap: bool) -> None:
    real = oracle("torch")
    path = tmp_path / "all.pt"
    torch.save(everything(), path)
    found, expected = real.load(path, weights_only=True, mmap=mmap), everything()
    for key in ("state", "dtypes", "scalar", "empty", "tuples", 3):
        assert_same(real, found[key], expected[key])
    assert found["plain"] == expected["plain"]
    assert found["state"]._metadata == {"version": 3}
    assert type(found["state"]) is OrderedDict
    assert found["state"]["base"] is found["state"]["again"]
    pointer = found["state"]["base"].untyped_storage().data_ptr()
    assert {found["state"][key].untyped_storage().data_ptr() for key in ("view", "part")} == {pointer}
    assert type(found["parameter"]) is real.nn.Parameter
    flags = {key: found[key].requires_grad for key in ("parameter", "frozen", "grad", "scalar")}
    assert flags == {"parameter": True, "frozen": False, "grad": True, "scalar": False}
    assert (found["size"], found["dtype"]) == (real.Size([2, 3]), real.bfloat16)
    assert found["device"] == real.device("cpu")
    assert found["plain"][12] == b"\x00\xff"


@pytest.mark.oracle
def test_torch_loads_what_was_saved_to_a_buffer() -> None:
    real = oracle("torch")
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(3)}, buffer)
    buffer.seek(0)
    assert real.load(buffer, weights_only=True)["a"].tolist() == [1, 1, 1]


def test_what_was_saved_loads_again(tmp_path: Path) -> None:
    path = tmp_path / "all.pt"
    torch.save(everything(), path)
    found, expected = torch.load(path), everything()
    for key in ("state", "dtypes", "scalar", "empty", "tuples", 3):
        assert_same(torch, found[key], expected[key])
    assert found["plain"] == expected["plain"]
    assert found["state"]["base"].untyped_storage() is found["state"]["view"].untyped_storage()
    assert type(found["parameter"]) is torch.nn.Parameter
    assert (found["grad"].requires_grad, found["frozen"].requires_grad) == (True, False)


def test_storages_are_written_once_and_aligned(tmp_path: Path) -> None:
    path = tmp_path / "all.pt"
    torch.save(everything(), path)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        entries = [entry for entry in archive.infolist() if "/data/" in entry.filename]
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.infolist()[0].filename == "all/data.pkl"
        raw = path.read_bytes()
        for entry in entries:
            at = entry.header_offset
            name, extra = (int.from_bytes(raw[at + o : at + o + 2], "little") for o in (26, 28))
            assert (at + 30 + name + extra) % 64 == 0
    sizes = [entry.file_size for entry in entries]
    assert sizes.count(24 * 4) == 1


def test_equal_objects_give_equal_files(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        torch.save(everything(), tmp_path / folder / "x.pt")
    assert (tmp_path / "a" / "x.pt").read_bytes() == (tmp_path / "b" / "x.pt").read_bytes()


def test_objects_that_occur_twice_or_hold_themselves_are_one_object_again(tmp_path: Path) -> None:
    inner: list[Any] = [1]
    inner.append(inner)
    obj: Any = {"a": inner, "b": inner}
    obj["self"] = obj
    pickled = torch_write.dumps(obj)
    import pickle

    with zipfile.ZipFile(io.BytesIO(pickled)) as archive:
        found = pickle.loads(archive.read("archive/data.pkl"))
    assert found["self"] is found
    assert found["a"] is found["b"]
    assert found["a"][1] is found["a"]


@pytest.mark.parametrize(
    "value", [object(), {object()}, range(3), lambda: 0, np.zeros(2, "M8[s]"), type, 2**3000, slice(2)]
)
def test_what_has_no_place_in_a_checkpoint_is_refused(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "x.pt"
    with pytest.raises(RuntimeError, match="saved"):
        torch.save({"a": value}, path)
    assert not list(tmp_path.iterdir())


def test_nesting_without_end_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    with pytest.raises(OutputError, match="nested"):
        torch_write.dumps(deep)


def test_one_storage_seen_as_two_dtypes_is_refused(tmp_path: Path) -> None:
    base = torch.ones(4)
    with pytest.raises(RuntimeError, match=r"torch\.float32 and as torch\.int32"):
        torch.save([base, base.view(torch.int32)], tmp_path / "x.pt")


@pytest.mark.parametrize(
    "options", [{"pickle_protocol": 4}, {"pickle_module": io}, {"_use_new_zipfile_serialization": False}]
)
def test_what_save_does_not_offer_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        torch.save({}, tmp_path / "x.pt", **options)


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save({"a": torch.ones(1)}, path)
    before = path.read_bytes()
    missing = FileTensor(str(tmp_path / "gone"), 0, by_name("float32"), (4,))
    with pytest.raises(FormatError):
        torch_write.save({"a": missing}, path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.pt"]
    with pytest.raises(OutputError, match="cannot be written"):
        torch_write.save({}, tmp_path / "no" / "x.pt")


def test_lazy_tensors_are_saved_as_they_are(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    lazy: LazyTensor = from_array(values)
    torch_write.save(
        {"a": lazy, "same": lazy, "t": lazy.transpose((2, 0, 1)), "h": lazy.cast("bfloat16")},
        tmp_path / "x.pt",
    )
    found = torch.load(tmp_path / "x.pt")
    assert np.array_equal(found["a"].numpy(), values)
    assert found["a"] is found["same"]
    assert np.array_equal(found["t"].numpy(), values.transpose(2, 0, 1))
    assert found["h"].dtype == torch.bfloat16
    assert found["h"].float().numpy().tolist() == values.tolist()


STREAM = """
import resource, sys
import numpy as np
from wconv.tensors.dtypes import by_name
from wconv.formats.torch import write as torch_write
from wconv.tensors.lazy import FileTensor
path, out = sys.argv[1:3]
tensor = FileTensor(path, 0, by_name("float32"), (256 << 18,))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
torch_write.save({"a": tensor, "b": tensor.cast("float16")}, out)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_saving_takes_little_memory_whatever_the_size(tmp_path: Path) -> None:
    source = tmp_path / "zeros"
    with open(source, "wb") as file:
        file.truncate(256 << 20)
    arguments = [sys.executable, "-c", STREAM, str(source), str(tmp_path / "out.pt")]
    grown = int(subprocess.run(arguments, capture_output=True, check=True, text=True).stdout)
    grown = grown // 1024 if sys.platform == "darwin" else grown
    assert (tmp_path / "out.pt").stat().st_size > 384 << 20
    assert grown < 64 << 10, f"{grown} KiB"
    os.unlink(tmp_path / "out.pt")


def test_safetensors_round_trip_by_the_stand_in(tmp_path: Path) -> None:
    from safetensors import safe_open as real_open
    from safetensors.numpy import load_file as numpy_load

    from wconv.torch import safetensors_torch as st

    state = {
        "b": torch.arange(4).bfloat16(),
        "a": torch.ones(2, 3),
        "s": torch.tensor(7),
        "e": torch.zeros(0, 2),
    }
    path = tmp_path / "x.safetensors"
    st.save_file(state, path, {"format": "pt"})
    for found in (st.load_file(path), st.load(path.read_bytes()), st.load(st.save(state))):
        assert_same(torch, dict(sorted(found.items())), dict(sorted(state.items())))
    assert numpy_load(path)["a"].tolist() == [[1] * 3] * 2
    with real_open(path, framework="np") as file:
        assert file.metadata() == {"format": "pt"}
    with st.safe_open(path, framework="pt", device="cpu") as opened:
        assert opened.keys() == ["a", "b", "e", "s"]
        assert opened.metadata() == {"format": "pt"}
        part = opened.get_slice("a")
        assert (part.get_shape(), part.get_dtype()) == ([2, 3], "F32")
        assert part[:, 1:].tolist() == [[1, 1], [1, 1]]
        with pytest.raises(KeyError):
            opened.get_tensor("c")
    assert [tensor._held for tensor in st.load_file(path).values()] == [None] * 4
    assert open_file(str(path)).tensors["b"].dtype.name == "bfloat16"


@pytest.mark.parametrize(
    ("tensors", "error"),
    [
        ({"a": [1]}, ValueError),
        ([1], ValueError),
        ({"a": torch.ones(2, 3).t()}, ValueError),
        ((lambda x: {"a": x, "b": x[1:]})(torch.ones(3)), RuntimeError),
    ],
)
def test_what_safetensors_cannot_hold_is_refused(tmp_path: Path, tensors: Any, error: type) -> None:
    from wconv.torch import safetensors_torch as st

    with pytest.raises(error):
        st.save_file(tensors, tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())
