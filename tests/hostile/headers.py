"""safetensors headers and model directories that lie."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.hostile.case import Case, Data, inert, refused
from tests.hostile.containers import VALUES, WEIGHTS, safetensors, state_dict, torch_zip
from tests.hostile.good import INDEX, NAMED, TENSOR, shards

SHARD = "model-00001-of-00001.safetensors"
INDEX_FILE = "model.safetensors.index.json"


def _one(**lies: Any) -> bytes:
    """A file of one tensor of four floats that lies."""
    return safetensors({"w": {**TENSOR, **lies}}, WEIGHTS)


def _raw(text: str | bytes) -> bytes:
    return safetensors(text.encode() if isinstance(text, str) else text, WEIGHTS)


def _text(entry: str) -> bytes:
    return _raw('{"w":' + entry + "}")


def _safetensors() -> dict[str, bytes]:
    good = '{"dtype":"F32","shape":[4],"data_offsets":[0,16]}'
    pair = {"dtype": "F32", "shape": [2]}
    return {
        "header-length-huge": safetensors({}, WEIGHTS, length=2**64 - 1),
        "header-length-signed": safetensors({}, WEIGHTS, length=2**63),
        "header-length-4-gib": safetensors({}, WEIGHTS, length=2**32),
        "header-length-of-limit": safetensors({}, WEIGHTS, length=100_000_000),
        "header-length-one-too-long": safetensors(
            {"w": TENSOR}, b"", length=len(json.dumps({"w": TENSOR})) + 1
        ),
        "header-length-into-data": safetensors(
            {"w": TENSOR}, WEIGHTS, length=len(json.dumps({"w": TENSOR})) + 8
        ),
        "header-length-zero": safetensors({"w": TENSOR}, WEIGHTS, length=0),
        "header-cut": safetensors({"w": TENSOR})[:30],
        "only-length": struct.pack("<Q", 10) + b"{",
        "data-missing": safetensors({"w": TENSOR}),
        "data-cut": safetensors({"w": TENSOR}, WEIGHTS[:-1]),
        "data-too-long": safetensors({"w": TENSOR}, WEIGHTS + b"x"),
        "data-without-tensors": safetensors({"__metadata__": {}}, WEIGHTS),
        "overlap": safetensors({"a": {**TENSOR}, "b": {**TENSOR}}, WEIGHTS),
        "overlap-half": safetensors(
            {"a": {**pair, "data_offsets": [0, 8]}, "b": {**pair, "data_offsets": [4, 12]}}, WEIGHTS[:12]
        ),
        "hole": safetensors(
            {"a": {**pair, "data_offsets": [0, 8]}, "b": {**pair, "data_offsets": [12, 20]}},
            WEIGHTS + bytes(4),
        ),
        "hole-at-start": _one(shape=[2], data_offsets=[8, 16]),
        "offsets-swapped": _one(data_offsets=[16, 0]),
        "offsets-negative": _one(data_offsets=[-16, 0]),
        "offsets-floats": _one(data_offsets=[0.0, 16.0]),
        "offsets-bools": _one(data_offsets=[False, 16]),
        "offsets-text": _one(data_offsets=["0", "16"]),
        "offsets-three": _one(data_offsets=[0, 16, 32]),
        "offsets-none": _one(data_offsets=None),
        "offsets-object": _one(data_offsets={"0": 0, "1": 16}),
        "offsets-two-letters": _one(data_offsets="ab"),
        "offsets-huge": _one(data_offsets=[0, 2**64]),
        "offsets-exponent": _text(good.replace("16", "1.6e1")),
        "offsets-infinite": _text(good.replace("16", "1e999")),
        "offsets-5000-digits": _text(good.replace("16", "9" * 5000)),
        "shape-negative": _one(shape=[-4]),
        "shape-negative-pair": _one(shape=[-2, -2]),
        "shape-float": _one(shape=[4.0]),
        "shape-bool": _one(shape=[4, True]),
        "shape-text": _one(shape="4"),
        "shape-number": _one(shape=4),
        "shape-none": _one(shape=None),
        "shape-nested": _one(shape=[[4]]),
        "shape-wraps": _one(shape=[2**62, 4, 4]),
        "shape-wraps-to-four": _one(shape=[2**32, 2**32 + 4]),
        "shape-zero-of-huge": safetensors(
            {"w": {"dtype": "F32", "shape": [0, 2**63, 2**63], "data_offsets": [0, 0]}}
        ),
        "shape-huge": _one(shape=[10**400]),
        "shape-of-100000-axes": _one(shape=[1] * 100_000 + [4]),
        "dtype-unknown": _one(dtype="F33"),
        "dtype-lower": _one(dtype="f32"),
        "dtype-none": _one(dtype=None),
        "dtype-list": _one(dtype=["F32"]),
        "dtype-object": _one(dtype={}),
        "dtype-escapes": _one(dtype="F32\x1b[2J\n"),
        "dtype-long": _one(dtype="F" * 100_000),
        "dtype-too-wide": _one(dtype="F64"),
        "sub-byte-odd": safetensors({"w": {"dtype": "F4", "shape": [3], "data_offsets": [0, 2]}}, b"ab"),
        "entry-list": _text("[]"),
        "entry-null": _text("null"),
        "entry-text": _text('"x"'),
        "entry-fewer-keys": _text('{"dtype":"F32","shape":[4]}'),
        "twice-a-name": _raw('{"w":' + good + ',"w":' + good + "}"),
        "twice-a-key": _text(good.replace('"shape":[4]', '"shape":[4],"shape":[2]')),
        "twice-escaped": _raw('{"w":' + good + ',"\\u0077":' + good + "}"),
        "name-escapes": safetensors({"\x1b[2J\n\x07": {**TENSOR, "dtype": "F33"}}, WEIGHTS),
        "name-escapes-hole": safetensors(
            {"\x1b[2J\n\x07": {**TENSOR, "data_offsets": [4, 20]}}, WEIGHTS + b"1234"
        ),
        "name-long": safetensors({"n" * 100_000: {**TENSOR, "dtype": "F33"}}, WEIGHTS),
        "metadata-number": safetensors({"__metadata__": {"a": 1}, "w": TENSOR}, WEIGHTS),
        "metadata-zero": safetensors({"__metadata__": 0, "w": TENSOR}, WEIGHTS),
        "metadata-empty-list": safetensors({"__metadata__": [], "w": TENSOR}, WEIGHTS),
        "metadata-empty-text": safetensors({"__metadata__": "", "w": TENSOR}, WEIGHTS),
        "metadata-list": safetensors({"__metadata__": ["a"], "w": TENSOR}, WEIGHTS),
        "metadata-nested": safetensors({"__metadata__": {"a": {}}, "w": TENSOR}, WEIGHTS),
        "json-list": _raw("[1]   "),
        "json-text": _raw('"hello"'),
        "json-number": _raw("1234567"),
        "json-cut": _raw('{"w":'),
        "json-two": _raw('{"w":' + good + "}{}"),
        "json-comment": _raw('{/**/"w":' + good + "}"),
        "json-nan": _text("NaN"),
        "json-infinity": _text("-Infinity"),
        "json-deep-lists": _raw('{"w":' + "[" * 1_000_000),
        "json-deep-objects": _raw('{"w":' * 200_000),
        "json-deep-closed": _raw('{"w":' + "[" * 100_000 + "]" * 100_000 + "}"),
        "json-5000-digits": _text("9" * 5000),
        "json-a-million-digits": _text("9" * 1_000_000),
        "json-not-utf8": _raw(b'{"\xff\xfe":1}'),
        "json-utf16": _raw('{"w":1}'.encode("utf-16-le")),
        "json-bom": _raw(b"\xef\xbb\xbf{}"),
        "json-surrogate": safetensors(b'{"\\ud800":' + good.replace("F32", "F33").encode() + b"}", WEIGHTS),
        "json-nul": _raw(b'{"w\0":1}'),
        "json-quotes-open": _raw('{"' + "w" * 1_000_000),
    }


def _index(text: Any) -> Callable[[Path], Path]:
    return lambda directory: shards(directory, text if isinstance(text, str) else json.dumps(text))


def _mapped(**weight_map: Any) -> Callable[[Path], Path]:
    return _index({"metadata": {}, "weight_map": weight_map})


def _in_place_of_shard(make: Callable[[Path], None]) -> Callable[[Path], Path]:
    """A directory whose shard is replaced by what `make` makes at its path."""

    def write(directory: Path) -> Path:
        shards(directory)
        (directory / SHARD).unlink()
        make(directory / SHARD)
        return directory

    return write


def _filled(data: bytes) -> Callable[[Path], Path]:
    return _in_place_of_shard(lambda path: path.write_bytes(data) and None)


def _index_in_place(make: Callable[[Path], None]) -> Callable[[Path], Path]:
    def write(directory: Path) -> Path:
        shards(directory)
        (directory / INDEX_FILE).unlink()
        make(directory / INDEX_FILE)
        return directory

    return write


def _with_file(name: str, data: Data) -> Callable[[Path], Path]:
    def write(directory: Path) -> Path:
        (directory / name).write_bytes(data if isinstance(data, bytes) else data())
        return shards(directory)

    return write


def _outside(directory: Path) -> Path:
    """A shard that lies beside the model's directory, named with `..`."""
    (directory / "outside.safetensors").write_bytes(safetensors({"w": TENSOR}, WEIGHTS))
    inside = directory / "inside"
    inside.mkdir()
    return shards(inside, json.dumps({"weight_map": {"w": "../outside.safetensors"}}))


