"""What to do about a source that is not there: people type hub ids and addresses where paths belong."""

from __future__ import annotations

import re
from pathlib import Path

from wconv.formats import registry

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
ADDRESS = re.compile(r"(?:[a-z][a-z0-9+]*):/{1,2}", re.IGNORECASE)


def may_be_on_the_hub(text: str) -> bool:
    """Whether a path at which there is nothing reads like a model of the hub, and like no file here."""
    files = (*registry.suffixes(), *registry.FOREIGN, ".json")
    is_file = text.lower().endswith(files) or Path(text).parent.is_dir()
    return bool(HUB_ID.fullmatch(text)) and not is_file


def missing_source(path: Path) -> str:
    """The sentence for a path at which there is nothing."""
    text = str(path)
    if ADDRESS.match(text):
        return f"{text} is no address that is read: https://…, http://… and hf://… are, as strings"
    hint = "" if path.parent.is_dir() else f" (there is no directory {path.parent})"
    return f"{text} does not exist{hint}"
