"""safetensors files are read like the format's own package reads them, and refused where it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors import SafetensorError, safe_open

import wconv
from tests.making import bits, random, raw_safetensors, write_file
from wconv.errors import FormatError
from wconv.formats import open_file
from wconv.formats.safetensors import make_header
from wconv.tensors import dtypes

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def test_every_dtype_of_the_format_is_read(tmp_path: Path) -> None:
    codes = [row for row in dtypes.TABLE if row.code != "C128"]
    header, data = {}, b""
    for row in codes:
        raw = np.random.default_rng(len(data)).integers(0, 2, row.nbytes(24)).astype(np.uint8).tobytes()
        header[row.name] = {
            "dtype": row.code,
            "shape": [4, 6],
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    path = raw_safetensors(tmp_path / "x.safetensors", header, data)
    with safe_open(path, "np") as reference:
        assert set(reference.keys()) == set(header)
    tensors = open_file(str(path)).tensors
    for row in codes:
        tensor = tensors[row.name]
        assert (tensor.dtype, tensor.shape, tensor.nbytes) == (row, (4, 6), row.nbytes(24))
        begin, end = header[row.name]["data_offsets"]
        if row.bits >= 8:
            assert tensor.numpy().tobytes() == data[begin:end]
        assert tensor.numpy().shape == (4, 6)


def test_float4_values() -> None:
    """The sixteen codes of E2M1, low half of a byte first."""
    known = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6]
    assert np.arange(16, dtype=np.uint8).view(ml_dtypes.float4_e2m1fn).astype(np.float32).tolist() == known


def test_values_and_metadata_match_the_package(tmp_path: Path) -> None:
    tensors = {
        "b": random((3, 5)),
        "a": random((2,), np.float32),
        "s": np.array(7, np.int64),
        "e": np.zeros((0, 4)),
    }
    path = write_file(tmp_path / "x.safetensors", tensors, {"format": "pt", "who": "me"})
    contents = open_file(str(path))
    assert contents.metadata == {"format": "pt", "who": "me"}
    assert {name: bits(tensor.numpy()) for name, tensor in contents.tensors.items()} == {
        name: bits(value) for name, value in tensors.items()
    }


BAD_HEADERS: list[tuple[str, Any, bytes]] = [
    ("hole", {"a": {**F32, "data_offsets": [8, 16]}}, bytes(16)),
    ("overlap", {"a": F32, "b": {**F32, "data_offsets": [4, 12]}}, bytes(12)),
    ("size", {"a": {**F32, "shape": [3]}}, bytes(8)),
    ("negative", {"a": {**F32, "shape": [-2]}}, bytes(8)),
    ("negative offset", {"a": {**F32, "data_offsets": [-8, 0]}}, bytes(8)),
    ("backwards", {"a": {**F32, "data_offsets": [8, 0]}}, bytes(8)),
    ("float offset", {"a": {**F32, "data_offsets": [0.0, 8.0]}}, bytes(8)),
    ("bool shape", {"a": {**F32, "shape": [True, 2]}}, bytes(8)),
    ("overflow", {"a": {**F32, "shape": [2**33, 2**33]}}, bytes(8)),
    ("dtype", {"a": {**F32, "dtype": "F33"}}, bytes(8)),
    ("dtype list", {"a": {**F32, "dtype": ["F32"]}}, bytes(8)),
    ("no shape", {"a": {"dtype": "F32", "data_offsets": [0, 8]}}, bytes(8)),
    ("truncated", {"a": F32}, bytes(7)),
    ("trailing", {"a": F32}, bytes(9)),
    ("list", [], b""),
    ("text", b"{not json", b""),
    ("not utf-8", b'{"\xff": 1}', b""),
    ("twin", b'{"a":%s,"a":%s}' % ((json.dumps(F32).encode(),) * 2), bytes(8)),
    ("constant", b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}', bytes(8)),
    ("deep", b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b""),
    ("metadata", {"__metadata__": {"a": 1}, "a": F32}, bytes(8)),
    ("half byte", {"a": {"dtype": "F4", "shape": [3], "data_offsets": [0, 2]}}, bytes(2)),
]


@pytest.mark.parametrize(
    ("header", "data"), [row[1:] for row in BAD_HEADERS], ids=[row[0] for row in BAD_HEADERS]
)
def test_a_damaged_header_is_refused_in_one_line(header: Any, data: bytes, tmp_path: Path) -> None:
    path = raw_safetensors(tmp_path / "bad.safetensors", header, data)
    with pytest.raises(FormatError, match=r"bad\.safetensors") as caught:
        open_file(str(path))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(path))


ENTRY = '{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'


@pytest.mark.parametrize(
    "text",
    [
        f'{{"a":{ENTRY},"a":{ENTRY}}}',
        f'{{"a" :{ENTRY},"a":{ENTRY}}}',
        f'{{"a"\n:{ENTRY},"a"\t :{ENTRY}}}',
        f'{{"a":{ENTRY},"\\u0061":{ENTRY}}}',
        '{"a":{"dtype":"I32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        '{"a":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}}',
        '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"d\\u0074ype":"I32"}}',
        f'{{"__metadata__":{{"a":"b","a":"c"}},"a":{ENTRY}}}',
        f'{{"__metadata__":{{"a":"b"}},"__metadata__":{{"a":"c"}},"a":{ENTRY}}}',
        f'{{"__metadata__":null,"__metadata__":{{}},"a":{ENTRY}}}',
    ],
)
def test_a_name_that_stands_twice_is_refused_however_it_is_spelled(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text.encode() + bytes(8))
    with pytest.raises(FormatError, match="stands in it twice"):
        open_file(str(path))


@pytest.mark.parametrize("code", ["[]", "{}", "1", "null", '"F31"'])
def test_a_dtype_that_is_none_is_named(code: str, tmp_path: Path) -> None:
    text = f'{{"a":{{"dtype":{code},"shape":[],"data_offsets":[0,4]}}}}'
    path = tmp_path / "bad.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text.encode() + bytes(4))
    with pytest.raises(FormatError, match=r"a dtype that wconv does not know|is no tensor"):
        open_file(str(path))


@pytest.mark.parametrize("shape", ["[2.0]", "[true,2]", "[2,true]", "[-2]", '["2"]', "{}", '""', "[2e0]"])
def test_lengths_are_numbers_also_where_a_twin_has_good_ones(shape: str, tmp_path: Path) -> None:
    text = f'{{"a":{ENTRY},"b":{{"dtype":"F32","shape":{shape},"data_offsets":[8,16]}}}}'
    path = tmp_path / "bad.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text.encode() + bytes(16))
    with pytest.raises(SafetensorError), safe_open(path, "np"):
        pass
    with pytest.raises(FormatError, match=r"damaged|impossible"):
        open_file(str(path))


@pytest.mark.parametrize(
    "offsets", ["[8.0,16]", "[8,16.0]", "[true,8]", '["8",16]', "[8,null]", "[16,8]", "[8]"]
)
def test_offsets_are_numbers_in_order(offsets: str, tmp_path: Path) -> None:
    text = f'{{"a":{ENTRY},"b":{{"dtype":"F32","shape":[2],"data_offsets":{offsets}}}}}'
    path = tmp_path / "bad.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text.encode() + bytes(16))
    with pytest.raises(SafetensorError), safe_open(path, "np"):
        pass
    with pytest.raises(FormatError, match="damaged"):
        open_file(str(path))


def test_a_name_may_speak_of_truth(tmp_path: Path) -> None:
    path = raw_safetensors(tmp_path / "x.safetensors", {"is_true": F32}, bytes(8))
    assert list(open_file(str(path)).tensors) == ["is_true"]


@pytest.mark.parametrize("metadata", ['{"note":"a: b\\": c"}', '{"k" : "v"}', '{"a:":":"}', "null", "{}"])
def test_headers_of_any_spacing_and_signs_are_read(metadata: str, tmp_path: Path) -> None:
    text = f'{{"__metadata__":{metadata},\n "a:b" : {ENTRY}}}'
    path = tmp_path / "good.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text.encode() + bytes(8))
    assert open_file(str(path)).tensors["a:b"].shape == (2,)


def test_whatever_the_package_refuses_is_refused(tmp_path: Path) -> None:
    """wconv is stricter in two cases, a name that stands twice and a field too many, and never laxer."""
    for name, header, data in BAD_HEADERS:
        path = raw_safetensors(tmp_path / "bad.safetensors", header, data)
        try:
            with safe_open(path, "np"):
                assert name == "twin"
        except SafetensorError:
            pass


def test_a_header_longer_than_the_file_or_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes((1000).to_bytes(8, "little") + b'{"a":1}')
    with pytest.raises(FormatError, match="truncated"):
        open_file(str(path))
    path.write_bytes((2**62).to_bytes(8, "little") + b'{"a":1}')
    with pytest.raises(FormatError):
        open_file(str(path))


def test_headers_that_wconv_writes_are_valid(tmp_path: Path) -> None:
    rows = [('quote " and \\ and ü', dtypes.by_name("bfloat16"), (2, 3)), ("", dtypes.by_name("int8"), ())]
    header = make_header(rows, {"format": "mlx"})
    assert len(header) % 8 == 0
    path = tmp_path / "x.safetensors"
    path.write_bytes(header + bytes(13))
    with safe_open(path, "np") as reference:
        assert set(reference.keys()) == {row[0] for row in rows}
        assert reference.metadata() == {"format": "mlx"}
    assert [tensor.shape for tensor in wconv.open(path).values()] == [(2, 3), ()]


@pytest.mark.parametrize(
    ("names", "metadata", "told"),
    [
        (["__metadata__"], {"format": "pt"}, "cannot hold a tensor called __metadata__"),
        (["a", "\ud800b"], None, "is no text"),
        (["a"], {"note": "\udfff"}, "is no text"),
        (["a"], {"step": 1}, "holds texts, not 1"),
        ([1], None, "holds texts, not 1"),
    ],
)
def test_a_header_that_nobody_could_read_is_not_written(names: Any, metadata: Any, told: str) -> None:
    with pytest.raises(FormatError, match=told):
        make_header(((name, dtypes.by_name("float32"), (1,)) for name in names), metadata)


def test_a_header_whose_length_begins_like_an_archive_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    wconv.save({"a": np.ones(2, np.float32)}, path, {"said": ""})
    plain = int.from_bytes(path.read_bytes()[:8], "little")
    wconv.save({"a": np.ones(2, np.float32)}, path, {"said": "x" * (int.from_bytes(b"PK", "little") - plain)})
    assert path.read_bytes()[:2] == b"PK"
    assert np.array_equal(wconv.load(path)["a"], np.ones(2, np.float32))
