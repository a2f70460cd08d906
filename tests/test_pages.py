"""Every code block of the README and of the pages runs as it is pasted, in the order of its page."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import wconv
from tests import example_world
from wconv.cli.program import main

README = Path(__file__).parent.parent / "README.md"
PAGES = sorted((Path(wconv.__file__).parent / "docs").glob("*.md"))
BLOCK = re.compile(
    r"^(?P<marks>(?:<!-- .* -->\n)?)```(?P<kind>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)

SHELL = ("sh", "bash", "console")
NEEDS = re.compile(r"^\s*(?:import|from) (jax|mflux)\b", re.MULTILINE)
"""What only the oracle layer has installed."""


def blocks(path: Path) -> Iterator[tuple[str, str, str]]:
    """The marks before each block, its language and its text."""
    for found in BLOCK.finditer(path.read_text()):
        yield found["marks"], found["kind"], found["code"]


def commands(kind: str, code: str) -> Iterator[str]:
    """The commands of a block of shell; in a console only what follows the prompt."""
    for line in code.splitlines():
        if kind != "console":
            yield line
        elif line.startswith("$ "):
            yield line.removeprefix("$ ")


def run(line: str) -> None:
    """One command as a shell would run it, where the words are `wconv` or `python`."""
    words = shlex.split(line, comments=True)
    if not words:
        return
    into = None
    if ">" in words:
        at = words.index(">")
        into, words = Path(words[at + 1]), words[:at]
    if words[0] == "python":
        subprocess.run([sys.executable, *words[1:]], check=True, env=with_checkout())
        return
    assert words[0] == "wconv", line
    result = CliRunner().invoke(main, words[1:])
    assert result.exit_code == 0, f"{line}\n{result.output}"
    if into is not None:
        into.write_text(result.stdout)


def with_checkout() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(wconv.__file__).parent.parent)}


def test_every_page_with_examples_has_something_to_run_them_on() -> None:
    for path in (README, *PAGES):
        kinds = {kind for _, kind, _ in blocks(path)}
        if kinds & {"python", *SHELL}:
            assert path.stem in example_world.MAKERS, path


@pytest.mark.parametrize("path", [README, *PAGES], ids=lambda path: path.stem)
def test_the_examples_run_as_pasted(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    example_world.prepare(path.stem, tmp_path)
    names: dict[str, Any] = {}
    if path.stem == "training":
        names["model"] = Holder()
    for marks, kind, code in blocks(path):
        if kind == "toml":
            Path("my_model.toml").write_text(code)
        elif kind in SHELL and not marks:  # the marked ones are those that install: CI runs them
            for line in commands(kind, code):
                run(line)
        elif kind == "python" and not NEEDS.search(code):
            if path.stem == "rules":
                example_world.plain_model(fresh(tmp_path / "My-Model"))
                fresh(tmp_path / "My-Model-MLX")
            exec(code, names)


def fresh(path: Path) -> Path:
    """A path at which there is nothing any more."""
    shutil.rmtree(path, ignore_errors=True)
    return path


class Holder:
    """Stands for a model of the reader's: takes the weights that it is given."""

    def load_weights(self, path: str) -> None:
        assert wconv.open(path).tensors
