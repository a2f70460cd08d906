"""A skeleton says what a file's modules are, and nothing of the file becomes code.

Covers `consumers/mlx_nn/`. What skeletons compute is compared in `tests/oracle/mlx/test_stubs.py`.
"""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

import wconv
from tests.cli.running import run
from wconv.consumers.mlx_nn.portability import portability
from wconv.consumers.mlx_nn.stub import stub
from wconv.errors import LayoutError
from wconv.formats.modules import Module
from wconv.tensors.lazy import from_array

FIXTURES = Path(__file__).parents[3] / "fixtures" / "modules"
LINEAR = "torch.nn.modules.linear.Linear"
EVIL = (
    "x\nimport os",
    '"""',
    "');import os#",
    "class",
    "self",
    "__import__",
    "é",
    "a b",
    "0",
    "parameters",
    "\u202e",
)


@pytest.mark.parametrize("name", ["pickled.pt", "scripted.pt"])
def test_weights_that_were_converted_fit_the_skeleton(name: str, tmp_path: Path) -> None:
    pytest.importorskip("mlx.nn")
    opened = wconv.open(FIXTURES / name)
    names: dict[str, object] = {}
    exec(compile(stub(opened.tensors, opened.modules), "stub.py", "exec"), names)
    wconv.convert(FIXTURES / name, tmp_path / "w.safetensors")
    names["make_model"]().load_weights(str(tmp_path / "w.safetensors"), strict=True)  # type: ignore[operator]


@pytest.mark.parametrize("evil", EVIL)
def test_names_of_a_file_are_identifiers_or_text(evil: str) -> None:
    tensors = {f"{evil}.weight": from_array(np.zeros((2, 3), np.float32))}
    modules = {"": Module(f"mine.{evil}"), evil: Module(LINEAR), "other": Module(f"mine.{evil}")}
    text = stub(tensors, modules)
    assert text.isascii()
    tree = ast.parse(text)
    imported = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert imported == ["import mlx.core as mx", "import mlx.nn as nn"]
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    ours = ("nn.", "super", "mx.", "Missing", "NotImplemented")
    assert all(one.isidentifier() for one in called if not one.startswith(ours)), called
    assert all(isinstance(node, ast.Import | ast.ClassDef | ast.FunctionDef) for node in tree.body)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1 << 300, "1); import os; (", ("a",)])
def test_settings_of_a_file_are_numbers_or_left_out(value: object) -> None:
    convolution = Module("torch.nn.modules.conv.Conv1d", {"stride": value})  # type: ignore[dict-item]
    tensors = {"weight": from_array(np.zeros((2, 3, 1), np.float32))}
    text = stub(tensors, {"": convolution})
    ast.parse(text)
    assert "import os" not in text


def test_modules_in_each_other_without_end_are_refused() -> None:
    path, modules = "a", {"": Module("mine.M")}
    for _ in range(100):
        modules[path] = Module("mine.M")
        path += ".a"
    with pytest.raises(LayoutError, match="deep in each other"):
        stub({f"{path}.w": from_array(np.zeros(1, np.float32))}, modules)


def test_layers_and_parameters_are_counted() -> None:
    opened = wconv.open(FIXTURES / "pickled.pt")
    found = portability(opened.tensors, opened.modules)
    assert (found.layers, found.layers_there) == (11, 10)
    assert (found.parameters, found.parameters_there) == (896, 892)
    assert [(one.class_name, one.parameters) for one in found.missing] == [("__main__.Net", 4)]


def test_the_command_writes_a_new_file_alone(tmp_path: Path) -> None:
    place = tmp_path / "stub.py"
    words = ("inspect", FIXTURES / "pickled.pt", "--for", "mlx", "--stub", place)
    done = run(*words)
    assert "10 of 11 layers, 892 of 896 parameters (99.6 %) are there" in done.stdout
    assert "not there: __main__.Net (1, 4 parameters)" in done.stdout
    before = place.read_bytes()
    again = run(*words)
    assert again.exit_code == 1
    assert "exists already" in again.stderr
    assert place.read_bytes() == before


def test_a_file_without_modules_says_so() -> None:
    done = run("inspect", FIXTURES.parent / "qwen2_5_vl", "--for", "mlx")
    assert done.exit_code == 1
    assert "names no modules" in done.stderr
