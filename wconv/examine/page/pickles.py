"""What the pickles of a checkpoint name, harmless names too, and what would run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wconv.errors import WconvError
from wconv.examine.scan.judgement import level_of
from wconv.examine.scan.places import Oddity, places
from wconv.examine.scan.scan import scan
from wconv.examine.scan.walk import walk
from wconv.formats.sources import FileSource

LEVELS = ("danger", "code", "harmless")

FINDINGS = 400
"""Findings that the page has."""


def pickled(files: tuple[Path, ...]) -> dict[str, Any] | None:
    """Names and findings, the worst first; None where no file holds a pickle, or it cannot be looked at.

    Of pickles that lie in others, the findings are told, and their harmless names are not.
    """
    names: dict[str, str] = {}
    findings: list[dict[str, Any]] = []
    pickles, runs = 0, False
    for file in files:
        if file.suffix == ".safetensors" or not file.is_file():
            continue
        try:
            found = scan(file)
            for place in places(FileSource(str(file))):
                if not isinstance(place, Oddity):
                    for call in walk(place.source, 0).calls:
                        level = level_of(call)
                        worse = min(level, names.get(call.path, level), key=LEVELS.index)
                        names[call.path] = worse
        except (WconvError, OSError):
            continue
        runs = runs or found.runs
        pickles += found.pickles
        findings += [one.to_dict() for one in found.findings]
    if not (pickles or findings):
        return None
    findings.sort(key=lambda one: ("danger", "code", "note").index(one["level"]))
    return {
        "runs": runs,
        "pickles": pickles,
        "names": [[level, name[:300]] for level in LEVELS for name in sorted(names) if names[name] == level][
            :FINDINGS
        ],
        "findings": [
            [one["level"], one["file"][:300], one["at"], one["text"][:1000]] for one in findings[:FINDINGS]
        ],
        "more": max(len(findings) - FINDINGS, 0),
    }
