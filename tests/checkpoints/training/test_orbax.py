"""Orbax checkpoints, which orbax-checkpoint 0.12.8 wrote of arrays on eight devices, and damaged ones."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

import wconv
from tests.checkpoints.training.test_opening import FIXTURES, same
from tests.formats.zarr import trees
from tests.formats.zarr.trees import Value
from wconv.errors import FormatError, WconvError

pytest.importorskip("zstandard")
EXPECTED = FIXTURES / "orbax-expected.safetensors"


@pytest.fixture
def copied(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return Path(shutil.copytree(FIXTURES / request.param, tmp_path / request.param))


@pytest.mark.parametrize("name", ["orbax", "orbax-zarr"])
def test_arrays_are_those_of_jax(name: str, tmp_path: Path) -> None:
    opened = wconv.open(FIXTURES / name)
    assert opened.format == "Orbax"
    assert "left out opt_state; --key picks another" in opened.notes
    assert opened.metadata["step"] == 7
    assert opened.metadata["name"] == "x"
    same(opened, wconv.open(EXPECTED))
    report = wconv.convert(FIXTURES / name, tmp_path / "out", exclude="small")
    written, expected = wconv.open(report.output), wconv.open(EXPECTED)
    assert set(written) == set(expected) - {"params.small"}
    assert all(written[key].numpy().tobytes() == expected[key].numpy().tobytes() for key in written)
    assert all(path.name.startswith("model.") for path in report.output.iterdir())
    assert set(wconv.open(FIXTURES / name, key="opt_state")) == {"0.count", "1.mu"}
    assert "decoder.layers_0.kernel" in wconv.open(FIXTURES / name, key="params")


def test_the_files_that_describe_it_stand_for_it() -> None:
    for name in ("manifest.ocdbt", "_METADATA", "_CHECKPOINT_METADATA"):
        assert len(wconv.open(FIXTURES / "orbax" / name)) == 9


def test_the_newest_step_of_a_manager(tmp_path: Path) -> None:
    for step in ("9", "10"):
        shutil.copytree(FIXTURES / "orbax", tmp_path / step / "default")
        shutil.move(tmp_path / step / "default" / "_CHECKPOINT_METADATA", tmp_path / step)
    (tmp_path / "11.orbax-checkpoint-tmp-5").mkdir()
    opened = wconv.open(tmp_path)
    assert opened.notes[0] == "took 10/default"
    same(opened, wconv.open(EXPECTED))
    same(wconv.open(tmp_path / "9"), wconv.open(EXPECTED))
    with pytest.raises(FormatError, match="was not saved to its end: take another step"):
        wconv.open(tmp_path / "11.orbax-checkpoint-tmp-5")
    for name in ("one", "two"):
        shutil.copytree(tmp_path / "9" / "default", tmp_path / "10" / name)
    shutil.rmtree(tmp_path / "10" / "default")
    with pytest.raises(FormatError, match=r"holds several trees \(one, two\): name the one to convert"):
        wconv.open(tmp_path)


@pytest.mark.parametrize("copied", ["orbax"], indirect=True)
def test_trees_that_were_not_joined(copied: Path) -> None:
    """Each process has written its own, and Orbax stopped before it joined them."""
    (copied / "manifest.ocdbt").unlink()
    shutil.rmtree(copied / "d")
    same(wconv.open(copied), wconv.open(EXPECTED))


@pytest.mark.parametrize("copied", ["orbax", "orbax-zarr"], indirect=True)
def test_a_file_that_is_missing_is_named(copied: Path) -> None:
    for file in [*copied.glob("**/d/*"), *copied.glob("params.decoder.layers_0.kernel/0.1")]:
        file.unlink()
    with pytest.raises(FormatError, match=r"is missing|is in no file: a rank's file is missing"):
        wconv.open(copied)


@pytest.mark.parametrize("copied", ["orbax-zarr"], indirect=True)
def test_leaves_and_metadata_that_do_not_agree(copied: Path) -> None:
    shutil.copytree(copied / "params.ids", copied / "more")
    assert "left out more, which _METADATA does not name" in wconv.open(copied).notes
    shutil.rmtree(copied / "params.ids")
    with pytest.raises(FormatError, match=r"params\.ids is in no file, and _METADATA names it"):
        wconv.open(copied)
    (copied / "_METADATA").write_text(json.dumps({"tree_metadata": {"x": {"key_metadata": [{"key": []}]}}}))
    with pytest.raises(FormatError, match="names no leaves"):
        wconv.open(copied)
    (copied / "_METADATA").write_text("[]")
    with pytest.raises(FormatError, match="holds no JSON object"):
        wconv.open(copied)


@pytest.mark.parametrize("copied", ["orbax-zarr"], indirect=True)
def test_chunks_that_older_versions_do_not_store(copied: Path) -> None:
    """They are zero, and told: a file that was lost looks the same."""
    settings = json.loads((copied / "_METADATA").read_text())
    del settings["store_array_data_equal_to_fill_value"]
    (copied / "_METADATA").write_text(json.dumps(settings))
    (copied / "params.decoder.layers_0.kernel" / "0.1").unlink()
    opened = wconv.open(copied)
    assert "params.decoder.layers_0.kernel: what is not stored of it is taken for zero" in opened.notes
    found = opened["params.decoder.layers_0.kernel"].numpy().astype("f4")
    assert not found[:4, 6:].any()
    assert found[:4, :6].all()


@pytest.mark.parametrize("copied", ["orbax-zarr"], indirect=True)
def test_links_out_of_the_directory(copied: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(28))
    chunk = copied / "params.ids" / "0"
    chunk.unlink()
    chunk.symlink_to(secret)
    with pytest.raises(FormatError, match="a link out of the directory, which is not followed: refused"):
        wconv.open(copied)
    chunk.unlink()
    os.mkfifo(chunk)
    with pytest.raises(WconvError):
        wconv.open(copied)


ARRAY = json.dumps(
    {"chunks": [2], "compressor": None, "dtype": "|u1", "shape": [2], "zarr_format": 2}
).encode()


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "d/../../x", "d//x", "d\\x", "C:x", "d/\0", "", "d/" + "x" * 2000]
)
def test_names_out_of_the_directory(name: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"xx")
    trees.write(
        tmp_path / "c", trees.leaf([(b"w/.zarray", Value(ARRAY)), (b"w/0", Value(file=0, length=2))], [name])
    )
    with pytest.raises(FormatError, match="no file of its directory: refused"):
        wconv.open(tmp_path / "c")
    trees.write(tmp_path / "c", trees.leaf([]), name=name)
    with pytest.raises(FormatError, match="no file of its directory: refused"):
        wconv.open(tmp_path / "c")


def test_ranges_beyond_a_file(tmp_path: Path) -> None:
    value = Value(file=0, offset=10**6, length=2)
    trees.write(tmp_path, trees.leaf([(b"w/.zarray", Value(ARRAY)), (b"w/0", value)]))
    with pytest.raises(FormatError, match=r"is truncated or manifest\.ocdbt is damaged"):
        wconv.open(tmp_path)
    trees.write(tmp_path, trees.leaf([(b"w/.zarray", Value(ARRAY)), (b"w/0", Value(b"ab"))]))
    assert wconv.open(tmp_path)["w"].numpy().tolist() == [97, 98]
