"""No file makes wconv run code, read elsewhere, hang, fill memory or misread: see `hostile/`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.hostile.bad_readers import BAD
from tests.hostile.cases import CASES

ROOT = Path(__file__).parent.parent
CHILDREN = 2
PATIENCE = 120
"""Seconds after which a child that hangs outside of Python is killed."""


def start(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.hostile.run", str(directory), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(child: subprocess.Popen[str]) -> dict[str, str | None]:
    """Case → what went wrong, for the cases that the child came to."""
    try:
        out, errors = child.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()
        out, errors = child.communicate()
    lines = [json.loads(line) for line in out.splitlines()]
    if child.returncode:
        lines.append({"name": "the child", "fault": f"ended with {child.returncode}: {errors[-2000:]}"})
    return {line["name"]: line["fault"] for line in lines}


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    parts = [tmp_path_factory.mktemp("hostile") for _ in range(CHILDREN)]
    children = [start(part, str(number), str(CHILDREN)) for number, part in enumerate(parts)]
    return {name: fault for child in children for name, fault in finish(child).items()}


@pytest.fixture(scope="module")
def noticed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    return finish(start(tmp_path_factory.mktemp("bad"), "bad"))


def test_there_are_enough_cases_and_no_two_of_a_name() -> None:
    assert sum(case.expects == "refused" for case in CASES) >= 150
    assert [name for name, count in Counter(case.name for case in CASES).items() if count > 1] == []


@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_case(name: str, verdicts: dict[str, str | None]) -> None:
    assert name in verdicts, f"not reached: {verdicts.get('the child')}"
    assert verdicts[name] is None, verdicts[name]


@pytest.mark.parametrize("name", BAD)
def test_a_bad_reader_is_noticed(name: str, noticed: dict[str, str | None]) -> None:
    assert noticed.get(name), noticed.get("the child")


@pytest.mark.parametrize("name", [case.name for case in CASES if case.live])
def test_the_payload_would_run_in_the_standard_unpickler(name: str, noticed: dict[str, str | None]) -> None:
    assert noticed.get(f"live: {name}"), noticed.get("the child")
