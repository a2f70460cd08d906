"""The test of a module is found by its path: `tests/tensors/test_casts.py` for `wconv/tensors/casts.py`.

A module that has no test file of its own is covered by one whose docstring says so, in a sentence such as
"Covers `formats/zip/`, `formats/sources.py`."; a folder stands for all that is in it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import wconv

PACKAGE = Path(wconv.__file__).parent
TESTS = Path(__file__).parent
SENTENCE = re.compile(r"Covers ((?:`[^`]+`,?\s*)+)\.")


def covered() -> Iterator[tuple[Path, str]]:
    """Test files, and what their docstrings say that they cover."""
    for path in sorted(TESTS.rglob("test_*.py")):
        found = SENTENCE.search(ast.get_docstring(ast.parse(path.read_text())) or "")
        if found is not None and path != Path(__file__):
            for place in re.findall(r"`([^`]+)`", found[1]):
                yield path, place


COVERED = tuple(covered())


def holds(place: str, module: str) -> bool:
    """Whether a place in a docstring is a module or a folder that it is in."""
    if not place.endswith("/"):
        return place == module
    folder = place.rstrip("/")
    return any(str(parent) != "." and parent.match(folder) for parent in PurePosixPath(module).parents)


def modules() -> Iterator[str]:
    """The modules in rooms, by their paths in the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE)
        if len(place.parts) > 1 and path.name != "__init__.py":
            yield place.as_posix()


def has_own_test(module: str) -> bool:
    """Whether a test file has the module's name, in its room or one that is nearer."""
    place = PurePosixPath(module)
    rooms = [folder for folder in place.parents if str(folder) != "."]
    return any((TESTS / room / f"test_{place.stem}.py").exists() for room in rooms)


def test_every_module_has_a_test() -> None:
    missing = [
        module
        for module in modules()
        if not has_own_test(module) and not any(holds(place, module) for _, place in COVERED)
    ]
    assert not missing, "write tests of these names, or say in the docstring of a test that it covers them"


def test_what_is_said_to_be_covered_is_there() -> None:
    known = list(modules())
    gone = [(path.name, place) for path, place in COVERED if not any(holds(place, one) for one in known)]
    assert not gone, "mend the docstrings of these tests"
