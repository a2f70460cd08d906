"""What lies beside tensors in a checkpoint comes back as what torch gives: arrays, scalars, small objects."""

from __future__ import annotations

import collections
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wconv.torch as shim
from tests.oracles import oracle
from wconv import formats
from wconv.errors import FormatError
from wconv.torch.loading import NotOffered, Unpickled


def arrays() -> dict[str, Any]:
    objects = np.empty(2, object)
    objects[:] = [{"a": 1}, [2]]
    return {
        "numbers": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big-endian": np.arange(3, dtype=">f4"),
        "booleans": np.array([True, False]),
        "complex": np.array([1 + 2j]),
        "without axes": np.array(2.5),
        "empty": np.zeros((0, 3), np.int16),
        "text": np.array([["a", "bcd"], ["é", ""]]),
        "bytes": np.array([b"a", b"bcd"]),
        "large": np.arange(50_000),
        "objects": objects,
    }


SCALARS: list[Any] = [
    np.float64(2.5),
    np.float32(1.5),
    np.float16(0.5),
    np.int64(-3),
    np.uint8(7),
    np.bool_(True),
    np.complex64(1 + 2j),
    np.str_("té"),
    np.bytes_(b"ab"),
]


def small_objects(torch: Any) -> dict[str, Any]:
    """The same on either torch module, each paired with what it must equal."""
    return {
        "size": torch.Size([2, 3]),
        "device": torch.device("cpu"),
        "another device": torch.device("cuda", 1),
        "strided": torch.strided,
        "sparse": torch.sparse_csr,
        "ellipsis": ...,
        "type": np.float32,
        "array type": np.ndarray,
        "numpy dtype": np.dtype(">i2"),
        "dtype": torch.bfloat16,
        "none type": type(None),
        "python types": (int, float, str, dict, list, set, bool, bytes),
        "set": {1, "a"},
        "frozen": frozenset([1]),
        "nested": [torch.Size([1]), (torch.device("cpu"), {torch.Size([2]): torch.strided})],
        "keys": {torch.Size([1]): 1, torch.device("cpu"): 2, torch.strided: 3, torch.float16: 4, ...: 5},
        "long bytes": b"x" * 70_000,
    }


def torch_free(value: Any) -> Any:
    """Values whose equality is that of Python: reprs stand for torch's objects."""
    if isinstance(value, dict):
        return {torch_free(key): torch_free(entry) for key, entry in value.items()}
    if type(value) in (list, tuple):
        return type(value)(torch_free(entry) for entry in value)
    return repr(value) if type(value).__module__.startswith("torch") else value


def same_array(found: Any, expected: Any) -> None:
    assert type(found) is np.ndarray
    assert found.dtype == expected.dtype.newbyteorder("=")
    assert found.flags.f_contiguous == expected.flags.f_contiguous
    assert found.shape == expected.shape
    assert found.flags.writeable
    assert found.tolist() == expected.tolist()


@pytest.mark.oracle
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
def test_what_torch_saved_comes_back_as_torch_loads_it(tmp_path: Path, protocol: int, zipped: bool) -> None:
    real, path = oracle("torch"), tmp_path / "file.pt"
    options = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": zipped}
    real.save({"arrays": arrays(), "scalars": SCALARS, **small_objects(real)}, path, **options)
    expected, found = real.load(path, weights_only=False), shim.load(path)
    for name, value in expected.pop("arrays").items():
        same_array(found["arrays"][name], value)
    for scalar, value in zip(found["scalars"], expected.pop("scalars"), strict=True):
        assert type(scalar) is type(value)
        assert scalar == value
    for name, value in expected.items():
        assert torch_free(found[name]) == torch_free(value), name


@pytest.mark.oracle
def test_memory_formats_come_back(tmp_path: Path) -> None:
    real, names = (
        oracle("torch"),
        ["contiguous_format", "preserve_format", "channels_last", "channels_last_3d"],
    )
    real.save([getattr(real, name) for name in names], tmp_path / "f.pt", pickle_protocol=4)
    assert shim.load(tmp_path / "f.pt") == [getattr(shim, name) for name in names]


@pytest.mark.oracle
def test_torch_loads_what_the_shim_saves_of_them(tmp_path: Path) -> None:
    real, path = oracle("torch"), tmp_path / "file.pt"
    given = {**arrays(), **{repr(scalar): scalar for scalar in SCALARS}}
    del given["objects"]
    plain = ("size", "device", "another device", "strided", "sparse", "ellipsis", "dtype", "set", "frozen")
    given |= {name: small_objects(shim)[name] for name in plain} | {"format": shim.channels_last}
    shim.save(given, path)
    found = real.load(path, weights_only=False)
    for name, value in given.items():
        if isinstance(value, np.ndarray):
            assert found[name].tolist() == value.tolist()
            assert found[name].dtype == value.dtype.newbyteorder("=")
        else:
            assert torch_free(found[name]) == torch_free(value), name


