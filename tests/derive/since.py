"""From which version on the tables hold: `python -m tests.derive.since PROGRAM VERSION=DIRECTORY …`.

Each DIRECTORY holds an older version (`pip install --no-deps --target DIRECTORY mlx-lm==VERSION`). Model
types that an older one makes otherwise, or does not know, are written to the program's `since.json`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import wconv
from tests.derive import fixtures

CONSUMERS = Path(wconv.__file__).parent / "consumers"
NOT_OTHERWISE = ("a new module", "its config makes no model")
"""What says nothing of how weights are laid out."""


def changed(program: str, directory: str) -> set[str]:
    """Model types whose rules are others in the version that a directory holds, or that it does not know."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.derive", "--watch", program],
        env={**os.environ, "PYTHONPATH": directory},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line.partition(": ") for line in done.stdout.splitlines() if ": " in line]
    if not lines or not lines[-1][0].startswith(f"{program} "):
        raise SystemExit(f"{directory}: {done.stderr[-300:]}")
    told = {name for name, _, said in lines[:-1] if not said.startswith(NOT_OTHERWISE)}
    return told & fixtures.load(program).keys()


def main() -> None:
    program, *given = sys.argv[1:]
    versions = sorted(
        (one.partition("=")[::2] for one in given),
        key=lambda pair: [int(part) for part in pair[0].split(".")],
        reverse=True,
    )
    since: dict[str, str] = {}
    newer = fixtures.versions(program)[program]
    for version, directory in versions:
        for model_type in changed(program, directory):
            since.setdefault(model_type, newer)
        newer = version
    place = CONSUMERS / program.replace("-", "_") / "since.json"
    kept = {"compared": [version for version, _ in versions], "since": dict(sorted(since.items()))}
    place.write_text(json.dumps(kept, indent=1) + "\n")
    print(f"{place.name}: {len(since)} model types, back to {newer}")


if __name__ == "__main__":
    main()
