"""Measures wconv beside other programs: whole processes, run in turn, on data that it makes and removes.

    python -m tests.benchmarks cast copy --runs 7
    python -m tests.benchmarks cast small --scale 0.3 --runs 3 --json my.json
    python -m tests.benchmarks --publish            # what the pages show, and writes them

Timed runs and the run that watches memory are separate. Outputs are removed between runs, outside of
the time. Data are read once before each run, so that every program finds them in the page cache. On a
machine that does other work, trust user and system time, and the median of ratios. Programs that take
long are run in the first turns only; one that takes five minutes is ended.
"""

from __future__ import annotations

import argparse
import compileall
import datetime
import importlib.util
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks import data, measure, page, report
from tests.benchmarks.case import Case
from tests.benchmarks.cases import CASES
from tests.benchmarks.report import Measured


def main() -> None:
    options = _parser().parse_args()
    if options.page:
        page.write(json.loads(options.page.read_text()))
        return
    if options.publish and options.scale != 1:
        raise SystemExit("--publish is for data of full size: leave --scale out")
    # gigabytes of data are removed then, too
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    # as pip does when it installs, also where the environment forbids Python to
    compileall.compile_dir(measure.ROOT / "wconv", quiet=1)
    found: dict[str, Any] = {"machine": measure.machine(), "scale": options.scale, "cases": {}}
    file = options.json or (page.FIGURES if options.publish else None)
    if file and file.exists():
        before = json.loads(file.read_text())
        if all(before[key] == found[key] for key in ("machine", "scale")):
            found["cases"].update(before["cases"])
    print(found["machine"])
    names = options.cases or [name for name in CASES if CASES[name].published or not options.publish]
    for name, measured in measure_all(names, options):
        case = CASES[name]
        print("\n".join(report.lines(measured, case.goals)), flush=True)
        found["cases"][name] = {
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            **report.as_json(measured, case.goals),
        }
        if file:
            file.write_text(json.dumps(found, indent=1) + "\n")
        if options.publish:
            page.write(found)


def measure_all(names: list[str], options: argparse.Namespace) -> Iterator[tuple[str, dict[str, Measured]]]:
    """Each case's runs. Neighbouring cases of the same data share them."""
    made: tuple[Callable[[Path, float], Path], Path, Path] | None = None
    try:
        for name in names:
            case, began = CASES[name], time.monotonic()
            print(f"\n## {name}\n\n{case.about}\n", flush=True)
            if lacking := _lacking(case.needs):
                print(f"Not measured: making the data needs {lacking}.")
                continue
            if made is None or made[0] is not case.make:
                if made is not None:
                    shutil.rmtree(made[1])
                place = Path(tempfile.mkdtemp(prefix="wconv-benchmark-", dir=options.directory))
                made = case.make, place, place
                made = case.make, place, case.make(place / "source", options.scale)
            runs = case.runs if options.runs is None else options.runs
            measured = run(case, made[2], made[1] / "output", runs, memory=not options.no_memory)
            print(f"Took {time.monotonic() - began:.0f} s.\n")
            yield name, measured
    finally:
        if made is not None:
            shutil.rmtree(made[1])


def run(case: Case, source: Path, output: Path, runs: int, *, memory: bool) -> dict[str, Measured]:
    """Runs each program so many times, in turns of another order each: some leave the memory warm."""
    order = random.Random(0)
    measured = {name: Measured(failure=_absence(program.needs)) for name, program in case.programs.items()}
    for turn in range(runs + memory):
        for name in order.sample([*case.programs], len(case.programs)):
            one, program = measured[name], case.programs[name]
            if one.failure or program.runs <= turn < runs:
                continue
            argv = program.command(source / program.source, output)
            data.warm(source / program.source)
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


def _durations() -> str:
    """About how long each case takes, for the help."""
    published = sum(case.seconds for case in CASES.values() if case.published)
    rows = "\n".join(
        f"  {name:12} {case.seconds:4} s, {case.runs} of each{'' if case.published else ', not published'}"
        for name, case in CASES.items()
    )
    return (
        f"cases, about how long each takes on two cores with its data, and its timed runs:\n{rows}\n\n"
        f"--publish takes about {-(-published // 60)} minutes, and 10 GB on the disk meanwhile."
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=__doc__,
        epilog=_durations(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], metavar="CASE", help="all when absent")
    parser.add_argument("--runs", type=int, help="timed runs of each program (default: as below)")
    parser.add_argument("--scale", type=float, default=1.0, help="size of the data (default: 1, 3 GB)")
    parser.add_argument("--directory", type=Path, help="where data go (default: the system's temporary one)")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write every run to a file, too; others in it stay"
    )
    parser.add_argument(
        "--publish",
        action="store_true",
        help="measure what the pages show, or CASEs of it, and write figures.json, README.md and speed.md",
    )
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="measure nothing: write the pages of such a file"
    )
    parser.add_argument("--no-memory", action="store_true", help="leave out the run that watches memory")
    return parser


if __name__ == "__main__":
    main()
