"""Measures wconv beside other programs: whole processes, run in turn, on data that it makes and removes.

    python -m tests.benchmarks                      # every case: 3 GB models, some minutes
    python -m tests.benchmarks cast copy --runs 7
    python -m tests.benchmarks cast small --scale 0.3 --runs 3 --json figures.json
    python -m tests.benchmarks --page figures.json  # writes them into wconv/docs/speed.md

Timed runs and the run that watches memory are separate. Outputs are removed between runs, outside of
the time. Data are read once before each run, so that every program finds them in the page cache. On a
machine that does other work, trust user and system time, and the median of ratios.
"""

from __future__ import annotations

import argparse
import compileall
import importlib.util
import json
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks import data, measure, page, report
from tests.benchmarks.cases import CASES, Case
from tests.benchmarks.report import Measured


def main() -> None:
    options = _parser().parse_args()
    if options.page:
        page.write(json.loads(options.page.read_text()))
        return
    # as pip does when it installs, also where the environment forbids Python to
    compileall.compile_dir(measure.ROOT / "wconv", quiet=1)
    found: dict[str, Any] = {"machine": measure.machine(), "scale": options.scale, "cases": {}}
    if options.json and options.json.exists():
        before = json.loads(options.json.read_text())
        if all(before[key] == found[key] for key in ("machine", "scale")):
            found["cases"].update(before["cases"])
    print(found["machine"])
    for name in options.cases or CASES:
        case = CASES[name]
        print(f"\n## {name}\n\n{case.about}\n", flush=True)
        if lacking := _lacking(case.needs):
            print(f"Not measured: making the data needs {lacking}.")
            continue
        place = Path(tempfile.mkdtemp(prefix="wconv-benchmark-", dir=options.directory))
        try:
            source = case.make(place / "source", options.scale)
            measured = run(case, source, place / "output", options.runs, memory=not options.no_memory)
        finally:
            shutil.rmtree(place)
        print("\n".join(report.lines(measured, case.goals)), flush=True)
        found["cases"][name] = report.as_json(measured, case.goals)
        if options.json:
            options.json.write_text(json.dumps(found, indent=1) + "\n")


def run(case: Case, source: Path, output: Path, runs: int, *, memory: bool) -> dict[str, Measured]:
    """Runs each program so many times, in turns of another order each: some leave the memory warm."""
    order = random.Random(0)
    measured = {name: Measured(failure=_absence(program.needs)) for name, program in case.programs.items()}
    for turn in range(runs + memory):
        for name in order.sample([*case.programs], len(case.programs)):
            one = measured[name]
            if one.failure:
                continue
            program = case.programs[name]
            argv = program.command(source, output)
            data.warm(source)
            try:
                if turn < runs:
                    one.runs.append(measure.spent(argv, program.environment))
                else:
                    one.anonymous = measure.peak_anonymous(argv, program.environment)
            except measure.FailedError as error:
                one.failure = f"failed: {error}"
            remove_outputs(output)
    return measured


def remove_outputs(output: Path) -> None:
    """Removes the output, whatever its suffix, and what an interrupted run left beside it."""
    for path in output.parent.glob(output.name + "*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _lacking(packages: tuple[str, ...]) -> str:
    return ", ".join(name for name in packages if importlib.util.find_spec(name) is None)


def _absence(packages: tuple[str, ...]) -> str:
    lacking = _lacking(packages)
    return f"{lacking} is not installed" if lacking else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each program (default: 5)")
    parser.add_argument("--scale", type=float, default=1.0, help="size of the data (default: 1, 3 GB)")
    parser.add_argument("--directory", type=Path, help="where data go (default: the system's temporary one)")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write every run to a file, too; others in it stay"
    )
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="measure nothing: write such a file's figures"
    )
    parser.add_argument("--no-memory", action="store_true", help="leave out the run that watches memory")
    return parser


if __name__ == "__main__":
    main()
