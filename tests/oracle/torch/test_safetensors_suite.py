"""safetensors' own tests of its torch functions pass with `wconv.torch` wherever they pass with torch.

They are in no wheel: `WCONV_SCRIPTS` names a directory with a checkout of the repository as `safetensors`.
`python -m tests.oracle.torch.test_safetensors_suite` writes the table.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.oracle import no_torch
from tests.shim import tables

pytestmark = pytest.mark.oracle

FILES = "pt_comparison pt_model simple handle threadable multithreaded pread_backend".split()  # noqa: SIM905
RUN = "import sys, pytest\nsys.exit(pytest.main(sys.argv[1:]))\n"


def outcomes(site: Path | None, scripts: Path, folder: Path) -> dict[str, str]:
    """What becomes of each test, with PyTorch or without."""
    place = folder / ("with" if site is None else "without")
    shutil.copytree(scripts / "safetensors" / "bindings" / "python" / "tests", place / "tests")
    for name in ("tmp", "out"):
        (place / name).mkdir()
    (place / "run.py").write_text(RUN)
    before = ["-m", "wconv.torch"] if site is not None else []
    arguments = [
        "-q",
        "-rA",
        "--tb=no",
        "-p",
        "no:cacheprovider",
        *(f"tests/test_{name}.py" for name in FILES),
    ]
    done = no_torch.run(site, [*before, "run.py", *arguments], place)
    return {name: how for how, name in re.findall(r"^(PASSED|FAILED) tests/(\S+)", done.stdout, re.MULTILINE)}


def test_what_passes_with_torch_passes(site: Path, tmp_path: Path) -> None:
    scripts = os.environ.get("WCONV_SCRIPTS")
    if not scripts:
        pytest.skip("WCONV_SCRIPTS names no checkouts")
    wanted, found = outcomes(None, Path(scripts), tmp_path), outcomes(site, Path(scripts), tmp_path)
    assert list(wanted.values()).count("PASSED") > 50
    assert {name for name in wanted if wanted[name] == "PASSED" and found.get(name) != "PASSED"} == set()


def test_the_table_says_that_all_pass() -> None:
    rows = tables.read("safetensors_suite")["rows"]
    assert len(rows) > 50
    assert all(row["wconv.torch"] == "PASSED" for row in rows if row["torch"] == "PASSED")


def main(folder: Path) -> None:
    scripts = Path(os.environ["WCONV_SCRIPTS"])
    site = no_torch.packages(folder / "site-packages")
    wanted, found = outcomes(None, scripts, folder), outcomes(site, scripts, folder)
    rows = [
        {"what": name, "torch": how, "wconv.torch": found.get(name, "missing")}
        for name, how in wanted.items()
    ]
    sys.stdout.write(f"{len(rows)} tests\n")
    tables.write(
        "safetensors_suite", {"safetensors": version("safetensors"), "torch": version("torch")}, rows
    )


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        main(Path(scratch))
