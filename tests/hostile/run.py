"""The guarded process: `python -m tests.hostile.run DIRECTORY PART OF` prints one JSON line per case.

`python -m tests.hostile.run DIRECTORY bad` runs readers that must be caught over a good file, and the usual
unpickler over the cases that are alive, to show that the guard and the judge can fail.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import resource
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from tests.hostile import good
from tests.hostile.bad_readers import BAD
from tests.hostile.case import Case, inert
from tests.hostile.cases import CASES
from tests.hostile.guard import Guard
from tests.hostile.judge import MEMORY, Read, judge, peak
from wconv import formats
from wconv.checkpoints import open as opening
from wconv.errors import WconvError
from wconv.formats.contents import Contents

LOOKING_UP = frozenset({"pickle.find_class"})


def main() -> None:
    directory, part, *of = sys.argv[1:]
    guard = Guard()
    _warm_up(Path(directory) / "warm-up")
    if part == "bad":
        _run_bad(Path(directory), guard)
    else:
        _run(CASES[int(part) :: int(of[0])], Path(directory), guard)


def _run(cases: Iterable[Case], directory: Path, guard: Guard) -> None:
    placed = [(case, _place(case, directory)) for case in cases]
    limit_memory()
    for case, path in placed:
        began = time.perf_counter()
        fault = judge(case, path, read_directory if case.directory else read_file, guard)
        _print(case.name, fault, seconds=round(time.perf_counter() - began, 3), peak=peak() >> 20)


def _run_bad(directory: Path, guard: Guard) -> None:
    benign = inert("benign", good.files()["zip"], seconds=1.0)
    path = _place(benign, directory)
    live = [(case, _place(case, directory)) for case in CASES if case.live]
    limit_memory()
    for name, read in BAD.items():
        _print(name, judge(benign, path, read, guard))
    for case, file in live:
        _print(f"live: {case.name}", _what_ran(file, guard))


def _what_ran(file: Path, guard: Guard) -> str | None:
    """What the standard library's unpickler does for the file, beyond looking up names."""
    data = file.read_bytes()
    with contextlib.suppress(BaseException), guard.armed(file.parent, also=LOOKING_UP):
        pickle.loads(data)
    return guard.record[0] if guard.record else None


def read_file(path: Path) -> Contents:
    return formats.open_file(str(path))


def read_directory(path: Path) -> Contents:
    opened = opening.open(path)
    return Contents(opened.format, opened.tensors, opened.metadata, opened.skipped, opened.notes, opened.ties)


def _warm_up(directory: Path) -> None:
    """Imports whatever the readers import late, by reading every kind of file once."""
    files = {**good.files(), **good.NAMED}
    for name, data in files.items():
        _try(read_file, _place(inert(f"warm-{name}", data), directory))
    for case in good.cases():
        _try(read_directory if case.directory else read_file, _place(case, directory))


def _try(read: Read, path: Path) -> None:
    try:
        for tensor in read(path).tensors.values():
            tensor.numpy()
    except WconvError:
        pass


def _place(case: Case, directory: Path) -> Path:
    own = directory / case.name.replace("/", "_")[:100]
    own.mkdir(parents=True)
    return case.make(own)


def limit_memory() -> None:
    """Lets this process map `MEMORY` more than it has now, where the system counts that (Linux)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _print(name: str, fault: str | None, **measured: float) -> None:
    print(json.dumps({"name": name, "fault": fault, **measured}), flush=True)


if __name__ == "__main__":
    main()