DIRECTORIES: dict[str, Callable[[Path], Path]] = {
    "shard-above": _mapped(w="../" + SHARD),
    "shard-above-and-there": _outside,
    "shard-absolute": _mapped(w="/etc/passwd"),
    "shard-absolute-missing": _mapped(w="/nonexistent/model.safetensors"),
    "shard-below": _mapped(w="sub/" + SHARD),
    "shard-windows": _mapped(w="..\\" + SHARD),
    "shard-drive": _mapped(w="C:" + SHARD),
    "shard-dot": _mapped(w="."),
    "shard-dots": _mapped(w=".."),
    "shard-empty": _mapped(w=""),
    "shard-nul": _mapped(w=SHARD + "\0"),
    "shard-number": _mapped(w=7),
    "shard-null": _mapped(w=None),
    "shard-list": _mapped(w=[SHARD]),
    "shard-object": _mapped(w={"file": SHARD}),
    "shard-long": _mapped(w="x" * 100_000),
    "shard-escapes": _mapped(w="\x1b[2J\n"),
    "shard-surrogate": _index('{"weight_map": {"w": "\\ud800"}}'),
    "shard-is-the-index": _mapped(w=INDEX_FILE),
    "name-not-in-shard": _mapped(w=SHARD, v=SHARD),
    "name-not-in-index": _mapped(v=SHARD),
    "name-escapes": _index({"weight_map": {"w": SHARD, "\x1b[2J\n": SHARD}}),
    "name-long": _index({"weight_map": {"w": SHARD, "n" * 100_000: SHARD}}),
    "index-empty": _index(""),
    "index-no-json": _index("{"),
    "index-list": _index([]),
    "index-without-map": _index({"metadata": {}}),
    "index-map-list": _index({"weight_map": [SHARD]}),
    "index-map-text": _index({"weight_map": SHARD}),
    "index-map-empty": _index({"weight_map": {}}),
    "index-deep": _index("[" * 1_000_000),
    "index-5000-digits": _index('{"weight_map": ' + "9" * 5000 + "}"),
    "index-html": _index("<html></html>"),
    "index-lfs-pointer": _index("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"),
    "index-is-a-pipe": _index_in_place(os.mkfifo),
    "index-is-a-device": _index_in_place(lambda path: path.symlink_to("/dev/zero")),
    "index-not-utf8": _index_in_place(lambda path: path.write_bytes(b'{"\xff": 1}') and None),
    "shard-is-a-pipe": _in_place_of_shard(os.mkfifo),
    "shard-is-a-device": _in_place_of_shard(lambda path: path.symlink_to("/dev/zero")),
    "shard-is-a-terminal": _in_place_of_shard(lambda path: path.symlink_to("/dev/tty")),
    "shard-is-a-directory": _in_place_of_shard(Path.mkdir),
    "shard-is-a-loop": _in_place_of_shard(lambda path: path.symlink_to(path)),
    "shard-links-to-nothing": _in_place_of_shard(lambda path: path.symlink_to("/nonexistent")),
    "shard-is-lfs-pointer": _filled(NAMED["lfs-pointer"]),
    "shard-is-html": _filled(NAMED["html"]),
    "shard-is-empty": _filled(b""),
    "shard-has-no-w": _filled(safetensors({"v": TENSOR}, WEIGHTS)),
    "shard-runs-code": _filled(b"cposix\nsystem\n(S'true'\ntR."),
    "empty-directory": lambda directory: directory,
    "config-is-a-pipe": lambda directory: (os.mkfifo(directory / "config.json"), shards(directory))[1],
    "config-is-no-json": _with_file("config.json", b"{"),
    "config-is-deep": _with_file("config.json", b"[" * 1_000_000),
    "config-5000-digits": _with_file("config.json", b'{"a": ' + b"9" * 5000 + b"}"),
}


