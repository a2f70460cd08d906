"""The documentation that the package carries: Markdown pages, read from the installed files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files

from wconv.errors import WconvError


def topics() -> dict[str, str]:
    """Each page's name and title, in the order of the names."""
    folder = files("wconv") / "docs"
    names = sorted(entry.name.removesuffix(".md") for entry in folder.iterdir() if entry.name.endswith(".md"))
    return {name: page(name).partition("\n")[0].removeprefix("# ") for name in names}


def page(topic: str) -> str:
    """The Markdown text of a page.

    Raises:
        WconvError: there is no such page; those that there are are named.
    """
    folder = files("wconv") / "docs"
    if re.fullmatch(r"[a-z-]+", topic):
        entry = folder / f"{topic}.md"
        if entry.is_file():
            return entry.read_text(encoding="utf-8")
    known = sorted(one.name.removesuffix(".md") for one in folder.iterdir() if one.name.endswith(".md"))
    raise WconvError(f"there is no page {topic!r}: one of {', '.join(known)}")


def rendered(text: str) -> Iterator[str]:
    """Markdown as lines for a terminal: headings and code stand out, the marks themselves are gone.

    The escape sequences are left out by `click.echo` where the output is no terminal.
    """
    in_code = False
    for line in text.splitlines():
        if line.startswith("<!--"):
            continue
        if line.startswith("```"):
            in_code = not in_code
        elif in_code:
            yield f"    \x1b[36m{line}\x1b[0m"
        elif heading := re.match(r"(#+) (.*)", line):
            yield f"\x1b[1m{heading[2].upper() if len(heading[1]) == 1 else heading[2]}\x1b[0m"
        else:
            bold = re.sub(r"\*\*(.+?)\*\*", "\x1b[1m\\1\x1b[0m", line)
            yield re.sub(r"`([^`]+)`", "\x1b[36m\\1\x1b[0m", bold)
