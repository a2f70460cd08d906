"""Containers and objects that torch does not write by itself in a test's time: spelled out byte by byte.

Covers `formats/numpy/`, `formats/zip/`.
"""

from __future__ import annotations

import pickle
import struct
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv.formats
from tests.hostile import assemble as pk
from tests.hostile import containers
from wconv.errors import FormatError, UnsafeError
from wconv.formats.contents import Contents
from wconv.formats.torch.objects import Record, TorchTensor

VALUES = np.frombuffer(containers.WEIGHTS, "<f4")


def opened(path: Path, data: bytes, **options: Any) -> Contents:
    path.write_bytes(data)
    return wconv.formats.open_file(str(path), **options)


def view(size: tuple[int, ...], stride: tuple[int, ...], key: str = "0", numel: int = 4) -> pk.Code:
    return pk.tensor(pk.storage(key, numel=numel), 0, size, stride)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.bin"


NAMED = {
    "Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n",
    "GGUF": b"GGUF\x03\0\0\0" + bytes(64),
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(64),
    "HTML page": b"<!DOCTYPE html><html><body>Not found</body></html>",
    "error message": b'{"error": "Repository not found"}' + b" " * 40,
    "JSON": b'{"architectures": ["X"]}' + b" " * 40,
    "empty": b"",
    "gzip": b"\x1f\x8b\x08" + bytes(64),
    "PDF": b"%PDF-1.7\n" + bytes(64),
    "starts with zeros": bytes(4096),
    "text": b"Access to this model is restricted.\n",
    "no kind": b"\xde\xad\xbe\xef" * 20,
    "TorchServe": containers.zipped([containers.Entry("MAR-INF/MANIFEST.json", b"{}")]),
    "zip archive": containers.zipped([containers.Entry("a.txt", b"x")]),
    "tar archive": containers.tarred([(b"a.txt", b"x")]),
}


