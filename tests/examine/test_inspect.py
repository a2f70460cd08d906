"""What `inspect` shows.

Covers `cli/inspect.py`, `examine/inspection.py`.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
from click.testing import CliRunner

import wconv
from tests.cli.running import run
from tests.making import write_file
from wconv.cli.program import main

MODEL = Path(__file__).parents[2] / "fixtures" / "qwen2_5_vl"


def shown(*words: str) -> str:
    done = CliRunner().invoke(main, ["inspect", *words])
    assert done.exit_code == 0, done.output
    return done.output


def test_repeated_blocks_are_one_line() -> None:
    text = shown(str(MODEL))
    line = next(line for line in text.splitlines() if "input_layernorm" in line)
    assert line.split()[0] == "model.layers.{0-1}.input_layernorm.weight"
    assert line.endswith("[64]  × 2")


def test_blocks_of_other_shapes_stay_apart(tmp_path: Path) -> None:
    tensors = {f"l.{block}.w": np.zeros(3 if block == 2 else 4) for block in range(4)}
    wconv.save(tensors, tmp_path / "m.safetensors")
    lines = shown(str(tmp_path / "m.safetensors")).splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["l.{0-1,3}.w", "l.2.w"]


def test_every_tensor_has_a_line_with_flat() -> None:
    text = shown(str(MODEL), "--flat")
    assert len([line for line in text.splitlines() if ".weight " in line or ".bias " in line]) == 57


def test_grep_and_summary_choose_what_is_shown() -> None:
    text = shown(str(MODEL), "--flat", "--grep", r"layers\.0\..*norm")
    assert len([line for line in text.splitlines() if ".weight " in line]) == 2
    assert ".weight " not in shown(str(MODEL), "--summary")
    assert CliRunner().invoke(main, ["inspect", str(MODEL), "--grep", "("]).exit_code == 1


def test_a_summary_fits_a_screen(tmp_path: Path) -> None:
    header = {f"key {number}": "x" * 500 for number in range(100)}
    path = write_file(tmp_path / "m.safetensors", {"w": np.ones(2)}, header)
    lines = shown(str(path), "--summary").splitlines()
    assert sum(-(-len(line) // 100) for line in lines) <= 24
    assert lines[-1].endswith("lines more (--json has all)")
    assert len(shown(str(path)).splitlines()) > 100


def test_the_programs_that_load_such_models_are_named() -> None:
    text = shown(str(MODEL), "--summary")
    assert "model_type: qwen2_5_vl (read from config.json)" in text
    assert "mlx-vlm 0.7.10: loads it once converted: config.json says" in text


def test_statistics_are_of_the_data(tmp_path: Path) -> None:
    wconv.save({"w": np.float32([1, 2, math.nan, 1e6])}, tmp_path / "m.safetensors")
    assert "1 NaN, 1 beyond float16" in shown(str(tmp_path / "m.safetensors"), "--stats")
    said = json.loads(shown(str(tmp_path / "m.safetensors"), "--stats", "--json"))
    assert said["tensors"]["w"]["stats"]["largest"] == 1e6
    assert said["elements"] == 4


def test_the_library_says_what_the_command_prints(tmp_path: Path) -> None:
    source = write_file(tmp_path / "m.safetensors", {"a": np.array([[1.0, np.nan]], np.float32)})
    found = wconv.inspect(source, with_stats=True)
    printed = run("inspect", source, "--stats", "--json")
    assert json.loads(printed.stdout) == json.loads(json.dumps(found.to_dict()))
    assert found.elements == 2
    assert found.stats["a"].nan == 1
    assert list(wconv.inspect(source).lines()) == run("inspect", source).stdout.splitlines()
