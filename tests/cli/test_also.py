"""`--also`: more outputs of one reading, as a user asks for them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import wconv
from tests.cli.running import run
from tests.making import random, write_directory


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_directory(tmp_path / "m", [{"a": random((64, 64)), "b": random((8,))}])


def test_each_output_is_as_its_own_command_makes_it(model: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "deep/er/x.pt"
    more = ["--also", "f32:--dtype float32 --exclude b", "--also", f"{elsewhere}:--format pt"]
    done = run(model, "--dtype", "float16", "--verify", *more)
    assert done.exit_code == 0, done.output
    assert done.output.count("proved") == 3
    assert sorted(os.listdir(tmp_path)) == ["deep", "m", "m-MLX", "m-MLX-f32"]
    one, two, three = (wconv.open(path) for path in (tmp_path / "m-MLX", tmp_path / "m-MLX-f32", elsewhere))
    assert [(name, tensor.dtype.name) for name, tensor in one.items()] == [("a", "float16"), ("b", "float16")]
    assert [(name, tensor.dtype.name) for name, tensor in two.items()] == [("a", "float32")]
    assert [tensor.dtype.name for tensor in three.values()] == ["bfloat16"] * 2


def test_a_file_has_files_beside_it(model: Path, tmp_path: Path) -> None:
    done = run(model, tmp_path / "x.safetensors", "--also", "half:--dtype float16", "--json")
    told = json.loads(done.output)
    assert told["output"] == str(tmp_path / "x.safetensors")
    assert told["also"]["half"]["output"] == str(tmp_path / "x-half.safetensors")
    assert (tmp_path / "x-half.safetensors").exists()


def test_a_dry_run_writes_nothing(model: Path, tmp_path: Path) -> None:
    done = run(model, "--also", "half:--dtype float16", "--dry-run")
    assert done.output.count("would write") == 2
    done = run(model, "--also", "half:--dtype float16", "--dry-run", "--json")
    assert json.loads(done.output)["also"]["half"]["plan"]
    assert os.listdir(tmp_path) == ["m"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("q4", "is not NAME:OPTIONS, as in"),
        (":-q", "is not NAME:OPTIONS, as in"),
        ("..:-q", "is not NAME:OPTIONS, as in"),
        ("q4:'x", "No closing quotation"),
        ("q4:--resume", "--resume is not for one output alone"),
        ("q4:-o z", "-o is not for one output alone"),
        ("q4:--key a", "--key is not for one output alone"),
        ("q4:y", "another path is not for one output alone"),
        ("q4:--also b:c", "--also is not for one output alone"),
        ("q4:--nope", "No such option '--nope'"),
        ("q4:--dtype int3", "'int3' is not one of"),
        ("q4:--q-bits 3", "add -q"),
    ],
)
def test_wrong_ones_are_told(text: str, told: str, model: Path, tmp_path: Path) -> None:
    done = run(model, "--also", text)
    assert done.exit_code == 2
    assert told in done.output
    assert os.listdir(tmp_path) == ["m"]


def test_what_is_for_one_output_is_refused(model: Path, tmp_path: Path) -> None:
    done = run(model, "--also", "a:", "--receipt", tmp_path / "r")
    assert "leave them or --also out" in done.output
    done = run(model, "--also", "a:", "--also", "a:-q")
    assert "has a name that is given already" in done.output
    assert os.listdir(tmp_path) == ["m"]


def test_one_that_fails_is_told_and_the_others_are_there(model: Path, tmp_path: Path) -> None:
    (tmp_path / "m-MLX-a").mkdir()
    (tmp_path / "m-MLX-a/thesis.txt").write_text("mine")
    done = run(model, "--also", "a:--dtype float16")
    assert done.exit_code == 1
    assert "m-MLX-a holds thesis.txt" in done.output
    assert sorted(os.listdir(tmp_path)) == ["m", "m-MLX-a"]