@pytest.mark.parametrize("words", NAMED)
def test_other_files_are_named_for_what_they_are(path: Path, words: str) -> None:
    with pytest.raises(FormatError) as error:
        opened(path, NAMED[words])
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_truncated_archive_says_so(path: Path) -> None:
    whole = containers.torch_zip(containers.state_dict())
    with pytest.raises(FormatError, match="truncated"):
        opened(path, whole[: len(whole) // 2])


def test_safetensors_under_another_name_is_read(path: Path) -> None:
    from safetensors.numpy import save

    contents = opened(path, save({"w": VALUES.copy()}))
    assert contents.format == "safetensors"
    assert np.array_equal(contents.tensors["w"].numpy(), VALUES)


def test_key_of_a_flat_file_is_an_error(path: Path) -> None:
    from safetensors.numpy import save

    with pytest.raises(FormatError, match="nothing to pick"):
        opened(path, save({"w": VALUES.copy()}), key="model")


def test_key_picks_a_state_dict_by_its_path(path: Path) -> None:
    inner = pk.push({"a.b": pk.push({"w": view((2,), (1,))}), "other": view((1,), (1,))})
    data = containers.torch_zip(pk.push({"state_dict": pk.push({"x": pk.tensor()}), "ema": inner}))
    contents = opened(path, data, key="ema.a.b")
    assert list(contents.tensors) == ["w"]
    assert contents.notes == ("took ema.a.b",)
    with pytest.raises(FormatError, match=r"has no 'ema\.nothing': at ema there is a\.b, other"):
        opened(path, data, key="ema.nothing")


def test_two_tensors_of_one_name_are_an_error_that_names_both(path: Path) -> None:
    data = containers.torch_zip(pk.push({"x.y": pk.tensor(), "x": pk.push({"y": pk.tensor()})}))
    with pytest.raises(FormatError) as error:
        opened(path, data)
    assert "['x.y']" in str(error.value)
    assert "['x']['y']" in str(error.value)


def test_expanded_view_inflates_only_when_asked(path: Path) -> None:
    data = containers.torch_zip(pk.push({"w": view((1 << 20, 1 << 10), (0, 0))}))
    with pytest.raises(UnsafeError, match="allow_inflation=True"):
        opened(path, data)
    contents = opened(path, data, allow_inflation=True)
    assert contents.tensors["w"].read_range(10**9, 10**9 + 3).tolist() == [VALUES[0]] * 3


def test_prefix_that_every_name_has_is_taken_off_once_for_skipped_names_too(path: Path) -> None:
    meta = pk.call(
        "torch._utils", "_rebuild_meta_tensor_no_storage", pk.by_global("torch", "half"), (2,), (1,), False
    )
    data = containers.torch_zip(pk.push({"module.module.w": pk.tensor(), "module.module.gone": meta}))
    contents = opened(path, data)
    assert list(contents.tensors) == ["w"]
    assert list(contents.skipped) == ["gone"]


def test_prefix_stays_where_a_name_lacks_it(path: Path) -> None:
    data = containers.torch_zip(pk.push({"module.w": pk.tensor(), "n_averaged": view((), ())}))
    assert set(opened(path, data).tensors) == {"module.w", "n_averaged"}


def test_unknown_dict_class_is_filled_and_read(path: Path) -> None:
    made = pk.newobj(pk.by_global("lightning.fabric.utilities.data", "AttributeDict"))
    filled = pk.Code(made + b"(" + pk.push("w") + pk.tensor() + b"u")
    contents = opened(path, containers.torch_zip(pk.push({"state_dict": filled})))
    assert list(contents.tensors) == ["w"]


def test_records_serve_as_keys_and_keep_their_state(path: Path) -> None:
    index = pk.build(
        pk.newobj(pk.by_global("torch.distributed.checkpoint.metadata", "MetadataIndex")), {"fqn": "w"}
    )
    info = pk.build(pk.newobj(pk.by_global("somewhere", "Info")), (None, {"offset": 3}))
    data = containers.torch_zip(
        pk.Code(b"}(" + pk.push("w") + pk.tensor() + pk.push("data") + b"}" + index + info + b"su")
    )
    root = opened(path, data).root
    ((key, value),) = root["data"].items()
    assert isinstance(key, Record)
    assert key.attributes == {"fqn": "w"}
    assert value.attributes == {"offset": 3}
    assert value.class_name == "somewhere.Info"


def test_unknown_tensor_class_is_skipped_by_name(path: Path) -> None:
    unknown = pk.call("torchao.dtypes", "make_tensor", pk.tensor())
    contents = opened(path, containers.torch_zip(pk.push({"w": pk.tensor(), "strange": unknown})))
    assert list(contents.tensors) == ["w"]
    assert "torchao.dtypes.make_tensor" in contents.skipped["strange"]


def test_module_that_knows_its_parent_is_read(path: Path) -> None:
    # a module in whose attributes it occurs itself: memo 90
    module = pk.newobj(pk.by_global("some", "Module"))
    state = {"_parameters": {"w": pk.tensor()}, "_buffers": {}, "_modules": {"self": pk.Code(b"h\x5a")}}
    data = containers.torch_zip(pk.build(pk.Code(_pad_memo(90) + module + b"q\x5a"), state))
    assert list(opened(path, data).tensors) == ["w"]


def _pad_memo(count: int) -> bytes:
    """Opcodes that fill the memo up to `count` entries."""
    return b"".join(b"Nq" + bytes([at]) + b"0" for at in range(count))


def _memoized_tensor(first: int) -> bytes:
    """A dense tensor as torch's pickler writes it once memo indices take four bytes; memo 0 to 4 hold the
    names that it refers to."""
    put = [b"r" + struct.pack("<I", first + at) for at in range(7)]
    key = b"X\x01\0\0\x000" + put[0]
    storage = b"(h\x01h\x02" + key + b"h\x03K\x04t" + put[1] + b"Q"
    lengths = b"K\x04\x85" + put[2] + b"K\x01\x85" + put[3]
    return b"h\0(" + storage + b"K\0" + lengths + b"\x89h\x04)R" + put[4] + b"t" + put[5] + b"R" + put[6]


NAMES = (
    pk.by_global("torch._utils", "_rebuild_tensor_v2")
    + b"q\x000"
    + pk.push("storage")
    + b"q\x010"
    + pk.by_global("torch", "FloatStorage")
    + b"q\x020"
    + pk.push("cpu")
    + b"q\x030"
    + pk.by_global("collections", "OrderedDict")
    + b"q\x040"
)


@pytest.mark.parametrize("again", range(7))
def test_shortcut_changes_nothing_even_for_values_that_it_leaves_out(path: Path, again: int) -> None:
    later = b"j" + struct.pack("<I", 5 + again)
    body = b"}(" + pk.push("w") + _memoized_tensor(5) + pk.push("later") + later + b"u"
    path.write_bytes(containers.torch_zip(b"\x80\x02" + NAMES + body + b"."))
    root = wconv.formats.load_tree(str(path))
    assert isinstance(root["w"], TorchTensor)
    value = root["later"]
    if again == 0:
        assert value == "0"
    elif again in (2, 3):
        assert value == ((4,) if again == 2 else (1,))
    elif again == 4:
        assert value == {}
    elif again == 5:
        assert value[2:5] == ((4,), (1,), False)
    elif again == 6:
        assert value is root["w"]
    else:
        assert value[0] == "storage"


@pytest.mark.parametrize("wrong", [b"K\x05\x85", b"(K\x01K\x01K\x01K\x01K\x01t", b"K\x02K\x04\x85"])
def test_shortcut_checks_what_the_machine_checks(path: Path, wrong: bytes) -> None:
    body = _memoized_tensor(5).replace(b"K\x04\x85", wrong)
    path.write_bytes(containers.torch_zip(b"\x80\x02" + NAMES + b"}" + pk.push("w") + body + b"s."))
    with pytest.raises(FormatError):
        wconv.formats.load_tree(str(path))


def test_python_2_pickle_of_arrays_is_read(path: Path) -> None:
    dtype = pk.build(
        pk.call("numpy", "dtype", pk.Code(b"U\x02f4"), 0, 1),
        (3, pk.Code(b"U\x01<"), None, None, None, -1, -1, 0),
    )
    made = pk.call(
        "numpy.core.multiarray", "_reconstruct", pk.by_global("numpy", "ndarray"), (0,), pk.Code(b"U\x01b")
    )
    raw = pk.Code(b"T" + struct.pack("<I", len(containers.WEIGHTS)) + containers.WEIGHTS)
    array = pk.build(made, (1, (2, 2), dtype, False, raw))
    contents = opened(path, b"\x80\x02" + pk.push({"blobs": pk.push({"w": array})}) + b".")
    assert np.array_equal(contents.tensors["blobs.w"].numpy(), VALUES.reshape(2, 2))


@pytest.mark.parametrize("protocol", range(6))
def test_plain_pickle_of_any_protocol_is_read(path: Path, protocol: int) -> None:
    array = np.arange(300, dtype="<i2").reshape(3, 100)
    contents = opened(path, pickle.dumps({"w": array, "note": "ünïcode"}, protocol=protocol))
    assert np.array_equal(contents.tensors["w"].numpy(), array)
    assert contents.metadata["note"] == "ünïcode"


def test_large_arrays_of_a_pickle_stay_in_the_file(path: Path) -> None:
    from wconv.tensors.lazy import FileTensor

    array = np.arange(1 << 20, dtype=np.float32)
    contents = opened(path, pickle.dumps({"a": array, "b": array[:8] * 2}, protocol=4))
    assert type(contents.tensors["a"]) is FileTensor
    assert np.array_equal(contents.tensors["a"].numpy(), array)
    assert np.array_equal(contents.tensors["b"].numpy(), array[:8] * 2)


def test_archive_within_nemo_tar_is_read(path: Path) -> None:
    inner = containers.torch_zip(containers.state_dict())
    data = containers.tarred([(b"./model_config.yaml", b"x: 1\n"), (b"./model_weights.ckpt", inner)])
    assert np.array_equal(opened(path, data).tensors["w"].numpy(), VALUES)


def test_archive_within_a_pickle_is_read(path: Path) -> None:
    inner = containers.torch_zip(pk.tensor())
    data = b"\x80\x03" + pk.push({"w": pk.call("torch.storage", "_load_from_bytes", inner)}) + b"."
    assert np.array_equal(opened(path, data).tensors["w"].numpy(), VALUES)


@pytest.mark.parametrize("root", ["", "deep/er", "name with space.v1", "模型"])
def test_any_root_folder_is_found(path: Path, root: str) -> None:
    entries = containers.torch_entries(pk.pickled(containers.state_dict()), root=root or "x")
    if not root:
        entries = [containers.Entry(str(entry.name).removeprefix("x/"), entry.data) for entry in entries]
    assert np.array_equal(opened(path, containers.zipped(entries)).tensors["w"].numpy(), VALUES)


def test_more_entries_than_a_plain_zip_can_count(path: Path) -> None:
    count = 65_540
    names = b"".join(pk.push(str(at)) + view((1,), (1,), str(at), 1) for at in range(count))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo("big/data.pkl"), b"\x80\x02}(" + names + b"u.")
        for at in range(count):
            archive.writestr(zipfile.ZipInfo(f"big/data/{at}"), struct.pack("<f", at))
    contents = wconv.formats.open_file(str(path))
    assert len(contents.tensors) == count
    assert contents.tensors["65539"].numpy().tolist() == [65539.0]


def test_members_beyond_4_gib(path: Path) -> None:
    """A sparse file: one storage of 4 GiB and one after it, as torch lays them out."""
    large = (1 << 32) + 64
    last = pk.tensor(pk.storage("0", numel=large // 4), large // 4 - 4)
    members = [
        ("big/data.pkl", pk.pickled({"w": last, "v": view((4,), (1,), "1")})),
        ("big/data/0", None),
        ("big/data/1", containers.WEIGHTS),
    ]
    directory = b""
    with path.open("wb") as file:
        for name, data in members:
            size = large if data is None else len(data)
            start = file.tell()
            wide = struct.pack("<2H2Q", 1, 16, size, size) if size >= 0xFFFFFFFF else b""
            file.write(struct.pack("<4s5H3L2H", b"PK\3\4", 45, 8, 0, 0, 0, 0, 0, 0, len(name), len(wide)))
            file.write(name.encode() + wide)
            if data is None:
                file.seek(large - 16, 1)
                data = containers.WEIGHTS
            file.write(data)
            file.write(struct.pack("<4sLQQ", b"PK\7\x08", 0, size, size))
            numbers = ([size, size] if size >= 0xFFFFFFFF else []) + ([start] if start >= 0xFFFFFFFF else [])
            extra = struct.pack(f"<2H{len(numbers)}Q", 1, 8 * len(numbers), *numbers) if numbers else b""
            short = min(size, 0xFFFFFFFF)
            directory += struct.pack(
                "<4s6H3L5H2L", b"PK\1\2", 45, 45, 8, 0, 0, 0, 0, short, short, len(name), len(extra), 0, 0, 0,
                0, min(start, 0xFFFFFFFF),
            ) + name.encode() + extra  # fmt: skip
        at = file.tell()
        file.write(directory)
        end = file.tell()
        file.write(struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 3, 3, len(directory), at))
        file.write(struct.pack("<4sLQL", b"PK\6\7", 0, end, 1))
        file.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 3, 3, len(directory), 0xFFFFFFFF, 0))
    contents = wconv.formats.open_file(str(path))
    for name in ("w", "v"):
        assert np.array_equal(contents.tensors[name].numpy(), VALUES)


