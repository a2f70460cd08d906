"""What the pickles of a checkpoint name, harmless names too, and what would run."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from wconv.errors import WconvError
from wconv.examine.scan.findings import Finding
from wconv.examine.scan.judgement import level_of
from wconv.examine.scan.scan import followed

LEVELS = ("danger", "code", "harmless")

FINDINGS = 400
"""Findings that the page has."""


def pickled(files: tuple[Path, ...]) -> dict[str, Any] | None:
    """Names and findings, the worst first; None where no file holds a pickle, or it cannot be looked at."""
    names: dict[str, str] = {}
    findings: list[Finding] = []
    pickles = 0
    for file in files:
        if file.suffix == ".safetensors" or not file.is_file():
            continue
        with contextlib.suppress(WconvError, OSError):
            for one in followed(file):
                pickles += 1
                findings += one.findings
                for call in one.walk.calls:
                    level = level_of(call)
                    names[call.path] = min(level, names.get(call.path, level), key=LEVELS.index)
    if not (pickles or findings):
        return None
    findings.sort(key=lambda one: ("danger", "code", "note").index(one.level))
    return {
        "runs": any(one.level == "danger" for one in findings),
        "pickles": pickles,
        "names": [[level, name[:300]] for level in LEVELS for name in sorted(names) if names[name] == level][
            :FINDINGS
        ],
        "findings": [[one.level, one.file[:300], one.at, one.text[:1000]] for one in findings[:FINDINGS]],
        "more": max(len(findings) - FINDINGS, 0),
    }
