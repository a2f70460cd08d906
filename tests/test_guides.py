"""What the guides for developers name is there: files, folders and pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import wconv

ROOT = Path(__file__).parent.parent
PACKAGE = Path(wconv.__file__).parent
GUIDES = sorted((ROOT / ".github").rglob("*.md"))
PLACE = re.compile(r"`((?:[\w.*-]+/)+[\w.*-]*)`")
EXAMPLES = ("build/site", "wconv/ROOM/x.py", "tests/ROOM/test_x.py", "wconv/consumers/mlx_whisper")
LINK = re.compile(r"\]\(([^)#:]+)\)")


@pytest.mark.skipif(not GUIDES, reason="these are the tests without the repository around them")
@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_what_a_guide_names_is_there(guide: Path) -> None:
    text = guide.read_text()
    for place in PLACE.findall(text):
        found = any((start / place).exists() for start in (ROOT, PACKAGE, PACKAGE.parent, guide.parent))
        assert found or place in EXAMPLES, place
    for link in LINK.findall(text):
        assert (guide.parent / link).exists(), link


def test_every_decision_is_in_the_list() -> None:
    contributing = ROOT / ".github" / "CONTRIBUTING.md"
    if contributing.exists():
        for decision in (ROOT / ".github" / "decisions").glob("*.md"):
            assert f"(decisions/{decision.name})" in contributing.read_text()
