"""`wconv scan` beside three other scanners: it reports what any of them does, and no good file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import wconv
from tests.oracles import directory_of, run_script

pytestmark = pytest.mark.oracle

HERE = Path(__file__).parent
PAGE = Path(wconv.__file__).parent / "docs" / "know.md"


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bool]]:
    """Of each scanner, which files it reports."""
    directory = tmp_path_factory.mktemp("corpus")
    script = HERE / "other_scanners.py"
    said = json.loads(run_script(script, str(directory), beside=directory_of("scanners")).splitlines()[-1])
    said["wconv"] = {name: wconv.scan(directory / name).runs for name in said["picklescan"]}
    return said


def test_whatever_another_reports_is_reported(verdicts: dict[str, dict[str, bool]]) -> None:
    for name in verdicts["wconv"]:
        by = [scanner for scanner, said in verdicts.items() if said[name] and scanner != "wconv"]
        if name.startswith("dangerous/"):
            assert verdicts["wconv"][name] or not by, f"{name} is reported by {by}"


def test_no_good_file_is_reported(verdicts: dict[str, dict[str, bool]]) -> None:
    assert not [name for name, found in verdicts["wconv"].items() if found and name.startswith("good/")]


def test_the_table_of_the_page_is_what_was_found(verdicts: dict[str, dict[str, bool]]) -> None:
    assert table(verdicts) in PAGE.read_text()


def table(verdicts: dict[str, dict[str, bool]]) -> str:
    """The table of the page."""
    names = list(verdicts["wconv"])
    bad = [name for name in names if name.startswith("dangerous/")]
    good = [name for name in names if name.startswith("good/")]
    rows = [f"| | of {len(bad)} dangerous files | of {len(good)} good files |", "|---|---|---|"]
    for scanner in ("wconv", "picklescan", "fickling", "modelscan"):
        said = verdicts[scanner]
        counts = (sum(said[name] for name in bad), sum(said[name] for name in good))
        rows.append(f"| {scanner} | {counts[0]} | {counts[1]} |")
    return "\n".join(rows)
