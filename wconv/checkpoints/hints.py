"""What to do about a source that is not there: people type hub ids and addresses where paths belong."""

from __future__ import annotations

import re
from pathlib import Path

from wconv.formats import registry

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
ADDRESS = re.compile(r"(?:[a-z][a-z0-9+]*):/{1,2}", re.IGNORECASE)


def missing_source(path: Path) -> str:
    """The sentence for a path at which there is nothing."""
    text = str(path)
    if ADDRESS.match(text):
        return f"{text} is an address, and wconv reads files: download it first"
    files = (*registry.suffixes(), *registry.FOREIGN, ".json")
    if HUB_ID.fullmatch(text) and not text.lower().endswith(files) and not path.parent.is_dir():
        name = path.name
        return (
            f"{text} does not exist here; if it is a model on the hub, get it first:"
            f" hf download {text} --local-dir {name} && wconv {name}"
        )
    hint = "" if path.parent.is_dir() else f" (there is no directory {path.parent})"
    return f"{text} does not exist{hint}"
