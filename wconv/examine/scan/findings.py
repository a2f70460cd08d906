"""What a scan finds, as a line, as plain data, and as SARIF, which code hosts and editors show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

LEVELS = {"danger": "error", "code": "warning", "note": "note"}
"""Our levels as SARIF calls them."""

SARIF = "https://json.schemastore.org/sarif-2.1.0.json"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that whoever loads the file should know.

    Attributes:
        rule: what it is: a dotted name that a pickle asks for, or a word such as "auto_map".
        level: "danger": code of the file's choice would run; "code": a package's own code would; "note".
        file: in which file, and where within it.
        text: one sentence, or the call as text.
        at: the byte of the pickle, where it is in one.
    """

    rule: str
    level: Literal["danger", "code", "note"]
    file: str
    text: str
    at: int = 0

    def line(self) -> str:
        """The finding as the command prints it: level, file, byte, and at most 240 characters of the text."""
        place = f" at byte {self.at:,}" if self.at else ""
        return f"{self.level:7} {self.file}{place}: {self.text[:240]}"

    def to_dict(self) -> dict[str, Any]:
        """Its fields by name, for JSON."""
        return asdict(self)


def sarif(findings: Sequence[Finding]) -> dict[str, Any]:
    """Findings as one run in SARIF 2.1.0."""
    from wconv import __version__

    rules = {finding.rule: finding.level for finding in findings}
    return {
        "$schema": SARIF,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "wconv scan",
                        "version": __version__,
                        "rules": [
                            {"id": rule, "defaultConfiguration": {"level": LEVELS[level]}}
                            for rule, level in rules.items()
                        ],
                    }
                },
                "results": [
                    {
                        "ruleId": finding.rule,
                        "level": LEVELS[finding.level],
                        "message": {"text": finding.text},
                        "locations": [
                            {
                                "physicalLocation": {
                                    "artifactLocation": {
                                        "uri": finding.file.split(":")[0].replace(" ", "%20")
                                    },
                                    "region": {"byteOffset": finding.at, "byteLength": 1},
                                },
                                "logicalLocations": [{"fullyQualifiedName": finding.file}],
                            }
                        ],
                    }
                    for finding in findings
                ],
            }
        ],
    }
