"""What stands where an output is to go is judged before any work: only our own kind is ever replaced."""

from __future__ import annotations

import os
import socket
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import wconv
import wconv.torch
from tests.making import write_directory, write_file
from wconv.cli.program import main
from wconv.errors import OutputError
from wconv.torch import safetensors_torch


def make_device(path: Path) -> None:
    try:
        # as the system's null device is: what replaces that breaks the machine
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except OSError:
        pytest.skip("making a device takes root")


def make_block_device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(7, 250))
    except OSError:
        pytest.skip("making a device takes root")


def make_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path must be short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


NODES: dict[str, Callable[[Path], None]] = {
    "a device": make_device,
    "a device that holds blocks": make_block_device,
    "a named pipe": lambda path: os.mkfifo(path),
    "a socket": make_socket,
}

TENSORS = {"a": np.ones(3, np.float32)}


def convert(out: Path, model: Path) -> None:
    wconv.convert(model, out, overwrite=True)


def convert_by_command(out: Path, model: Path) -> None:
    done = CliRunner().invoke(main, [str(model), "-o", str(out), "--overwrite"])
    assert done.exit_code == 1
    assert done.output.count("\n") == 1
    raise OutputError(done.output)


WRITERS: dict[str, tuple[str, Callable[[Path, Path], Any]]] = {
    "convert to a directory": ("d", convert),
    "convert to safetensors": ("d.safetensors", convert),
    "convert to a torch file": ("d.pt", convert),
    "the command": ("d", convert_by_command),
    "save": ("d.safetensors", lambda out, model: wconv.save(TENSORS, out)),
    "torch.save": ("d.pt", lambda out, model: wconv.torch.save({"a": wconv.torch.ones(3)}, out)),
    "save_file": (
        "d.safetensors",
        lambda out, model: safetensors_torch.save_file({"a": wconv.torch.ones(3)}, out),
    ),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("linked", [False, True])
def test_no_device_pipe_or_socket_is_replaced(
    model: Path, tmp_path: Path, node: str, writer: str, linked: bool
) -> None:
    name, write = WRITERS[writer]
    there = tmp_path / ("node" if linked else name)
    NODES[node](there)
    out = tmp_path / name
    if linked:
        out.symlink_to(there)
    before, names = os.lstat(there), sorted(os.listdir(tmp_path))
    with pytest.raises((OutputError, RuntimeError), match=r"is a (device|named pipe|socket), which is never"):
        write(out, model)
    after = os.lstat(there)
    assert (after.st_mode, after.st_ino, after.st_rdev) == (before.st_mode, before.st_ino, before.st_rdev)
    assert out.is_symlink() == linked
    assert sorted(os.listdir(tmp_path)) == names


def test_savers_do_not_write_over_a_directory(tmp_path: Path) -> None:
    (tmp_path / "d.pt").mkdir()
    with pytest.raises(RuntimeError, match="is a directory"):
        wconv.torch.save({}, tmp_path / "d.pt")
    (tmp_path / "d.safetensors").mkdir()
    with pytest.raises(OutputError, match="which no file replaces"):
        wconv.save(TENSORS, tmp_path / "d.safetensors")


def write_document(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<years of work>")


def write_archive(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, **TENSORS)


FOREIGN: dict[str, Callable[[Path], Any]] = {
    "text": lambda path: path.write_text("years of work\n" * 50),
    "JSON": lambda path: path.write_text('{"years": "of work"}'),
    "a document": write_document,
    "a picture": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100)),
    "zeros": lambda path: path.write_bytes(bytes(4096)),
    "a pickle without weights": lambda path: path.write_bytes(b"\x80\x04K\x03."),
    "a pointer": lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\n"),
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("name", ["o.safetensors", "o.pt", "o.bin"])
def test_a_file_that_is_no_weights_is_not_replaced(model: Path, tmp_path: Path, kind: str, name: str) -> None:
    out = tmp_path / name
    FOREIGN[kind](out)
    before = out.read_bytes()
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="is no weights file: it will not be overwritten"):
            wconv.convert(model, out, overwrite=overwrite)
    assert out.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["model", name]


