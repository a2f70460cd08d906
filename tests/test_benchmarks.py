"""The benchmarks measure what they say: time and anonymous memory of whole processes, goals against them."""

from __future__ import annotations

import itertools
import json
import math
import sys
from pathlib import Path

import pytest

import wconv
from tests.benchmarks import __main__ as benchmarks
from tests.benchmarks import cases, data, measure, page, report, torch_data
from tests.benchmarks.cases import CASES, Goal
from tests.benchmarks.report import Measured

HOLDS = "x = bytearray(60_000_000); import time; time.sleep(0.2)"
CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOLDS!r}])"


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("program", [HOLDS, CHILD])
def test_the_peak_holds_what_a_process_and_its_children_hold(program: str) -> None:
    peak = measure.peak_anonymous(measure.python("-c", program))
    assert peak is not None
    assert 60e6 < peak < 120e6


def test_a_failing_program_is_told_by_its_last_line() -> None:
    with pytest.raises(measure.FailedError, match="no such thing"):
        measure.spent(measure.python("-c", "raise SystemExit('first\\nno such thing')"))


def runs(*seconds: float) -> list[measure.Spent]:
    """Runs of so many seconds, of which a processor worked a half."""
    return [measure.Spent(one, one / 4, one / 4) for one in seconds]


def test_ratios_are_of_pairs_and_goals_of_what_they_say() -> None:
    measured = {"ours": Measured(runs(1, 2, 9), 30_000_000), "theirs": Measured(runs(2, 8, 10))}
    goals = (
        Goal("ours", 0.5, "theirs"),
        Goal("ours", 0.4, "theirs", "processor s"),
        Goal("ours", 20, quantity="MB"),
        Goal("ours", 3),
        Goal("ours", 0.9, quantity="processor s"),
    )
    table = list(report.lines(measured, goals))
    assert table[2] == "| ours | 2.00 | 1.00 | 1.00 (0.50 + 0.50) | 1.00 | 1.00 | 30 |"
    assert table[3] == "| theirs | 8.00 | 2.00 | 4.00 (2.00 + 2.00) | 2.00 | 2.00 |  |"
    assert table[-5] == "| ours | theirs | 0.5 | 0.5 | ≤ 0.5 | reached |"
    assert table[-4] == "| ours | theirs | 0.5 | 0.5 | ≤ 0.4 (user + system) | MISSED |"
    assert table[-3] == "| ours |  | 30 MB | | ≤ 20 MB | MISSED |"
    assert table[-2] == "| ours |  | 2 s | 1 s | ≤ 3 s | reached |"
    assert table[-1].endswith("≤ 0.9 s (user + system) | MISSED |")


def test_the_page_is_written_from_json(tmp_path: Path) -> None:
    measured = {"cp -r": Measured(runs(1, 2)), "wconv": Measured(failure="x is not installed")}
    told = report.as_json(measured, (Goal("cp -r", 3),))
    found = json.loads(json.dumps({"machine": "2 x Some", "scale": 1.0, "cases": {"copy": told}}))
    path = tmp_path / "page.md"
    path.write_text(f"a\n\n{page.BEGIN}\nold\n{page.END}\n\nb\n")
    for _ in range(2):
        page.write(found, path)
        text = path.read_text()
        assert text.startswith(f"a\n\n{page.BEGIN}\n\nMeasured on 2 x Some.")
        assert text.endswith(f"{page.END}\n\nb\n")
        assert all(line in text for line in report.lines(measured, (Goal("cp -r", 3),)))
        assert "old" not in text
    path.write_text("c")
    with pytest.raises(ValueError, match="no <!-- figures"):
        page.write(found, path)


def test_json_has_every_run() -> None:
    found = report.as_json({"ours": Measured(runs(1, 2), 5), "theirs": Measured(failure="not there")}, ())
    assert json.loads(json.dumps(found))["programs"]["ours"] == {
        "failure": None,
        "wall": [1, 2],
        "user": [0.25, 0.5],
        "system": [0.25, 0.5],
        "peak_anonymous": 5,
    }
    assert found["programs"]["theirs"]["failure"] == "not there"


def test_processor_time_is_that_of_a_process_and_its_children() -> None:
    busy = "t = __import__('time'); e = t.process_time() + 0.2\nwhile t.process_time() < e: pass"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}])"
    assert 0.2 < measure.spent(measure.python("-c", child)).processor < 2
    assert measure.machine()


@pytest.mark.parametrize(
    "name", ["cast", "copy", "small", "plan", "open", "bin", "depth-pro", "mflux", "quantize", "load"]
)
def test_each_goal_is_of_programs_of_its_case(name: str) -> None:
    case = CASES[name]
    for goal in case.goals:
        assert {goal.program, goal.against or goal.program} <= case.programs.keys()


@pytest.mark.parametrize("nbytes", [6e8, 1e9, 3e9])
def test_models_have_the_size_that_was_asked_for(nbytes: float) -> None:
    config, shapes = data.qwen_shapes(nbytes)
    assert 2 * sum(math.prod(shape) for _, shape in shapes) == pytest.approx(nbytes, rel=0.15)
    assert dict(shapes)["model.embed_tokens.weight"] == (config["vocab_size"], 3584)
    assert [*itertools.chain(*data.split(shapes, 4))] == shapes


def test_depth_pro_has_all_its_tensors() -> None:
    shapes = dict(torch_data.depth_pro_shapes())
    assert len(shapes) == 1119
    assert sum(name.startswith("fov.") for name in shapes) == 352


def test_a_case_runs_all_its_programs_and_leaves_nothing(tmp_path: Path) -> None:
    case = CASES["small"]
    source = case.make(tmp_path / "source", 0.002)
    assert len(wconv.open(source)) == 100
    ours = {name: case.programs[name] for name in ("cp -r", cases.FLOAT16)}
    measured = benchmarks.run(
        type(case)(case.make, ours, case.goals), source, tmp_path / "output", 1, memory=False
    )
    assert [(len(one.runs), one.failure) for one in measured.values()] == [(1, ""), (1, "")]
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