def _pipe(directory: Path) -> Path:
    os.mkfifo(directory / "model.bin")
    return directory / "model.bin"


def _device(directory: Path) -> Path:
    (directory / "model.bin").symlink_to("/dev/zero")
    return directory / "model.bin"


def cases() -> Iterator[Case]:
    for name, data in _safetensors().items():
        yield refused(f"safetensors-{name}", data, file="model.safetensors")
    lists = b'{"w":[' + b"[]," * 8_000_000 + b"0]}"
    yield refused("bomb-header-of-lists", lambda: _raw(lists), file="model.safetensors", seconds=1.0)
    texts = b'{"w":[' + b'"ab",' * 8_000_000 + b"0]}"
    yield refused("bomb-header-of-texts", lambda: _raw(texts), file="model.safetensors", seconds=1.0)
    yield Case("bomb-index-of-lists", "refused", _index(lists.decode()), directory=True, seconds=1.0)
    for name, make in DIRECTORIES.items():
        yield Case(f"directory-{name}", "refused", make, directory=True)
    for name, data in NAMED.items():
        yield refused(f"named-{name}", data)
    yield Case("file-is-a-pipe", "refused", _pipe)
    yield Case("file-is-a-device", "refused", _device)
    yield Case("file-is-a-directory", "refused", lambda directory: directory)
    yield Case("file-is-missing", "refused", lambda directory: directory / "model.bin")
    odd = {"../../etc/passwd": TENSOR}
    yield inert("safetensors-name-traverses", safetensors(odd, WEIGHTS), tensors={"../../etc/passwd": VALUES})
    yield inert("safetensors-name-empty", safetensors({"": TENSOR}, WEIGHTS), tensors={"": VALUES})
    yield inert("safetensors-entry-more-keys", _one(extra=1))
    yield inert("safetensors-entry-more-fractions", _one(extra=[1.5, {"a": [True]}]))
    yield inert("safetensors-metadata-null", safetensors({"__metadata__": None, "w": TENSOR}, WEIGHTS))
    yield inert(
        "safetensors-padded", _raw('{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}' + " " * 70_000)
    )
    yield inert("safetensors-in-bin", safetensors({"w": TENSOR}, WEIGHTS), file="model.bin")
    yield inert("zip-in-safetensors", torch_zip(state_dict()), file="model.safetensors")
    yield Case("directory-good", "inert", _index(INDEX), {"w": VALUES}, directory=True)
    stale = _mapped(w="model-00009-of-00001.safetensors")
    yield Case("directory-index-is-stale", "inert", stale, {"w": VALUES}, directory=True)
