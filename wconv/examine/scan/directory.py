"""What a model directory would have run: its own code, its templates, and where its links lead."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wconv.examine.scan.findings import Finding

MOST_FILES = 20_000
"""Files of a directory that are looked at."""

MOST_TEXT = 16 << 20
"""Bytes of a JSON file or a template that are read."""

SKIPPED = (".git", ".cache", "__pycache__")

ODD = re.compile(
    r"__\w+__|\b(?:os|sys|subprocess|popen|builtins|eval|exec|import_module|lipsum|cycler|joiner|globals)\b\s*[\.\(\[]"
    r"|\|\s*attr\b|\bself\._|\brequest\b|\bget_flashed_messages\b"
)
"""What templates of chats have no use for, and what takes one out of Jinja's sandbox."""

DATA = (".safetensors", ".gguf", ".png", ".jpg", ".jpeg", ".md", ".txt", ".json", ".jinja", ".py", ".model")
"""Suffixes of files that hold no pickle; JSON and templates are looked at for what they say."""


def look(root: Path) -> tuple[list[Path], list[Finding]]:
    """The files in which pickles may be, and what the directory says beside them."""
    files: list[Path] = []
    findings: list[Finding] = []
    named: set[str] = set()
    scripts: list[str] = []
    for count, path in enumerate(_walk(root)):
        if count == MOST_FILES:
            findings.append(
                Finding(
                    "many files", "note", root.name, f"more than {MOST_FILES:,} files: the rest was not seen"
                )
            )
            break
        name = str(path.relative_to(root))
        if path.is_symlink() and not _stays(path, root):
            target = os.readlink(path)
            findings.append(
                Finding("link", "note", name, f"is a link out of the directory, to {target[:150]}")
            )
        if not path.is_file():
            continue
        if path.suffix == ".py":
            scripts.append(name)
        elif path.suffix == ".json":
            findings.extend(_config(path, name, named))
        elif path.suffix == ".jinja":
            findings.extend(_template(_text(path), name))
        if path.suffix not in DATA:
            files.append(path)
    for name in scripts:
        reason = (
            "is run where trust_remote_code allows it: config.json names it"
            if name in named
            else "is code; no file of the directory asks for it"
        )
        findings.append(Finding("python file", "code" if name in named else "note", name, reason))
    return files, findings


def _walk(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(one for one in folders if one not in SKIPPED)
        for name in sorted(names):
            yield Path(folder, name)


def _stays(path: Path, root: Path) -> bool:
    """Whether a link leads into the directory, or to the blobs of the hub's cache that it belongs to."""
    try:
        target = path.resolve()
    except (OSError, RuntimeError):
        return False
    home = root.resolve()
    blobs = home.parent.parent / "blobs"
    return target.is_relative_to(home) or (home.parent.name == "snapshots" and target.is_relative_to(blobs))


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(MOST_TEXT).decode("utf-8", "replace")


def _config(path: Path, name: str, named: set[str]) -> Iterator[Finding]:
    try:
        value = json.loads(_text(path)) if path.stat().st_size <= MOST_TEXT else None
    except (ValueError, RecursionError):
        return
    for key, item in _items(value):
        if key == "auto_map" and isinstance(item, dict):
            classes = [text for one in item.values() for text in (one if isinstance(one, list) else [one])]
            for text in classes:
                if isinstance(text, str):
                    module = text.rpartition("--")[2].rpartition(".")[0]
                    named.add(module.replace(".", "/") + ".py")
                    yield Finding("auto_map", "code", name, f"trust_remote_code would run {text[:150]}")
        elif key == "model_file" and isinstance(item, str) and item and name.endswith("config.json"):
            named.add(item)
            text = f"programs run {item[:150]} to load the model, some of them without asking"
            yield Finding("model_file", "danger", name, text)
        elif key in ("chat_template", "template") and isinstance(item, str):
            yield from _template(item, name)


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key of JSON with its value, however deep."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            for key, item in one.items():
                yield str(key), item
                left.append(item)
        elif isinstance(one, list):
            left.extend(one[:100_000])


def _template(text: str, name: str) -> Iterator[Finding]:
    found = sorted({match[0].strip() for match in ODD.finditer(text)})
    if found:
        yield Finding("template", "danger", name, f"a chat template uses {', '.join(found)[:200]}")
