"""`--option NAME=VALUE`, and the options that were called otherwise.

Covers `layouts/options.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import wconv
from tests import example_world
from wconv.cli.options import plain_value
from wconv.cli.program import main

FOV = "fov.head.0.weight"


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def depth_pro(tmp_path: Path) -> Path:
    example_world.depth_pro(tmp_path / "depth_pro.pt")
    return tmp_path / "depth_pro.pt"


@pytest.mark.parametrize("words", [["--option", "include_fov=true"], ["--include-fov"]])
def test_an_option_of_the_layout_is_said_by_its_name(
    words: list[str], depth_pro: Path, tmp_path: Path
) -> None:
    assert "--option include_fov=true keeps it" in run(depth_pro, "--dry-run").stdout
    done = run(depth_pro, "-o", tmp_path / "out.safetensors", *words)
    assert done.exit_code == 0, done.output
    assert FOV in wconv.open(tmp_path / "out.safetensors")
    run(depth_pro, "-o", tmp_path / "without.safetensors", "--option", "include_fov=false")
    assert FOV not in wconv.open(tmp_path / "without.safetensors")


def test_an_option_that_is_not_the_layouts_is_an_error_that_names_those_there_are(depth_pro: Path) -> None:
    result = run(depth_pro, "--option", "include_fog=true")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert result.stderr.endswith("has no option 'include_fog': it has include_fov\n")
    assert run(depth_pro, "--option", "include_fov=2").exit_code == 1


@pytest.mark.parametrize("words", [["include_fov"], ["=true"], [""], ["a=1", "--option", "a=2"]])
def test_what_is_not_name_and_value_is_an_error_of_usage(words: list[str], depth_pro: Path) -> None:
    assert run(depth_pro, "--option", *words).exit_code == 2


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("12", 12),
        ("-1", -1),
        ("0.5", 0.5),
        ("1e3", 1000.0),
        ("inf", "inf"),
        ("nan", "nan"),
        ("", ""),
        ("a=b", "a=b"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_values_are_what_they_look_like(text: str, value: object) -> None:
    assert plain_value(text) == value
    assert type(plain_value(text)) is type(value)


def test_old_names_work_and_are_not_shown(depth_pro: Path) -> None:
    for words in (["--expand"], ["--include-fov"]):
        assert run(depth_pro, *words, "--dry-run").exit_code == 0
    assert run("inspect", depth_pro, "--expand").exit_code == 0
    for words in (["--help"], ["inspect", "--help"]):
        shown = run(*words).stdout
        assert "--allow-inflation" in shown
        assert "--expand" not in shown
        assert "--include-fov" not in shown
