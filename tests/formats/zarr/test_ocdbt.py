"""Trees that TensorStore could have written, and such as nobody would: each lie is one line.

Covers `formats/zarr/crc32c.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.formats.zarr import trees
from tests.formats.zarr.trees import Value
from wconv.errors import FormatError, UnsafeError, WconvError
from wconv.formats.sources import FileSource, Source
from wconv.formats.zarr import ocdbt
from wconv.formats.zarr.crc32c import crc32c


def read(directory: Path) -> dict[bytes, bytes]:
    def reader(place: ocdbt.ValuePlace) -> Source:
        return FileSource(str(directory / place.file), place.offset, place.length)

    found = ocdbt.read(FileSource(str(directory / "manifest.ocdbt")), reader)
    return {key: value.read(0, value.size) for key, value in found.items()}


def test_the_checksum_is_that_of_the_standard() -> None:
    assert crc32c(b"123456789") == 0xE3069283


def test_values_in_nodes_and_beside_them(tmp_path: Path) -> None:
    node = trees.leaf([(b"a/0", Value(b"inline")), (b"a/1", Value(file=0, offset=2, length=3))])
    trees.write(tmp_path, node, before=b"..abc")
    assert read(tmp_path) == {b"a/0": b"inline", b"a/1": b"abc"}


def test_nodes_below_nodes(tmp_path: Path) -> None:
    leaves = [trees.leaf([(b"0", Value(b"x"))]), trees.leaf([(b"b/0", Value(b"y"))])]
    first, second = map(len, leaves)
    node = trees.inner([(b"a/0", 2, 0, first), (b"b/0", 0, first, second)])
    trees.write(tmp_path, node, height=1, before=b"".join(leaves))
    assert read(tmp_path) == {b"a/0": b"x", b"b/0": b"y"}


def test_damage_is_told(tmp_path: Path) -> None:
    trees.write(tmp_path, trees.leaf([(b"a", Value(b"x"))]))
    for name in ("d/x", "manifest.ocdbt"):
        good = (tmp_path / name).read_bytes()
        for at in range(0, len(good), 3):
            (tmp_path / name).write_bytes(good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :])
            with pytest.raises(WconvError):
                read(tmp_path)
        (tmp_path / name).write_bytes(good)
    assert read(tmp_path) == {b"a": b"x"}


def test_versions_and_forms_that_are_not_read(tmp_path: Path) -> None:
    trees.write(tmp_path, trees.leaf([(b"a", Value(b"x"))]))
    (tmp_path / "manifest.ocdbt").write_bytes(trees.manifest(0, 9, kind=1))
    with pytest.raises(FormatError, match="has its versions in other files"):
        read(tmp_path)
    (tmp_path / "manifest.ocdbt").write_bytes(trees.framed(trees.MANIFEST, b"", version=7))
    with pytest.raises(FormatError, match=r"is of OCDBT's version 7\.0: 0 is read"):
        read(tmp_path)


def test_a_node_that_is_its_own_child(tmp_path: Path) -> None:
    """Heights must go down, so no way through a tree is a circle."""
    node = trees.inner([(b"a", 0, 0, 0)])
    for _ in range(4):
        node = trees.inner([(b"a", 0, 0, len(node))])
    trees.write(tmp_path, node, height=1)
    with pytest.raises(FormatError, match="a node is of another height than was told"):
        read(tmp_path)


def test_a_node_that_is_the_child_of_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty levels of a thousand equal children each: the bytes are counted as often as they are read."""
    monkeypatch.setattr(ocdbt, "TOTAL_LIMIT", 1 << 18)
    before = b""
    node = trees.leaf([(b"k", Value(b"x"))])
    for height in range(1, 20):
        begin = len(before)
        before += node
        node = trees.inner([(b"%03d" % at, 3, begin, len(node)) for at in range(60)], height=height)
    trees.write(tmp_path, node, height=19, before=before)
    with pytest.raises(UnsafeError, match="leads to more than 0 MiB of nodes: refused"):
        read(tmp_path)


@pytest.mark.parametrize(
    "node",
    [
        trees.leaf([(b"a", Value(file=3, offset=0, length=1))]),
        trees.leaf([(b"a", Value(file=0, offset=1 << 60, length=1))]),
        trees.leaf([(b"a", Value(file=0, offset=0, length=1 << 62))]),
        trees.leaf([(b"a" * 5000, Value(b"x"))]),
        trees.leaf([(b"a", Value(b"x")), (b"a", Value(b"y"))]),
        trees.framed(trees.NODE, b"\0" + trees.table([]) + trees.varint(1 << 50)),
        trees.framed(trees.NODE, b"\0" + trees.varint(1 << 50)),
        trees.framed(trees.NODE, b"\0" + b"\xff" * 12),
        trees.framed(trees.NODE, b"\0" + trees.varints([1, 3, 9]) + b"d/x" + b"\0"),
    ],
)
def test_lies_in_a_node(tmp_path: Path, node: bytes) -> None:
    trees.write(tmp_path, node)
    with pytest.raises(WconvError):
        read(tmp_path)
