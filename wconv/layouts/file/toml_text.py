"""TOML from files: bounded in depth, in its numbers and in the parts of its keys, before it is parsed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from wconv.errors import FormatError, LayoutError
from wconv.layouts.file.toml_lines import TOKEN
from wconv.stores.files import SourceFile

MAX_BYTES = 1 << 20

DEEPEST = 20
"""Lists and tables within each other at most."""

MOST_PARTS = 20
"""Parts of a dotted key at most: the parser goes over them once for each."""

LONGEST_NUMBER = 64
"""Characters of a number at most."""


def read(path: str | Path) -> str:
    """The text of a rules file.

    Raises:
        LayoutError: it cannot be read, is no regular file, is no text, or too long for what it is.
    """
    try:
        file = SourceFile(str(path))
        if file.size > MAX_BYTES:
            raise LayoutError(f"{path} is longer than {MAX_BYTES:,} bytes, which no rules file is")
        raw = file.read(0, file.size)
        return raw.decode()
    except FormatError as error:
        raise LayoutError(str(error)) from None
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise LayoutError(f"{path}:{line}: not UTF-8 text") from None


def parse(text: str, where: str) -> dict[str, Any]:
    """What a TOML text holds.

    Raises:
        LayoutError: naming the line where it is no TOML, or beyond all measure.
    """
    _check_bounds(text, where)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)", str(error))
        line = int(found[1]) if found and found[1] else len(text.splitlines()) or 1
        message = str(error)[: found.start()] if found else str(error)
        raise LayoutError(f"{where}:{line}: {message[:1].lower()}{message[1:]}") from None
    except ValueError as error:
        raise LayoutError(f"{where}: {error!s:.120}") from None
    except RecursionError:
        raise LayoutError(f"{where}: nested too deeply") from None


def _check_bounds(text: str, where: str) -> None:
    depth, line, dots = 0, 1, 0
    for token in TOKEN.findall(text):
        if token in ("[", "{"):
            depth += 1
        elif token in ("]", "}"):
            depth = max(depth - 1, 0)
        if token[0] in "[]{}=,\n#":
            dots = 0
        elif token[0] not in "\"'":
            dots += token.count(".")
        if depth > DEEPEST:
            raise LayoutError(f"{where}:{line}: nested too deeply: more than {DEEPEST} lists and tables")
        if dots >= MOST_PARTS:
            raise LayoutError(f"{where}:{line}: a key has {MOST_PARTS} parts at most")
        if len(token) > LONGEST_NUMBER and token[0] in "+-0123456789":
            raise LayoutError(f"{where}:{line}: {token:.20}… is a number of {len(token):,} characters")
        line += token.count("\n")
