"""What picklescan, fickling and modelscan say of files: `other_scanners.py DIRECTORY` prints it as JSON.

DIRECTORY is made here: `dangerous` and `good` files. A file is reported where it is said to run code.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path


def by_picklescan(path: Path) -> bool:
    from picklescan import scanner

    found = scanner.scan_file_path(os.fspath(path))
    return found.infected_files > 0


def by_fickling(path: Path) -> bool:
    from fickling.analysis import Severity, check_safety
    from fickling.fickle import StackedPickle

    with path.open("rb") as file:
        return any(
            check_safety(one).severity not in (Severity.LIKELY_SAFE,) for one in StackedPickle.load(file)
        )


def by_modelscan(path: Path) -> bool:
    from modelscan.modelscan import ModelScan

    found = ModelScan().scan(path)
    return bool(found["issues"])


SCANNERS = {"picklescan": by_picklescan, "fickling": by_fickling, "modelscan": by_modelscan}


def main() -> None:
    from picklescan import scanner

    sys.path.insert(0, os.fspath(Path(__file__).parent))  # with a safe path, Python itself does not
    import corpus

    bad, good = corpus.make(Path(sys.argv[1]), scanner._unsafe_globals)
    said: dict[str, dict[str, bool]] = {}
    for name, reports in SCANNERS.items():
        said[name] = {}
        for path in (*bad, *good):
            with contextlib.redirect_stdout(sys.stderr):
                try:
                    said[name][f"{path.parent.name}/{path.name}"] = reports(path)
                except Exception:
                    said[name][f"{path.parent.name}/{path.name}"] = False
    print(json.dumps(said))


if __name__ == "__main__":
    main()
