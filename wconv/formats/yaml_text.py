"""The part of YAML in which programs write settings down: mappings, lists and scalars, one to a line.

Anchors, tags, merges and texts of several lines are no part of it: what holds them stays text.
"""

from __future__ import annotations

import re
from typing import Any

LIMIT = 1 << 20
"""Characters of a text that is read."""

DEPTH = 50
"""Mappings and lists within others."""

LINE = re.compile(
    r"( *)((?:- )*)(?:([A-Za-z_][\w.\-/ ]{0,200}|'[^']{0,200}'|\"[^\"\\]{0,200}\"):(?: +|$))?(.*)"
)
NUMBER = re.compile(
    r"[-+]?(?:\d{1,18}|(?:\d{1,18}\.\d{0,18}|\.\d{1,18}|\d{1,18}(?=e))(?:e[-+]?\d{1,3})?)", re.IGNORECASE
)
WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}
NOT_READ = ("&", "*", "!", "|", ">", "<<", "%", "@", "`", "?")
"""How values begin that mean more than they say."""


class NotPlain(ValueError):  # noqa: N818
    """A text is not of this part of YAML."""


def parse(text: str) -> Any:
    """What a text says.

    Raises:
        NotPlain: it is not of this part of YAML, or too long or deep.
    """
    if len(text) > LIMIT:
        raise NotPlain("it is too long")
    lines: list[tuple[int, str, str]] = []
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith("#") or stripped in ("---", "..."):
            continue
        match = LINE.fullmatch(line.rstrip())
        if match is None or (match[3] is None and match[4][:1] in (" ", "\t")):
            raise NotPlain(stripped[:80])
        indent, key = len(match[1]), match[3]
        for _ in range(len(match[2]) // 2):
            # an entry of a list stands as deep as what follows its dash
            lines.append((indent, "-", ""))
            indent += 2
        if key is None and match[4] == "-":
            lines.append((indent, "-", ""))
            continue
        lines.append((indent, "" if key is None else _key(key), match[4]))
    value, at = _block(lines, 0, 0)
    if at != len(lines):
        raise NotPlain(f"line {at} is indented otherwise")
    return value


def _key(text: str) -> str:
    return f"{text[1:-1]}:" if text[:1] in "'\"" else f"{text}:"


def _block(lines: list[tuple[int, str, str]], at: int, depth: int) -> tuple[Any, int]:
    """The value that begins at a line, and the line after it."""
    if depth > DEPTH:
        raise NotPlain("it is too deep")
    if at >= len(lines):
        return None, at
    indent, kind, rest = lines[at]
    if kind == "":
        return _scalar(rest), at + 1
    if kind == "-":
        entries: list[Any] = []
        while at < len(lines) and lines[at][:2] == (indent, "-"):
            at += 1
            if at < len(lines) and lines[at][0] > indent:
                value, at = _block(lines, at, depth + 1)
            else:
                value = None
            entries.append(value)
        return entries, at
    found: dict[str, Any] = {}
    while at < len(lines) and lines[at][0] == indent and lines[at][1].endswith(":"):
        key, rest = lines[at][1][:-1], lines[at][2]
        at += 1
        below = at < len(lines) and (lines[at][0] > indent or lines[at][:2] == (indent, "-"))
        if key in found or (rest and not rest.startswith("#") and at < len(lines) and lines[at][0] > indent):
            raise NotPlain(key[:80])
        if below and (not rest or rest.startswith("#")):
            found[key], at = _block(lines, at, depth + 1)
        else:
            found[key] = _scalar(rest)
    return found, at


def _scalar(text: str) -> Any:
    """A number, a word, a text, or a list or mapping of those on one line."""
    text = text.strip()
    if text[:1] == "'" or text[:1] == '"':
        end = text.find(text[0], 1)
        if end < 0 or "\\" in text or text[end + 1 :].strip()[:1] not in ("", "#"):
            raise NotPlain(text[:80])
        return text[1:end]
    text = re.split(r"(?:^| )#", text, maxsplit=1)[0].strip()
    if text.startswith(NOT_READ):
        raise NotPlain(text[:80])
    if text[:1] == "[" and text[-1:] == "]":
        inner = text[1:-1].strip()
        if "[" in inner or "{" in inner:
            raise NotPlain(text[:80])
        return [_scalar(part) for part in inner.split(",")] if inner else []
    if text == "{}":
        return {}
    if text[:1] in ("[", "{"):
        raise NotPlain(text[:80])
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    if NUMBER.fullmatch(text):
        return int(text) if text.lstrip("+-").isdigit() else float(text)
    return text