def test_saved_by_the_shim_they_come_back(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    given = arrays()
    del given["objects"]
    plain = ("size", "device", "another device", "strided", "sparse", "ellipsis", "dtype", "set", "frozen")
    given["objects"] = {name: small_objects(shim)[name] for name in plain}
    shim.save([given, SCALARS, shim.channels_last], path)
    found, scalars, format = shim.load(path)
    assert found.pop("objects") == given.pop("objects")
    for name, value in given.items():
        assert found[name].dtype == value.dtype.newbyteorder("=")
        assert found[name].tolist() == value.tolist()
    assert [type(scalar) for scalar in scalars] == [type(scalar) for scalar in SCALARS]
    assert scalars == SCALARS
    assert format is shim.channels_last
    assert (found["numbers"] + 1).sum() == 21


@pytest.mark.parametrize("value", [np.array([{}], object), np.datetime64("2020-01-01"), np.zeros(1, "M8[s]")])
def test_what_cannot_be_saved_of_numpy_is_refused(value: Any, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"numpy\.\w+ cannot be saved"):
        shim.save({"v": value}, tmp_path / "file.pt")
    assert not list(tmp_path.iterdir())


def plain_pickle(tmp_path: Path, value: Any, protocol: int = 2) -> Path:
    import pickle

    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps(value, protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_pickles_of_arrays_and_scalars(tmp_path: Path, protocol: int) -> None:
    given = {"w": shim_free_weights(), "arrays": arrays(), "scalars": SCALARS}
    found = shim.load(plain_pickle(tmp_path, given, protocol))
    for name, value in given["arrays"].items():
        same_array(found["arrays"][name], value)
    assert [type(scalar) for scalar in found["scalars"]] == [type(scalar) for scalar in SCALARS]
    assert found["scalars"] == SCALARS


def shim_free_weights() -> Any:
    return np.ones((2, 2), np.float32)


def test_an_array_of_objects_may_hold_itself_and_what_else_is_there(tmp_path: Path) -> None:
    objects = np.empty((2, 2), object)
    shared = [1.5]
    objects[0, 0], objects[0, 1], objects[1, 0], objects[1, 1] = shared, np.float32(2), objects, np.arange(2)
    found = shim.load(plain_pickle(tmp_path, {"objects": objects, "shared": shared}))
    assert found["objects"][0, 0] is found["shared"]
    assert type(found["objects"][0, 1]) is np.float32
    assert found["objects"][1, 0] is found["objects"]
    assert found["objects"][1, 1].tolist() == [0, 1]


def test_dates_say_so_when_they_are_used(tmp_path: Path) -> None:
    found = shim.load(plain_pickle(tmp_path, {"a": np.ones(2), "dates": np.zeros(2, "M8[D]")}))
    assert isinstance(found["dates"], NotOffered)
    with pytest.raises(NotImplementedError, match="numpy array of type M8"):
        found["dates"].astype(int)


def test_a_claim_of_many_empty_strings_takes_no_memory(tmp_path: Path) -> None:
    data = plain_pickle(tmp_path, np.zeros(1, "S1")).read_bytes()
    for wrong in (data.replace(b"S1", b"S0"), data.replace(b"K\x01\x85q", b"K\x09\x85q")):
        assert wrong != data
        (tmp_path / "file.pkl").write_bytes(wrong)
        assert not isinstance(shim.load(tmp_path / "file.pkl"), np.ndarray)


def test_the_readers_see_scalars_as_plain_numbers(tmp_path: Path) -> None:
    """Only torch.load's callers get numpy's own scalars."""
    tree = formats.load_tree(str(plain_pickle(tmp_path, {"a": np.float32(1.5), "b": shim_free_weights()})))
    assert isinstance(tree["a"], float)
    assert tree["a"] == 1.5


MAGIC = (
    b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}q\x00("
    b"U\x10protocol_versionq\x01M\xe9\x03"
    b"U\rlittle_endianq\x02\x88U\ntype_sizesq\x03}q\x04(U\x05shortq\x05K\x02U\x03intq\x06K\x04uu."
)
REBUILD = (
    b"ctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\nU\x0212U\x03cpuK\x02NtQ"
    b"K\x00(K\x02t(K\x01t\x89ccollections\nOrderedDict\n)RtR"
)
ARRAY = (
    b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n(K\x00tU\x01b\x87R(K\x01(K\x02tcnumpy\ndtype\n"
    b"(U\x02f4K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08"
    + struct.pack("<ff", 1.5, -2.5e10)
    + b"tb"
)


def python2(value: bytes, key: bytes = b"v", storages: bytes = b"\x80\x02]q\x00.") -> io.BytesIO:
    """A stream that torch wrote under Python 2: `{key: value}`."""
    return io.BytesIO(MAGIC + b"\x80\x02}q\x00U" + bytes([len(key)]) + key + value + b"s." + storages)


def short(text: bytes) -> bytes:
    return b"U" + bytes([len(text)]) + text


def long(text: bytes) -> bytes:
    return b"T" + len(text).to_bytes(4, "little") + text


ENCODINGS = [None, "latin1", "bytes", "ASCII", "utf-8", "cp1251"]
TEXTS: dict[str, bytes] = {
    "ascii": short(b"abc"),
    "utf-8": short("é".encode()),
    "latin-1": short(b"\xe9\xff"),
    "quoted": b"S'\\xe9'\n",
    "in a tuple": short(b"a") + short(b"\xe9") + b"\x86",
    "long": long(b"\xe9" * 100),
    "very long": long(b"\xe9" * 70_000),
    "very long ascii": long(b"a" * 70_000),
    "unicode": b"X\x02\x00\x00\x00\xc3\xa9",
}


def outcome(call: Any) -> Any:
    try:
        return call()
    except (UnicodeDecodeError, LookupError) as error:
        return type(error).__name__


@pytest.mark.oracle
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("encoding", [*ENCODINGS, "nonsense"])
def test_strings_of_python_2_are_decoded_as_torch_decodes_them(text: str, encoding: str | None) -> None:
    real, options = oracle("torch"), {} if encoding is None else {"encoding": encoding}
    expected = outcome(lambda: real.load(python2(TEXTS[text]), weights_only=False, **options))
    found = outcome(lambda: shim.load(python2(TEXTS[text]), weights_only=False, **options))
    if expected == "UnicodeDecodeError" and encoding is None:
        assert isinstance(found["v"], bytes) or isinstance(found["v"][1], bytes)
    else:
        assert found == expected


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        (None, {"v": "é"}),
        ("latin1", {"v": "Ã©"}),
        ("bytes", {b"v": b"\xc3\xa9"}),
        ("utf-8", {"v": "é"}),
        ("cp1251", {"v": "Г©"}),
    ],
)
def test_the_encoding_that_is_asked_for_is_used(encoding: str | None, expected: Any) -> None:
    options = {} if encoding is None else {"encoding": encoding}
    assert shim.load(python2(TEXTS["utf-8"]), **options) == expected


def test_a_string_that_is_not_in_the_encoding_is_an_error_as_in_torch() -> None:
    with pytest.raises(UnicodeDecodeError):
        shim.load(python2(TEXTS["latin-1"]), encoding="ascii")
    assert shim.load(python2(TEXTS["latin-1"]), encoding="ascii", errors="replace") == {"v": "\ufffd\ufffd"}
    assert shim.load(python2(TEXTS["latin-1"])) == {"v": b"\xe9\xff"}
    with pytest.raises(LookupError):
        shim.load(python2(TEXTS["ascii"]), encoding="nonsense")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_tensors_and_arrays_of_python_2_are_the_same_in_every_encoding(encoding: str | None) -> None:
    options = {} if encoding is None else {"encoding": encoding}
    storages = b"\x80\x02]q\x00U\x0212a." + struct.pack("<qff", 2, 1.5, 2.5)
    found = shim.load(python2(REBUILD, storages=storages), **options)
    assert next(iter(found.values())).tolist() == [1.5, 2.5]
    found = shim.load(python2(ARRAY), **options)
    assert next(iter(found.values())).tolist() == [1.5, np.float32(-2.5e10)]
    assert type(next(iter(found))) is (bytes if encoding == "bytes" else str)


@pytest.mark.parametrize("name", ["tar.bin", "legacy.bin", "legacy_storage_views.bin"])
def test_other_containers_load_with_bytes_too(name: str) -> None:
    path = Path(__file__).parent.parents[1] / "fixtures" / "torch" / name
    plain, found = shim.load(path), shim.load(path, encoding="bytes")
    assert [key if isinstance(key, str) else key.decode() for key in found] == list(plain)


def test_an_ordered_dict_stays_one(tmp_path: Path) -> None:
    found = shim.load(plain_pickle(tmp_path, collections.OrderedDict(a=np.float32(1))))
    assert type(found) is collections.OrderedDict


@pytest.mark.parametrize(
    "key", [np.float64(2.0**200), (np.float32(1e30), 1), np.complex64(1j), (np.int64(2**40),)]
)
def test_scalars_that_could_be_made_to_collide_are_no_keys(key: Any, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="key"):
        shim.load(plain_pickle(tmp_path, {"w": shim_free_weights(), "d": {key: 1}}))


@pytest.mark.parametrize("key", [np.float64(2.5), np.int64(-3), np.bool_(True), (np.int32(1), np.float16(2))])
def test_other_scalars_are_keys(key: Any, tmp_path: Path) -> None:
    found = shim.load(plain_pickle(tmp_path, {"w": shim_free_weights(), "d": {key: 1}, "s": {key}}))
    assert found["d"] == {key: 1}
    assert [repr(member) for member in found["s"]] == [repr(key)]


@pytest.mark.parametrize("index", [128, -1, 2**61 - 1])
def test_a_device_that_no_torch_has_stays_inert(index: int, tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    shim.save({"w": shim.ones(1), "d": shim.device("cuda", 1)}, path)
    assert shim.load(path)["d"] == shim.device("cuda", 1)
    shim.save({"w": shim.ones(1), "d": shim.device("cuda", index)}, path)
    assert isinstance(shim.load(path)["d"], Unpickled)
