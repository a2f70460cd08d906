"""No file makes wconv run code, read elsewhere, hang, fill memory or misread: see `hostile/`.

Covers `formats/json_text.py`, `formats/sources.py`, `formats/sniff.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.hostile.assemble import Code, call, get, push, put, tensor
from tests.hostile.bad_readers import BAD
from tests.hostile.cases import CASES
from tests.hostile.containers import torch_zip
from tests.hostile.once import once
from wconv.cli.program import main

ROOT = Path(__file__).parent.parent.parent
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
    def make() -> dict[str, str | None]:
        parts = [tmp_path_factory.mktemp("hostile") for _ in range(CHILDREN)]
        children = [start(part, str(number), str(CHILDREN)) for number, part in enumerate(parts)]
        return {name: fault for child in children for name, fault in finish(child).items()}

    return once(tmp_path_factory, "hostile", make)


@pytest.fixture(scope="module")
def noticed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    return once(tmp_path_factory, "bad", lambda: finish(start(tmp_path_factory.mktemp("bad"), "bad")))


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


def each_holds_each(count: int) -> Code:
    """Dicts that all hold all of them: as many ways through them as orders to name them in."""
    made = b"".join(put(Code(b"}"), at) + b"0" for at in range(count))
    pairs = b"".join(push(f"k{at}") + get(at) for at in range(count))
    return Code(made + b"".join(get(at) + b"(" + pairs + b"u0" for at in range(count)) + get(0))


@pytest.mark.parametrize("form", ["", "--json"])
@pytest.mark.parametrize(
    "beside",
    [
        each_holds_each(14),
        call("builtins", "range", 2**62),
        push({"\x1b]0;title\x07": "\x1b[2J", "\ud800": 1}),
        Code(b"}" + put(push("k" * 100_000), 0) + b"0(" + get(0) * 900 + b"tNs"),
        push([list(range(1000))] * 100),
    ],
    ids=["knotted", "endless", "escapes", "long key", "long"],
)
def test_what_a_file_says_is_shown_within_bounds(beside: Code, form: str, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(torch_zip({"state_dict": push({"w\n\x1b[2J": tensor()}), "beside": beside}))
    began = time.process_time()
    result = CliRunner().invoke(main, ["inspect", str(path), *form.split()])
    assert result.exit_code == 0, result.output
    assert time.process_time() - began < 5
    assert len(result.output) < 50_000_000
    assert all(sign.isprintable() or sign == "\n" for sign in result.output)
