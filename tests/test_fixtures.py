"""Fixtures are small, and say nothing of the machine that they were made on."""

from __future__ import annotations

from pathlib import Path

import pytest

FIXTURES = Path(__file__).parent.parent / "fixtures"
PLACES = (b"/root/", b"/home/", b"/Users/", b"/work/", b"/tmp/", b"site-packages")


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(FIXTURES.rglob("*")) if path.is_file() and path.suffix != ".pyc"],
    ids=lambda path: str(path.relative_to(FIXTURES)),
)
def test_a_fixture_is_small_and_names_no_machine(path: Path) -> None:
    content = path.read_bytes()
    assert len(content) < 1 << 20
    assert not [place for place in PLACES if place in content]
