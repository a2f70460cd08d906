"""No argument and no file makes a command hang, burst or crash: see `hostile/commands.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.command_cases import commands
from tests.hostile.commands import MEMORY, SECONDS, Command, fault_of
from tests.hostile.once import once

ROOT = Path(__file__).parent.parent.parent
NAMES = [command.name for command in commands()]


CHILDREN = 2


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    def make() -> dict[str, Any]:
        children = [start(tmp_path_factory.mktemp("commands"), part) for part in range(CHILDREN)]
        found: dict[str, Any] = {}
        for child in children:
            out, errors = child.communicate(timeout=300)
            assert child.returncode == 0, errors[-2000:]
            found.update((line["name"], line["fault"]) for line in map(json.loads, out.splitlines()))
        return found

    return once(tmp_path_factory, "commands", make)


def start(place: Path, part: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.hostile.commands", str(place), str(part), str(CHILDREN)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_no_two_have_one_name() -> None:
    assert [name for name, count in Counter(NAMES).items() if count > 1] == []


@pytest.mark.parametrize("name", NAMES)
def test_command(name: str, verdicts: dict[str, Any]) -> None:
    assert verdicts[name] is None, verdicts[name]


@pytest.mark.parametrize(
    ("code", "said", "left", "seconds", "peak"),
    [
        (0, "", [], 0.1, 0),
        (70, "Traceback (most recent call last):\n", [], 0.1, 0),
        (1, "Traceback (most recent call last):\n", [], 0.1, 0),
        (1, "wconv: one\nwconv: two\n", [], 0.1, 0),
        (1, "wconv: " + "n" * 400 + "\n", [], 0.1, 0),
        (1, "wconv: \x1b[2J\n", [], 0.1, 0),
        (1, "wconv: model.bin is damaged\n", ["out"], 0.1, 0),
        (1, "wconv: model.bin is damaged\n", [], SECONDS + 1, 0),
        (1, "wconv: model.bin is damaged\n", [], 0.1, MEMORY + 1),
        (1, "wconv: it is damaged\n", [], 0.1, 0),
    ],
)
def test_what_is_wrong_is_noticed(code: int, said: str, left: list[str], seconds: float, peak: int) -> None:
    command = Command("x", lambda directory: [], says="model.bin")
    assert fault_of(command, code, said, left, seconds, peak) is not None
    assert fault_of(command, 1, "wconv: model.bin is damaged\n", [], 0.1, 0) is None
