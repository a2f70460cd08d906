"""The benchmarks measure what they say: time and anonymous memory of whole processes, goals against them."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

import wconv
from tests.benchmarks import __main__ as benchmarks
from tests.benchmarks import cases, data, measure, page, report, torch_data
from tests.benchmarks.case import Case, Goal, Program
from tests.benchmarks.cases import CASES
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


def test_a_program_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "LONGEST", 0.2)
    for look in (measure.spent, measure.peak_anonymous):
        with pytest.raises(measure.FailedError, match=r"ended after 0.2 s"):
            look(measure.python("-c", "import time; time.sleep(20)"))


def test_what_takes_long_is_run_in_the_first_turns(tmp_path: Path) -> None:
    often = Program(lambda src, out: measure.python("-c", "0"))
    case = Case(data.qwen, {"often": often, "seldom": cases.few(often, 1)}, (), 1)
    measured = benchmarks.run(case, tmp_path, tmp_path / "output", 2, memory=False)
    assert [len(one.runs) for one in measured.values()] == [2, 1]
    lines = list(report.lines(measured, (Goal("often", 1e9, "seldom"),)))
    assert lines[-1].endswith("reached |")


def test_cases_of_the_same_data_share_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def make(path: Path, scale: float) -> Path:
        path.mkdir()
        made.append(path)
        return path

    nothing = Program(lambda src, out: measure.python("-c", "0"))
    shared = {name: Case(make, {"x": nothing}, (), 1) for name in ("one", "two")}
    other = Case(lambda path, scale: make(path, scale), {"x": nothing}, (), 1)
    monkeypatch.setattr(benchmarks, "CASES", {**shared, "other": other})
    options = argparse.Namespace(directory=tmp_path, scale=1.0, runs=1, no_memory=True)
    found = [name for name, _ in benchmarks.measure_all(["one", "two", "other"], options)]
    assert found == ["one", "two", "other"]
    assert len(made) == 2
    assert not list(tmp_path.iterdir())


def test_the_help_says_how_long_each_case_takes() -> None:
    text = benchmarks._parser().format_help()
    assert all(f"  {name} " in text for name in CASES)
    assert sum(case.seconds for case in CASES.values() if case.published) <= 20 * 60


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


def test_the_pages_are_written_from_json(tmp_path: Path) -> None:
    measured = {"cp -r": Measured(runs(1, 2)), cases.SAME: Measured(failure="x is not installed")}
    told = {"date": "2026-01-02", **report.as_json(measured, (Goal("cp -r", 3),))}
    plan = {name: Measured(runs(4, 1.5), 7_000_000) for name in CASES["plan"].programs}
    planned = {"date": "2026-01-03", **report.as_json(plan, ())}
    found = {"machine": "2 x Some", "scale": 1.0, "cases": {"plan": planned, "copy": told}}
    found = json.loads(json.dumps(found))
    path, readme = tmp_path / "page.md", tmp_path / "README.md"
    for file in (path, readme):
        file.write_text(f"a\n\n{page.BEGIN}\nold\n{page.END}\n\nb\n")
    for _ in range(2):
        page.write(found, path, readme)
        for file in (path, readme):
            text = file.read_text()
            assert text.startswith(f"a\n\n{page.BEGIN}\n\nMeasured on 2 x Some.")
            assert text.endswith(f"{page.END}\n\nb\n")
            assert "old" not in text
        assert all(line in path.read_text() for line in report.lines(measured, (Goal("cp -r", 3),)))
        assert "**copy**, medians of 2 runs, 2026-01-02." in path.read_text()
        rows = [line for line in readme.read_text().splitlines() if line.startswith("| ")]
        assert rows[1:] == ["| 700 GB in 100,000 tensors, planned | 2.75 s | 1.38 s | 7 MB |  |"]
    path.write_text("c")
    with pytest.raises(ValueError, match=r"page.md has no <!-- figures"):
        page.write(found, path, readme)


def test_the_pages_show_the_figures_that_were_measured() -> None:
    """`python -m tests.benchmarks --page tests/benchmarks/figures.json` writes them anew."""
    found = json.loads(page.FIGURES.read_text())
    for path, told in ((page.PAGE, page.lines(found)), (page.README, page.summary(found))):
        text = path.read_text()
        assert page.replaced(text, told, path.name) == text


@pytest.mark.parametrize("row", page.ROWS, ids=lambda row: row[0])
def test_each_row_of_the_readme_is_of_programs_of_a_case(row: Any) -> None:
    _, name, ours, others = row
    assert CASES[name].published
    assert {ours, *others} <= CASES[name].programs.keys()


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


@pytest.mark.parametrize("name", CASES)
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
        dataclasses.replace(case, programs=ours), source, tmp_path / "output", 1, memory=False
    )
    assert [(len(one.runs), one.failure) for one in measured.values()] == [(1, ""), (1, "")]
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
