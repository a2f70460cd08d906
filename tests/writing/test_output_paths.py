"""Where an output may go: empty directories, missing ones, and paths that are none."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import wconv
import wconv.torch
from tests.writing.test_targets import TENSORS
from wconv.cli.program import main
from wconv.errors import FormatError, OutputError, WconvError
from wconv.torch import safetensors_torch
from wconv.writing import targets


def test_an_empty_directory_is_an_output(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    out.mkdir()
    wconv.convert(model, out)
    assert list(wconv.load(out)) == ["a"]
    (tmp_path / "o.pt").mkdir()
    with pytest.raises(OutputError, match="is a directory, which no file replaces"):
        wconv.convert(model, tmp_path / "o.pt")


def test_an_empty_directory_behind_a_link_is_where_the_output_goes(model: Path, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "o").mkdir()
    link = tmp_path / "link"
    link.symlink_to("far/o")
    wconv.convert(model, link)
    assert link.is_symlink()
    assert list(wconv.load(tmp_path / "far" / "o")) == ["a"]
    assert os.listdir(tmp_path / "far") == ["o"]


def test_the_working_directory_is_an_output_while_it_is_empty(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "o"
    out.mkdir()
    monkeypatch.chdir(out)
    before = out.stat().st_ino
    wconv.convert(model, ".")
    assert list(wconv.load(out)) == ["a"]
    assert out.stat().st_ino == before
    assert sorted(os.listdir()) == ["config.json", "model.safetensors", "model.safetensors.index.json"]
    with pytest.raises(OutputError, match="working directory"):
        wconv.convert(model, ".", overwrite=True)


def test_directories_above_an_output_are_made(model: Path, tmp_path: Path) -> None:
    wconv.convert(model, tmp_path / "a" / "b" / "o")
    wconv.convert(model, tmp_path / "a" / "c" / "o.safetensors")
    wconv.save(TENSORS, tmp_path / "d" / "o.safetensors")
    for out in ("a/b/o", "a/c/o.safetensors", "d/o.safetensors"):
        assert list(wconv.load(tmp_path / out)) == ["a"]
    assert sorted(os.listdir(tmp_path / "a")) == ["b", "c"]


def test_and_are_gone_again_when_nothing_came(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OutputError("no space")

    (tmp_path / "here").mkdir()
    monkeypatch.setattr(wconv.conversion.run, "check_space", full)
    monkeypatch.setattr(wconv.api, "check_space", full)
    for out in (tmp_path / "a" / "b" / "o", tmp_path / "here" / "b" / "o"):
        with pytest.raises(OutputError, match="no space"):
            wconv.convert(model, out)
        with pytest.raises(OutputError, match="no space"):
            wconv.save(TENSORS, out.with_name("x.safetensors"))
    assert sorted(os.listdir(tmp_path)) == ["here", "model"]
    assert os.listdir(tmp_path / "here") == []


def test_a_file_is_no_directory_above_an_output(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "nowhere").symlink_to("no/where")
    for name in ("file", "nowhere"):
        with pytest.raises(OutputError, match=f"{name} is not a directory"):
            wconv.convert(model, tmp_path / name / "a" / "o")
    assert sorted(os.listdir(tmp_path)) == ["file", "model", "nowhere"]


def test_the_table_of_mounts_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not targets.is_mount(tmp_path)
    assert targets.is_mount(Path("/"))


@pytest.fixture
def in_a_model(model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory is a model, which an empty path must not mean."""
    monkeypatch.chdir(model)
    before = sorted(os.listdir(model.parent))
    yield model
    assert sorted(os.listdir(model.parent)) == before
    assert sorted(os.listdir(model)) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize(
    "words",
    [
        [""],
        ["convert", ""],
        ["", "-o", "x"],
        [".", "-o", ""],
        [".", "--output="],
        [".", "--rules", ""],
        [".", "--merge-lora", ""],
        ["inspect", ""],
    ],
)
def test_an_empty_path_is_an_error_of_one_line(in_a_model: Path, words: list[str]) -> None:
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1
    assert done.output.count("\n") == 1
    assert "is empty: was a variable not set?" in done.output


EMPTY: dict[str, Callable[[], Any]] = {
    "convert": lambda: wconv.convert(""),
    "convert to": lambda: wconv.convert(".", ""),
    "rules": lambda: wconv.convert(".", rules=""),
    "merge_lora": lambda: wconv.convert(".", merge_lora=[""]),
    "load": lambda: wconv.load(""),
    "load_mlx": lambda: wconv.load_mlx(""),
    "open": lambda: wconv.open(""),
    "save": lambda: wconv.save(TENSORS, ""),
    "torch.load": lambda: wconv.torch.load(""),
    "torch.save": lambda: wconv.torch.save({}, ""),
    "load_file": lambda: safetensors_torch.load_file(""),
    "save_file": lambda: safetensors_torch.save_file({}, ""),
}


@pytest.mark.parametrize("call", EMPTY)
def test_an_empty_path_is_an_error_of_every_function(in_a_model: Path, call: str) -> None:
    with pytest.raises((WconvError, RuntimeError, FileNotFoundError), match=r"empty|No such file"):
        EMPTY[call]()


def test_an_empty_path_says_what_it_is(in_a_model: Path) -> None:
    with pytest.raises(FormatError, match="the path is empty"):
        wconv.open("")
    with pytest.raises(OutputError, match="the output is empty"):
        wconv.prepare(".", "")


@pytest.mark.parametrize(
    "name", ["x.npz", "x.gguf", "x.ckpt", "x.onnx", "x.h5", "x.npy", "x.SAFETENSORS", "x.Npz", "sub/x.npz"]
)
def test_a_suffix_that_is_not_written_is_told_before_any_work(tmp_path: Path, name: str) -> None:
    # the source is not even looked at
    with pytest.raises(WconvError, match=r"end its name in \.safetensors, \.pt, \.pth or \.bin, or name"):
        wconv.prepare(tmp_path / "nothing", tmp_path / name)
    assert os.listdir(tmp_path) == []


def test_other_dots_are_a_directorys(model: Path, tmp_path: Path) -> None:
    for name in ("Qwen2.5-VL", "model.v2", "x.safetensors.d"):
        wconv.convert(model, tmp_path / name)
        assert json.loads((tmp_path / name / "config.json").read_text())