@pytest.mark.parametrize("name", ["o.safetensors", "o.pt"])
def test_weights_and_empty_files_are_replaced(model: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    olds: list[Callable[[], Any]] = [
        lambda: wconv.convert(model, out, overwrite=True),
        lambda: write_file(out, TENSORS),
        lambda: write_archive(out),
        lambda: wconv.torch.save({"b": wconv.torch.ones(3)}, out),
        lambda: out.write_bytes(out.read_bytes()[:200]),  # a copy that broke off
        lambda: out.write_bytes(b""),
    ]
    for make in olds:
        make()
        with pytest.raises(OutputError, match="exists already: choose another --output, or add --overwrite"):
            wconv.convert(model, out)
        wconv.convert(model, out, overwrite=True)
        assert list(wconv.load(out)) == ["a"]


def test_files_and_directories_do_not_replace_each_other(model: Path, tmp_path: Path) -> None:
    file, directory = tmp_path / "file", tmp_path / "directory.safetensors"
    write_file(file, TENSORS)
    write_directory(directory, [TENSORS])
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="is a file, which no directory replaces"):
            wconv.convert(model, file, overwrite=overwrite)
        with pytest.raises(OutputError, match="is a directory, which no file replaces"):
            wconv.convert(model, directory, overwrite=overwrite)
    assert list(wconv.load(file)) == list(wconv.load(directory)) == ["a"]


ALIEN = (
    "thesis.txt",
    "notes/thesis.txt",
    "model.safetensors.txt",
    "results.json",
    "my_lora.safetensors",
    "checkpoint-500/model.safetensors",
    "checkpoint-500/config.json",
    ".git/HEAD",
    "train.py",
)


@pytest.mark.parametrize("name", ALIEN)
def test_a_directory_that_holds_anything_else_is_not_replaced(model: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "o"
    wconv.convert(model, out)
    (out / name).parent.mkdir(exist_ok=True)
    write_file(out / name, TENSORS)
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=f"holds {name}, which no conversion writes"):
            wconv.convert(model, out, overwrite=overwrite)
    assert (out / name).exists()
    (out / name).unlink()
    wconv.convert(model, out, overwrite=True)


def test_neither_are_links_pipes_and_texts_under_the_names_of_weights(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    wconv.convert(model, out)
    text = "which is no weights file"
    odd: list[tuple[str, str, Callable[[Path], Any]]] = [
        ("vocab.json", "a link", lambda path: path.symlink_to(model / "config.json")),
        ("merges.txt", "no regular file", lambda path: os.mkfifo(path)),
        ("model-00001-of-00002.safetensors", text, lambda path: path.write_text("years of work")),
        ("pytorch_model.bin", text, lambda path: path.write_text("years of work")),
    ]
    for name, why, make in odd:
        make(out / name)
        with pytest.raises(OutputError, match=f"holds {name}, {why}: it will not"):
            wconv.convert(model, out, overwrite=True)
        assert os.path.lexists(out / name)
        (out / name).unlink()
    wconv.convert(model, out, overwrite=True)


def test_what_an_earlier_conversion_wrote_and_copied_is_replaced(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    for name in ("README.md", "figures/fig 1.png", "1_Pooling/config.json", "vocab.bin", "modeling_own.py"):
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text("as it is")
    wconv.convert(model, out)
    (out / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    wconv.convert(model, out, format="pt", overwrite=True)
    wconv.convert(model, out, overwrite=True)
    assert not (out / "pytorch_model.bin").exists()
    # another model's files, of kinds that every model has
    for name in ("tokenizer.json", "merges.txt", "generation_config.json", "spiece.model", "o200k.tiktoken"):
        (out / name).write_text("{}")
    for name in ("0.safetensors", "adapters.safetensors", "model.fp16-00001-of-00002.safetensors"):
        write_file(out / name, TENSORS)
    wconv.convert(model, out, overwrite=True)
    assert sorted(os.listdir(out)) == sorted([*os.listdir(model), "model.safetensors.index.json"])


def test_a_directory_without_weights_is_not_replaced(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    out.mkdir()
    (out / "config.json").write_text("{}")
    with pytest.raises(OutputError, match="holds no converted model"):
        wconv.convert(model, out, overwrite=True)


def test_what_is_merged_is_not_replaced(model: Path, tmp_path: Path) -> None:
    lora = write_directory(
        tmp_path / "lora", [{"a.lora_A.weight": np.ones((1, 2), np.float32)}], {"peft_type": "LORA"}
    )
    prepared = wconv.prepare(model, lora)
    with pytest.raises(OutputError, match="which is read"):
        wconv.conversion.run.check_apart((model, lora / "model.safetensors"), prepared.report.output)
