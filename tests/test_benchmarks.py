"""The benchmarks measure what they say: time and anonymous memory of whole processes, goals against them."""

from __future__ import annotations

import itertools
import math
import sys
from pathlib import Path

import pytest

import wconv
from tests.benchmarks import __main__ as benchmarks
from tests.benchmarks import data, measure, report, torch_data
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
        measure.seconds(measure.python("-c", "raise SystemExit('first\\nno such thing')"))


def test_ratios_are_of_medians_and_of_pairs() -> None:
    measured = {"ours": Measured([1.0, 2.0, 9.0], 30_000_000), "theirs": Measured([2.0, 8.0, 10.0])}
    goals = (Goal("ours", 0.5, "theirs"), Goal("ours", 20, quantity="MB"), Goal("ours", 3))
    lines = list(report.lines(measured, goals))[-3:]
    assert lines[0] == "| ours | theirs | 0.250 | 0.500 | ≤ 0.5 | reached |"
    assert "30 MB" in lines[1]
    assert lines[1].endswith("MISSED |")
    assert "2 s" in lines[2]


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
    ours = {name: case.programs[name] for name in ("cp -r", "wconv --dtype float16")}
    measured = benchmarks.run(
        type(case)(case.make, ours, case.goals), source, tmp_path / "output", 1, memory=False
    )
    assert [(len(one.seconds), one.failure) for one in measured.values()] == [(1, ""), (1, "")]
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
