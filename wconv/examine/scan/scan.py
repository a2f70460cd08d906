"""`scan`: what a file or a directory would do if another program loaded it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wconv.errors import FormatError, WconvError
from wconv.examine.scan import directory
from wconv.examine.scan.findings import Finding, sarif
from wconv.examine.scan.judgement import level_of
from wconv.examine.scan.places import Oddity, Place, may_be_pickle, places
from wconv.examine.scan.walk import Step, Walk, walk
from wconv.formats.sources import FileSource, Source
from wconv.wording import fitted, plural

DEPTH = 4
"""Pickles within pickles that are followed."""

PICKLES = 1000
"""Pickles that follow each other in one file."""

SHOWN = 50
"""Findings that people are shown; JSON has all."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What was found.

    Attributes:
        path: what was looked at.
        files: how many files were.
        pickles: how many pickles' programs were followed.
        findings: the worst first.

    Example:
        >>> wconv.scan("model.ckpt").runs
        False
    """

    path: Path
    files: int
    pickles: int
    findings: tuple[Finding, ...]

    def __repr__(self) -> str:
        return fitted(f"<Scan of {self.path}: {plural(len(self.findings), 'finding')}>")

    @property
    def runs(self) -> bool:
        """Whether code that the files choose would run where they are loaded."""
        return any(one.level == "danger" for one in self.findings)

    def lines(self) -> Iterator[str]:
        """What people are shown."""
        for finding in self.findings[:SHOWN]:
            yield finding.line()
        if len(self.findings) > SHOWN:
            yield f"and {plural(len(self.findings) - SHOWN, 'finding')} more (--json has all)"
        looked = f"{plural(self.files, 'file')}, {plural(self.pickles, 'pickle')} looked at"
        if self.runs:
            yield f"{self.path}: would run code where other programs load it ({looked})"
        elif self.findings:
            yield f"{self.path}: runs nothing of its own choice; see above for what else it needs ({looked})"
        else:
            yield f"{self.path}: nothing to run was found ({looked})"

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data for JSON."""
        return {
            "path": str(self.path),
            "runs": self.runs,
            "files": self.files,
            "pickles": self.pickles,
            "findings": [one.to_dict() for one in self.findings],
        }

    def to_sarif(self) -> dict[str, Any]:
        """All of it as SARIF 2.1.0."""
        return sarif(self.findings)


def scan(path: str | os.PathLike[str]) -> Scan:
    """Looks for what would run if another program loaded a file or a directory. Nothing of it is run here.

    Pickles in every container are followed opcode by opcode, hidden and trailing ones and those within others
    too; in a directory also code that `trust_remote_code` would run, templates, and links that lead out.

    Args:
        path: a file of any kind, or a directory.

    Raises:
        FormatError: it is not there, or cannot be read.

    Example:
        >>> list(wconv.scan("model.ckpt").lines())
        ['model.ckpt: nothing to run was found (1 file, 1 pickle looked at)']
    """
    place = Path(path)
    if not place.exists():
        raise FormatError(f"{place} does not exist")
    files, found = directory.look(place) if place.is_dir() else ([place], [])
    pickles = 0
    for file in files:
        name = str(file.relative_to(place)) if file != place else file.name
        try:
            for walked in _follow(FileSource(str(file)), name, 0):
                if isinstance(walked, Finding):
                    found.append(walked)
                else:
                    pickles += 1
                    found.extend(walked.findings)
        except (WconvError, OSError) as error:
            found.append(Finding("unreadable", "note", name, f"cannot be read: {error}"))
    found.sort(key=lambda one: (("danger", "code", "note").index(one.level), one.file, one.at))
    return Scan(place, len(files), pickles, tuple(found))


@dataclass(frozen=True, slots=True)
class Followed:
    """One pickle that was followed, and what it would do."""

    name: str
    walk: Walk
    findings: tuple[Finding, ...]


def _follow(source: Source, name: str, depth: int) -> Iterator[Followed | Finding]:
    for place in places(source):
        where = f"{name}:{place.name}" if place.name else name
        if isinstance(place, Oddity):
            yield Finding("container", "note", where, place.text)
        else:
            yield from _pickles(place, where, depth)


def _pickles(place: Place, where: str, depth: int) -> Iterator[Followed | Finding]:
    """The pickle that begins at a place, and those that follow it."""
    source, at = place.source, 0
    for number in range(PICKLES):
        start = source.read(at, min(8, source.size - at)) if at < source.size else b""
        if not may_be_pickle(start):
            return
        walked = walk(source, at)
        sure = start.startswith(b"\x80") or not walked.broken
        findings = tuple(_judged(walked, where))
        if walked.broken and (number or not sure) and not any(one.level == "danger" for one in findings):
            return
        if walked.broken:
            text = f"cannot be followed to its end ({walked.broken}): what stands before it would run"
            findings = (*findings, Finding("broken", "note", where, text, at))
        yield Followed(where, walked, findings)
        for begin, size in walked.nested:
            if depth == DEPTH:
                yield Finding(
                    "nested", "danger", where, "holds pickles within pickles beyond all measure", begin
                )
                return
            yield from _follow(source.part(begin, size), f"{where} (bytes at {begin:,})", depth + 1)
        at = walked.end


def _judged(walked: Walk, where: str) -> Iterator[Finding]:
    if walked.divergent:
        text = "an argument reaches beyond its frame: programs read on at different places"
        yield Finding("frame", "danger", where, text, walked.divergent[0])
    called = {call.path for call in walked.calls if call.arguments is not None}
    for call in walked.calls:
        level = level_of(call)
        if level == "harmless" or (call.arguments is None and call.path in called):
            continue
        arguments = call.arguments if call.arguments is not None else " (named only)"
        yield Finding(call.path, level, where, f"{call.path}{arguments}", call.at)


def followed(file: Path) -> Iterator[Followed]:
    """All pickles of a file, also those within others, and what each would do.

    Raises:
        FormatError: the file cannot be read.
    """
    for walked in _follow(FileSource(str(file)), file.name, 0):
        if isinstance(walked, Followed):
            yield walked


def disassembled(path: str | os.PathLike[str]) -> Iterator[str]:
    """The programs of a file's pickles, one opcode a line: where, which, with what.

    Raises:
        FormatError: the file is not there, or cannot be read.
    """
    place = Path(path)
    if not place.is_file():
        raise FormatError(f"{place} is not a file: name one of its files to disassemble")
    for part in places(FileSource(str(place))):
        if isinstance(part, Oddity):
            yield f"{part.name or place}: {part.text}"
        else:
            yield from _program(part, part.name or place.name)


def _program(part: Place, name: str) -> Iterator[str]:
    at = 0
    while at < part.source.size and may_be_pickle(part.source.read(at, min(8, part.source.size - at))):
        steps: list[Step] = []
        walked = walk(part.source, at, steps.append)
        if walked.broken and at:
            return
        yield f"{name}: pickle at byte {at:,}"
        yield from (f"{step.at:>10} {step.name:16} {step.argument}" for step in steps)
        if walked.broken:
            yield f"  {walked.broken}"
        at = walked.end