def test_deflated_storage_is_read_by_range(path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 50, 900_000, np.int32)
    storage = pk.storage("0", "IntStorage", values.size)
    entries = containers.torch_entries(
        pk.pickled(
            {
                "w": pk.tensor(storage, 0, (900, 1000), (1000, 1)),
                "t": pk.tensor(storage, 0, (1000, 900), (1, 1000)),
            }
        ),
        {"0": values.tobytes()},
        method=8,
    )
    contents = opened(path, containers.zipped(entries))
    tensor = contents.tensors["w"]
    began = time.process_time()
    for start in (899_990, 5, 450_000, 0, 700_000, 450_003):
        stop = min(start + 100_000, values.size)
        assert np.array_equal(tensor.read_range(start, stop), values[start:stop])
    assert np.array_equal(contents.tensors["t"].numpy(), values.reshape(900, 1000).T)
    assert time.process_time() - began < 5


def test_deflated_storage_that_is_damaged_is_an_error(path: Path) -> None:
    entries = containers.torch_entries(pk.pickled(containers.state_dict()), {"0": bytes(16)}, method=8)
    good = containers.zipped(entries)
    packed = containers.deflate(bytes(16))
    contents = opened(path, good.replace(packed, b"\xff" * len(packed)))
    with pytest.raises(FormatError, match="damaged"):
        contents.tensors["w"].numpy()


