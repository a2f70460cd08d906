"""On which lines of a TOML text its keys and rules stand, which the parser does not tell."""

from __future__ import annotations

import re

TOKEN = re.compile(
    # a text without an end goes on to the end of the line or the file: nothing is looked at twice
    r'"""(?:\\.|[^\\])*?(?:"""|\Z)|\'\'\'.*?(?:\'\'\'|\Z)|"(?:\\.|[^"\\\n])*"?|\'[^\'\n]*\'?'
    r'|#[^\n]*|[\[\]{}=\n,]|[^\s\[\]{}=,#"\']+',
    re.DOTALL,
)


class Lines:
    """Lines of a valid TOML text's top-level keys, of the tables in its lists, and of these tables' keys."""

    def __init__(self, text: str) -> None:
        self._lines: dict[tuple[str, int, str], int] = {}
        self._counts: dict[str, int] = {}
        self._section, self._at = "", -1
        depth, line, before, start = 0, 1, "", True
        opened: list[str] = []
        for token in TOKEN.findall(text):
            if depth == 0 and start and token == "[":
                self._section, self._at = "[", -1
            elif self._section == "[" and token not in "[]=\n":
                self._table(token, line)
            elif token == "=" and depth == 0:
                name = before.strip("\"'")
                if self._at >= 0:
                    self._lines.setdefault((self._section, self._at, name), line)
                else:
                    self._section = name
                    self._lines.setdefault((name, -1, ""), line)
            elif token == "=" and opened == ["[", "{"]:
                at = self._counts[self._section] - 1
                self._lines.setdefault((self._section, at, before.strip("\"'")), line)
            elif token == "{" and opened == ["["] and self._at < 0:
                self._rule(self._section, line)
            if token in ("[", "{"):
                opened.append(token)
            elif token in ("]", "}") and opened:
                opened.pop()
            depth = len(opened)
            start = token == "\n" or (start and token.startswith("#"))
            before = token
            line += token.count("\n")

    def _table(self, name: str, line: int) -> None:
        """The name in `[[name]]`."""
        self._section = name.strip("\"'")
        self._rule(self._section, line)
        self._at = self._counts[self._section] - 1

    def _rule(self, section: str, line: int) -> None:
        at = self._counts.get(section, 0)
        self._counts[section] = at + 1
        self._lines[section, at, ""] = line

    def of(self, section: str, at: int = -1, key: str = "") -> int:
        """The line of a top-level key, of a table in its list, or of a key in that; the nearest known."""
        for place in ((section, at, key), (section, at, ""), (section, -1, "")):
            if place in self._lines:
                return self._lines[place]
        return self._lines.get((section, 0, ""), 1)
