"""data-apis/array-api-tests: what torch passes, `wconv.torch` passes too, or a reason stands here.

The suite is in no registry: `WCONV_ARRAY_API_TESTS` names a checkout of it, with ndindex beside its tests or
installed. `python -m tests.oracle.torch.test_array_api` writes the table.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.oracle import no_torch
from tests.shim import tables

pytestmark = pytest.mark.oracle

LEFT_OUT = ("inspection_functions", "linalg", "fft")
"""Files that torch cannot run (the first), or that compute: linear algebra and transforms."""

ARGUMENTS = "--max-examples=2 --disable-deadline --hypothesis-seed=0 -q -rA --tb=no -p no:cacheprovider"
WITHOUT_SHRINKING = (
    "import hypothesis.internal.conjecture.engine as engine, sys, pytest; engine.MAX_SHRINKS = 0;"
    " sys.exit(pytest.main(sys.argv[1:]))"
)

INSPECTED = "its names can be inspected, and are torch's (dim, keepdim); axis= and keepdims= are taken too"
REASONS = {
    r"test_extension_func_signature\[(fft|linalg)\..*": "computes: transforms and linear algebra",
    r"test_func_signature\[(all|any|argmax|argmin|argsort|mean|sort|stack|std|sum|var)\]": INSPECTED,
    r"test_func_signature\[(conj|from_dlpack)\]": "its names can be inspected, and are torch's",
    r"test_array_method_signature\[__dlpack__\]": "takes any argument, and hands it to numpy",
}
"""What torch passes and `wconv.torch` does not, and why."""


def passed(suite: Path, module: str) -> tuple[set[str], str]:
    """The tests that a module passes, by name, and what pytest says at the end."""
    ignored = [f"--ignore=array_api_tests/test_{name}.py" for name in LEFT_OUT]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_SHRINKING, *ARGUMENTS.split(), *ignored, "array_api_tests"],
        cwd=suite,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(no_torch.ROOT), os.environ.get("PYTHONPATH", ""), str(suite)]),
            "ARRAY_API_TESTS_MODULE": module,
            "ARRAY_API_TESTS_VERSION": "2023.12",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    names = set(re.findall(r"^PASSED array_api_tests/\w+\.py::(.+)$", done.stdout, re.MULTILINE))
    assert names, done.stdout[-2000:] + done.stderr[-2000:]
    return names, done.stdout.splitlines()[-1]


def reason(name: str) -> str | None:
    return next((said for pattern, said in REASONS.items() if re.fullmatch(pattern, name)), None)


def compared(suite: Path) -> tuple[set[str], set[str]]:
    return passed(suite, "torch")[0], passed(suite, "wconv.torch")[0]


def test_what_torch_passes_is_passed_or_has_a_reason() -> None:
    home = os.environ.get("WCONV_ARRAY_API_TESTS")
    if not home:
        pytest.skip("WCONV_ARRAY_API_TESTS names no checkout of array-api-tests")
    wanted, found = compared(Path(home))
    assert len(wanted) > 900
    assert [name for name in sorted(wanted - found) if reason(name) is None] == []


def test_the_table_has_a_reason_for_each_test_that_only_torch_passes() -> None:
    rows = tables.read("array_api")["rows"]
    assert len(rows) > 900
    assert [row for row in rows if not row["passed"] and row.get("reason") != reason(row["what"])] == []


def main() -> None:
    import torch

    suite = Path(os.environ["WCONV_ARRAY_API_TESTS"])
    wanted, found = compared(suite)
    rows = []
    for name in sorted(wanted):
        why = {} if name in found else {"reason": reason(name)}
        rows.append({"what": name, "passed": name in found, **why})
        if name not in found and reason(name) is None:
            sys.stdout.write(f"{name}: no reason\n")
    sys.stdout.write(
        f"torch {len(wanted)}, of them wconv.torch {len(wanted & found)}; only it {len(found - wanted)}\n"
    )
    tables.write(
        "array_api", {"torch": torch.__version__, "array API": "2023.12", "suite": "2026-04-03"}, rows
    )


if __name__ == "__main__":
    main()
