"""What is wrong with a directory, and what mends it."""

from __future__ import annotations

import re
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Level = Literal["error", "wrong", "note"]
"""error: the program does not load it; wrong: it does not, or what it loads is not the model; note."""

LEVELS: tuple[Level, ...] = ("error", "wrong", "note")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that a program will stumble over.

    Attributes:
        check: what was looked at, in a word.
        level: what comes of it.
        file: of which file it is told.
        text: what is wrong, as a clause.
        command: mends it, to be typed as it stands; "" where no command does.
        edit: mends it, as a sentence, where no command does; "" where nothing is known to.
    """

    check: str
    level: Level
    file: str
    text: str
    command: str = ""
    edit: str = ""

    def to_dict(self) -> dict[str, str]:
        """Its fields by name, for JSON."""
        return asdict(self)


def converting(directory: Path) -> str:
    """The command that makes a directory anew, beside the old one."""
    return f"wconv {shlex.quote(str(directory))} -o {shlex.quote(f'{directory}-MLX')}"


def putting_aside(directory: Path, name: str) -> str:
    """The command that moves a file to where no program looks for it."""
    aside, file = shlex.quote(str(directory / "unused")), shlex.quote(str(directory / name))
    return f"mkdir -p {aside} && mv -- {file} {aside}/"


def fetching(directory: Path, *names: str) -> dict[str, str]:
    """How to get files that are missing: from the hub where the directory is of its cache, else by hand."""
    found = CACHED.search(str(directory.absolute()))
    if found is not None:
        model = f"{found['owner']}/{found['name']}"
        return {"command": f"hf download {model} {' '.join(names)} --revision {found['revision']}"}
    return {"edit": f"copy {' and '.join(names)} into {directory} from where the weights come from"}


CACHED = re.compile(
    r"/models--(?P<owner>[\w.-]+?)--(?P<name>[\w.-]+)/snapshots/(?P<revision>[0-9a-f]{40})/?$"
)
"""Directories of the hub's cache."""