SGD = pk.push({"state": {0: {"momentum_buffer": pk.tensor()}}})


@pytest.mark.parametrize(
    ("held", "names", "note"),
    [
        ({"model": {"w": pk.tensor()}, "optimizer": SGD}, {"w"}, "took model"),
        (
            {"model": {"w": pk.tensor()}, "head": {"v": pk.tensor()}, "optimizer": SGD},
            {"w"},
            "took model, not head; --key picks another",
        ),
        (
            {"generator": {"w": pk.tensor()}, "critic": {"v": pk.tensor()}, "optimizer": SGD},
            {"generator.w", "critic.v"},
            "left out optimizer; --key picks another",
        ),
        ({"state": {"w": pk.tensor()}}, {"state.w"}, ""),
        ({"optimizer": SGD}, {"optimizer.state.0.momentum_buffer"}, ""),
        (
            {"ema_model_state_dict": {"ema_model.w": pk.tensor(), "step": pk.tensor()}},
            {"w", "step"},
            "took ema_model_state_dict",
        ),
    ],
)
def test_weights_are_found_beside_training_state(
    path: Path, held: dict[str, Any], names: set[str], note: str
) -> None:
    contents = opened(path, containers.torch_zip(pk.push(held)))
    assert set(contents.tensors) == names
    assert (contents.notes[0] if contents.notes else "") == note
    if len(held) > 1:
        assert "optimizer" in contents.metadata
